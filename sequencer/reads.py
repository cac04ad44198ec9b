"""K3: linearizable reads. Q members of the installed view say how far they have stored; then we apply that far."""

from dataclasses import dataclass, field

from sequencer.members_change import ChangeOfMembers
from sequencer.messages import Read, ReadOk
from sequencer.output import ReadReady
from sequencer.quorum import majority
from sequencer.types import ViewNumber


@dataclass(slots=True)
class _Round:
    """One READ: the nonces of all readers that share it, and the answers of its view."""

    nonces: list[int]
    view: ViewNumber
    stored: dict[int, int] = field(default_factory=dict)


class Reads(ChangeOfMembers):
    """Reads that arrive in one turn share a round; after an install in between it is asked again."""

    def init_reads(self) -> None:
        """Per-instance containers."""
        self.readers: list[int] = []  # asked, in no round yet
        self.rounds: dict[int, _Round] = {}

    def on_read_asked(self, nonce: int) -> None:
        """Someone wants to read."""
        self.readers.append(nonce)

    def start_reads(self) -> None:
        """At the end of a step: one round for all new readers, while a view is installed here."""
        if not self.readers and not self.rounds:
            return
        view = self.installed
        if view is None or not self.takes_part:
            return
        stale = [nonce for nonce, asked in self.rounds.items() if asked.view != view.number]
        for nonce in stale:
            self.readers.extend(self.rounds.pop(nonce).nonces)
        if self.readers:
            nonce = self.random.getrandbits(63)
            self.rounds[nonce] = _Round(self.readers, view.number, {self.me: self.acknowledged()})
            self.readers = []
            self.send_all(Read(nonce))
            self.arm_timer("read", self.config.read_interval_ms)
            self.answer_reads()

    def on_read_timer(self) -> None:
        """Ask again those that did not answer."""
        for nonce, asked in self.rounds.items():
            for member in self.others:
                if member not in asked.stored:
                    self.send(member, Read(nonce))
        if self.rounds:
            self.set_timer("read", self.config.read_interval_ms)

    def on_read(self, sender: int, message: Read) -> None:
        """Answer for the installed view; a wiped member answers nothing (V0)."""
        view = self.installed
        if view is not None and self.takes_part:
            self.send(sender, ReadOk(message.nonce, view.number, self.acknowledged()))

    def on_read_ok(self, sender: int, message: ReadOk) -> None:
        """Count an answer of the installed view."""
        asked = self.rounds.get(message.nonce)
        if asked is not None and asked.view == message.view:
            asked.stored[sender] = message.stored
            self.answer_reads()

    def answer_reads(self) -> None:
        """Q answers: the reader waits until its state machine has applied their maximum."""
        for nonce, asked in list(self.rounds.items()):
            if sum(member in asked.stored for member in self.members) >= majority(self.members):
                self.rule("K3")
                del self.rounds[nonce]
                slot = max(asked.stored.values())
                self.out.reads.extend(ReadReady(reader, slot) for reader in asked.nonces)
