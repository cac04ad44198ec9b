"""A snapshot that is received (R15), and tables that are filled again by one, since a row of them is damaged (R24).

A row that does not fit its checksum makes the tables worthless, and nothing else: the log is whole, and so are term and
vote. So the member goes on voting and storing, applies, serves and leads nothing, and asks the leader for a snapshot;
what follows its place in the log here is applied again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicas.raft.messages import StateLost
from store.raft_contract import Base, Install, Staged

if TYPE_CHECKING:
    from replicas.raft.state import State


class Filling:
    """`distrusted`: why the tables are neither applied to, read nor led with; "": they are. `staged_durable`: chunks of
    the snapshot that is being received."""

    def __init__(self, state: State, distrusted: str) -> None:
        self.distrusted = distrusted
        self.staged_durable = 0
        self._state = state
        self._staging: tuple[str, int] = ("", 0)
        self._asked = float("-inf")

    # -------------------------------------------------------------- chunks

    def staged_of(self, snapshot: str) -> int:
        """How many chunks of a snapshot are here; another one than before begins at 0."""
        if self._staging[0] != snapshot:
            self._staging = (snapshot, 0)
            self.staged_durable = 0
        return self._staging[1]

    def stage(self, chunk: Staged) -> None:
        """Keep the next chunk."""
        count = chunk.index + 1
        self._staging = (chunk.snapshot, count)
        state = self._state
        state.pending.staged.append(chunk)
        state.after(state.touch(), lambda: self._staged(chunk.snapshot, count))

    def _staged(self, snapshot: str, count: int) -> None:
        if self._staging[0] == snapshot:
            self.staged_durable = max(self.staged_durable, count)

    def install(self, install: Install) -> None:
        """All chunks are here: they take the place of log and state (R15), or of the state alone (R24)."""
        state = self._state
        pending = state.pending
        pending.install = install
        self.distrusted = pending.distrust = ""
        if install.refill:
            state.counters["state_refilled"] += 1
            state.log.refill(install.base)
        else:
            pending.append.clear()
            pending.cut = None
            state.log.restart(install.base)
        self._staging = ("", 0)
        state.readable.append((pending.ticket, install.base.index))
        state.transport.connect(state.addresses)

    # -------------------------------------------------------------- damaged tables

    def distrust(self, why: str) -> None:
        """R24: a row of the tables is damaged. Durable, so that no restart believes them."""
        state = self._state
        if self.distrusted:
            return
        state.counters["state_damaged"] += 1
        self.distrusted = state.pending.distrust = why
        state.readable.clear()
        state.touch()
        state.lead_no_more()

    def ask(self, leader: int) -> None:
        """Once a heartbeat at most; while chunks come in the leader knows."""
        state = self._state
        now = state.loop.time()
        if self.distrusted and now - self._asked >= state.config.heartbeat_interval:
            self._asked = now
            state.send(leader, StateLost(state.term, state.log.base.index))

    def may_refill(self, base: Base) -> bool:
        """R24: the log here reaches from the snapshot's place on."""
        log = self._state.log
        return bool(self.distrusted) and log.base.index <= base.index and log.term_at(base.index) == base.term
