"""The leader's side of a snapshot (R15): made when an answer asks for it, sent in a window of chunks, resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from replicas.raft.messages import InstallSnapshot, InstallSnapshotResponse
from replicas.raft.progress import Mode, Progress
from store.raft_contract import Snapshot

if TYPE_CHECKING:
    from replicas.raft.leader import Leader

#: A follower that answered nothing for so many heartbeats keeps no snapshot, and no log, waiting.
SILENT_BEATS_MAX = 40


class SnapshotSender:
    """One snapshot serves all followers that the log still reaches from its index."""

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._made: Snapshot | None = None
        self._making = False
        self._seen: dict[int, tuple[int, int, int]] = {}  # at the last beat: round, chunk_next, beats without an answer

    def begin(self, member: int, progress: Progress) -> None:
        """The follower's answer needs entries that were trimmed."""
        progress.send_snapshot()
        self._seen.pop(member, None)
        made = self._made
        if made is not None and made.base.index >= self._leader.log.base.index:
            progress.snapshot = made
            self._pump(member, progress)
        elif not self._making:
            self._making = True
            self._leader.state.store.make_snapshot(self._done)

    def refill(self, member: int, progress: Progress, base: int) -> None:
        """R24: the follower's tables are damaged; its log is not."""
        if progress.mode is Mode.SNAPSHOT and progress.refills:
            return
        if self._made is not None and self._made.base.index < base:
            self._made = None
        self.begin(member, progress)
        progress.refills = progress.mode is Mode.SNAPSHOT

    def _done(self, made: Snapshot | None) -> None:
        self._making = False
        leader = self._leader
        if leader.state.state is not leader:
            return
        self._made = made
        for member, progress in leader.progress.items():
            if progress.mode is Mode.SNAPSHOT and progress.snapshot is None:
                if made is None:
                    progress.probe(progress.next)
                else:
                    progress.snapshot = made
                    self._pump(member, progress)

    def _pump(self, member: int, progress: Progress) -> None:
        leader, made = self._leader, progress.snapshot
        if made is None:
            return
        state = leader.state
        while progress.chunk_sent < min(made.count, progress.chunk_next + state.config.snapshot_window):
            data = state.store.read_chunk(made.name, progress.chunk_sent)
            if data is None:  # a newer one took its place
                self._made = None
                progress.probe(progress.next)
                return
            index = progress.chunk_sent
            state.send(
                member,
                InstallSnapshot(state.term, state.id, made.name, made.base, made.count, index, data, leader.request_id),
            )
            progress.chunk_sent += 1

    def answered(self, member: int, progress: Progress, message: InstallSnapshotResponse) -> None:
        """Chunks arrived, or all of it is installed; a receiver that started anew asks from the first one again."""
        made = progress.snapshot
        if made is None or made.name != message.snapshot:
            return
        if message.next_index >= made.count:
            progress.fits(made.base.index)
            progress.probe(made.base.index + 1)
            self._leader.update_commit_index()
            return
        progress.chunk_next = message.next_index
        progress.chunk_sent = max(progress.chunk_sent, progress.chunk_next)
        self._pump(member, progress)

    def fits(self, progress: Progress) -> None:
        """The log reaches the follower after all."""
        if progress.mode is Mode.SNAPSHOT and not progress.refills and progress.match >= self._leader.log.base.index:
            progress.probe(progress.match + 1)

    def beat(self, member: int, progress: Progress) -> None:
        """With each heartbeat: send again what nothing was heard of."""
        if progress.mode is not Mode.SNAPSHOT:
            return
        round_, chunk_next, silent = self._seen.get(member, (0, -1, 0))
        silent = silent + 1 if progress.round == round_ else 0
        self._seen[member] = (progress.round, progress.chunk_next, silent)
        if silent > SILENT_BEATS_MAX:
            progress.probe(progress.next)
        elif progress.chunk_next == chunk_next:
            progress.chunk_sent = progress.chunk_next
            self._pump(member, progress)

    def needed_from(self) -> int | None:
        """The log must not be trimmed beyond this index; None: no snapshot is on its way."""
        wanted = [
            self._leader.log.base.index if progress.snapshot is None else progress.snapshot.base.index
            for progress in self._leader.progress.values()
            if progress.mode is Mode.SNAPSHOT
        ]
        return min(wanted, default=None)
