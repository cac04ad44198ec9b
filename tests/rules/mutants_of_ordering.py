"""What A1-A10 forbid, one double each."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from sequencer.core import Core
from sequencer.messages import Broadcast, LsnRange, Nack, Status, Token
from sequencer.quorum import majority, quorum_end
from sequencer.requests import RequestBuffer
from sequencer.rules import Rules
from sequencer.types import Change, Entry, Incarnation, Ordered, Request, Sequence, View, ViewNumber
from sequencer.window import LogWindow
from tests.rules.doubles import gets_wrong

UNBOUNDED = 1 << 40
Waits = Callable[[Change], bool]


class OtherBuffer(Core):
    """A core whose buffer of requests is another class."""

    buffer_type: type[RequestBuffer] = RequestBuffer

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        config = self.config
        self.buffer = self.buffer_type(config.sender_requests_max, config.own_bytes_max + config.request_bytes_max)


# ---------------------------------------------------------------------- A1, A2


@gets_wrong("A1 never publishes again")
class NoResend(Core):
    def on_resend_timer(self) -> None:
        return


@gets_wrong("A1 forgets a request once it is published")
class ForgetsOwn(Core):
    def submit(self, frames: tuple[bytes, ...], change: Change | None = None) -> None:
        super().submit(frames, change)
        self.own.delivered(self.own.newest_lsn)


@gets_wrong("A1 does not hear of the newest lsn")
class DeafForNewest(Core):
    def take_status(self, sender: int, status: Status) -> None:
        super().take_status(sender, status._replace(newest_lsn=0))


@gets_wrong("A2 any order on store")
class AnyLsn(Rules):
    def follows_in_lsn_order(self, first_lsn: int, incarnation: Incarnation, ordered: Ordered | None) -> bool:
        return True


class _AnyOrderBuffer(RequestBuffer):
    def eligible(
        self, senders: Mapping[int, Ordered], requests_max: int, bytes_max: int, waits: Waits
    ) -> list[list[Request]]:
        return [[known.by_lsn[min(known.by_lsn)]] for known in self._senders.values() if known.by_lsn]


@gets_wrong("A2 any order when sequencing")
class SequencesAnyLsn(OtherBuffer):
    buffer_type = _AnyOrderBuffer


@gets_wrong("A2 an older incarnation again")
class OldIncarnations(Rules):
    def follows_in_lsn_order(self, first_lsn: int, incarnation: Incarnation, ordered: Ordered | None) -> bool:
        old = ordered is not None and incarnation < ordered.incarnation
        return (old and first_lsn == 1) or super().follows_in_lsn_order(first_lsn, incarnation, ordered)


@gets_wrong("A2 table stays after a cut")
class TableStays(Core):
    def cut(self, end: int) -> None:
        table = dict(self.window.senders)
        super().cut(end)
        self.window.senders = table


# ---------------------------------------------------------------------- A3, A4


@gets_wrong("A3 sequences without the prefix")
class NoPrefix(Core):
    def hold(self, token: Token) -> None:
        super().hold(token._replace(slot=self.window.end))


class _AnyContentBuffer(RequestBuffer):
    def find(self, entry: Entry) -> tuple[Request, ...] | None:
        found = [self.get(entry.sender, entry.incarnation, lsn) for lsn in range(entry.first_lsn, entry.last_lsn + 1)]
        return tuple(request for request in found if request is not None) if all(found) else None


@gets_wrong("A3 stores whatever has the lsn")
class AnyContent(OtherBuffer):
    buffer_type = _AnyContentBuffer


class _OneAtATimeBuffer(RequestBuffer):
    def eligible(
        self, senders: Mapping[int, Ordered], requests_max: int, bytes_max: int, waits: Waits
    ) -> list[list[Request]]:
        return super().eligible(senders, 1, bytes_max, waits)


@gets_wrong("A3 one request a visit")
class OneAtATime(OtherBuffer):
    buffer_type = _OneAtATimeBuffer


@gets_wrong("A3 a slot for each request")
class NeverGathers(Core):
    def is_time_for_a_slot(self) -> bool:
        return True


@gets_wrong("A3 waits for its own disk alone")
class WaitsForItsDisk(Core):
    def is_time_for_a_slot(self) -> bool:
        return self.window.end == self.counted_end


@gets_wrong("A4 keeps the token")
class KeepsToken(Core):
    def pass_token(self, view: View) -> None:
        if self.token is not None:
            self.hold(self.token._replace(slot=self.window.end))


@gets_wrong("A4 parks for ever")
class ParksForEver(Core):
    def on_idle_hop_timer(self) -> None:
        return


@gets_wrong("A4 rotates when idle")
class BusyRotation(Core):
    def hold(self, token: Token) -> None:
        super().hold(token)
        self.set_timer("idle_hop", 1)


# ---------------------------------------------------------------------- A5


@gets_wrong("A5 quorum minus one")
class QuorumMinusOne(Rules):
    def commit_quorum(self, members: Collection[int], ring: Collection[int]) -> int:
        return super().commit_quorum(members, ring) - 1


@gets_wrong("A5 quorum of the ring")
class QuorumOfTheRing(Rules):
    def commit_quorum(self, members: Collection[int], ring: Collection[int]) -> int:
        return len(ring) // 2 + 1


@gets_wrong("A5 ACKs of older views")
class AnyAck(Rules):
    def counts_ack(self, status: Status, installed: ViewNumber) -> bool:
        return True


@gets_wrong("A5 learners do not count")
class RingOnly(Core):
    def advance_commit(self) -> None:
        view = self.installed
        if view is not None and self.takes_part:
            self.acked[self.me] = self.acknowledged()
            end = quorum_end({m: self.acked.get(m, 0) for m in view.ring}, self.members, majority(self.members))
            self.commit = max(self.commit, min(end, self.stored))
        self.deliver()


@gets_wrong("A5 commit of another view")
class AnyCommit(Rules):
    def believes_commit(self, sent_in: ViewNumber, installed: ViewNumber) -> bool:
        return True


@gets_wrong("A5 commit beyond what is stored")
class CommitBeyondStored(Core):
    def believe_commit(self, sent_in: object, commit: int) -> None:
        super().believe_commit(sent_in, commit)
        if self.installed is not None:
            self.commit = max(self.commit, commit)


@gets_wrong("A5 delivers before commit")
class DeliversStored(Core):
    def deliver(self) -> None:
        self.commit = max(self.commit, self.stored)
        super().deliver()


# ---------------------------------------------------------------------- A6, A7


@gets_wrong("A6 takes tokens after a restart")
class TokensAfterRestart(Rules):
    def takes_tokens(self, installed_now: bool) -> bool:
        return True


@gets_wrong("A6 any hop")
class AnyHop(Rules):
    def token_is_newer(self, hop: int, accepted_hop: int) -> bool:
        return True


@gets_wrong("A6 a token of another view")
class AnyTokenView(Core):
    def on_token(self, sender: int, token: Token) -> None:
        super().on_token(sender, token._replace(view=self.view.number) if self.view else token)


@gets_wrong("A6 out of turn")
class OutOfTurn(Core):
    def on_token(self, sender: int, token: Token) -> None:
        ring = self.view.ring if self.view else (self.me,)
        ours = next(hop for hop in range(token.hop, token.hop + len(ring)) if ring[hop % len(ring)] == self.me)
        super().on_token(sender, token._replace(hop=ours))


@gets_wrong("A6 does not resend the token")
class PassesOnce(Core):
    def on_token_resend_timer(self) -> None:
        return


@gets_wrong("A6 sees no proof of arrival")
class SeesNoProof(Core):
    def see_hop(self, hop: int) -> None:
        return


@gets_wrong("A7 the token brings no entries")
class BareToken(Core):
    def on_token(self, sender: int, token: Token) -> None:
        super().on_token(sender, token._replace(sequences=()))


@gets_wrong("A7 the token carries no entries")
class SendsBareToken(Core):
    def send(self, to: int, message: Any) -> None:
        super().send(to, message._replace(sequences=()) if isinstance(message, Token) else message)


@gets_wrong("A7 a frame for each")
class TwoFrames(Core):
    def publish_sequence(self, sequence: Sequence) -> None:
        self.send_all(Broadcast(self.own_status(self.accepted_hop), (), (sequence,)))


# ---------------------------------------------------------------------- A8, A9, A10


@gets_wrong("A8 asks for nothing")
class AsksForNothing(Core):
    def on_nack_timer(self) -> None:
        return


@gets_wrong("A8 asks without back-off")
class AsksAtOnce(Core):
    def on_nack_timer(self) -> None:
        super().on_nack_timer()
        self.set_timer("nack", self.config.nack_delay_ms)


@gets_wrong("A8 answers without limit")
class NoBudget(Core):
    def within_budget(self, member: int) -> bool:
        return True


@gets_wrong("A8 answers for any view")
class AnswersAnyView(Core):
    def on_nack(self, sender: int, nack: Nack) -> None:
        super().on_nack(sender, replace(nack, view=self.view.number) if self.view else nack)


@gets_wrong("A8 answers nothing")
class AnswersNothing(Core):
    def find_requests(self, wanted: LsnRange) -> list[Request]:
        return []

    def on_nack(self, sender: int, nack: Nack) -> None:
        super().on_nack(sender, replace(nack, end_slot=0))


@gets_wrong("A8 view of a record")
class AnyRecordView(Rules):
    def may_store(self, sequence: Sequence, installed: View) -> bool:
        return sequence.slot >= installed.base


@gets_wrong("A8 keeps SEQUENCEs of the view before")
class KeepsSequences(Core):
    def reset_ordering(self) -> None:
        kept = self.sequences if hasattr(self, "sequences") else {}
        super().reset_ordering()
        self.sequences = kept


@gets_wrong("A9 slots beyond commit")
class NoSlotLimit(Core):
    def may_order_now(self, view: View) -> bool:
        return self.token is not None and self.token.slot == self.window.end


@gets_wrong("A9 outstanding without limit")
class NoRoomLimit(Core):
    def room(self) -> int:
        return UNBOUNDED


class _UncappedBuffer(RequestBuffer):
    def eligible(
        self, senders: Mapping[int, Ordered], requests_max: int, bytes_max: int, waits: Waits
    ) -> list[list[Request]]:
        return super().eligible(senders, UNBOUNDED, UNBOUNDED, waits)


@gets_wrong("A9 slots of any size")
class UncappedSlots(OtherBuffer):
    buffer_type = _UncappedBuffer


class _EndlessBuffer(RequestBuffer):
    def __init__(self, per_sender_max: int, per_sender_bytes_max: int) -> None:
        super().__init__(UNBOUNDED, UNBOUNDED)


@gets_wrong("A9 buffers without limit")
class EndlessBuffers(OtherBuffer):
    buffer_type = _EndlessBuffer


class _AnyChain(LogWindow):
    def links(self, sequence: Sequence) -> bool:
        return sequence.slot == self.end


@gets_wrong("A10 any chain")
class AnyChain(Core):
    def append(self, record: Any) -> bool:
        self.window.__class__ = _AnyChain
        return super().append(record)
