"""Raft's promises (figure 3), watched from outside: each raises Violation as soon as it is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sequencer.simulator.checkers import Violation
from store.raft_contract import Entry, Kind, Write

if TYPE_CHECKING:
    from replicas.raft.log import Log
    from replicas.raft.simulator.disk import Disk


class Checker:
    """Sees every write, every applied entry, every leader and every answer."""

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}  # term -> member
        self.leader_changes = 0
        self.committed: dict[int, Entry] = {}  # by index; whoever applied it first
        self.end = 0  # the highest of them
        self._known_term: dict[int, int] = {}  # by index: a term in which it was committed already
        self._written: dict[tuple[int, int], tuple[Entry, int]] = {}  # (index, term) -> entry, term below

    def elected(self, member: int, term: int, log: Log) -> None:
        """Election safety, and leader completeness."""
        before = self.leaders.setdefault(term, member)
        if before != member:
            raise Violation("election safety", f"members {before} and {member} both lead term {term}")
        self.leader_changes += 1
        for index in range(max(log.base.index + 1, self.end - 200), self.end + 1):
            entry = self.committed.get(index)
            if entry is not None and self._known_term[index] < term and log.term_at(index) != entry.term:
                raise Violation(
                    "leader completeness",
                    f"member {member} leads term {term} up to {log.last} with term {log.term_at(index)} at {index}, "
                    f"where {entry} was committed by term {self._known_term[index]}",
                )

    def written(self, member: int, disk: Disk, write: Write) -> None:
        """Log matching: (index, term) names one content, and one predecessor."""
        for entry in write.append:
            below = disk.term_at(entry.index - 1)
            if below is None:
                continue  # trimmed by the same write
            known = self._written.setdefault((entry.index, entry.term), (entry, below))
            if known != (entry, below):
                raise Violation("log matching", f"member {member} wrote {entry} after term {below}, another {known}")

    def applied(self, member: int, entry: Entry, term: int) -> None:
        """State machine safety. `term`: the member's, so the entry was committed in it or before."""
        self._known_term[entry.index] = min(term, self._known_term.get(entry.index, term))
        known = self.committed.setdefault(entry.index, entry)
        if known != entry:
            raise Violation("state machine safety", f"member {member} applies {entry}, another applied {known}")
        self.end = max(self.end, entry.index)

    def ended(self, acknowledged: set[tuple[int, int]], commands: dict[bytes, tuple[int, int]]) -> None:
        """Every acknowledged command of a session is in the order."""
        order = {commands.get(entry.data) for entry in self.committed.values() if entry.kind is Kind.COMMAND}
        lost = acknowledged - order
        if lost:
            raise Violation("acknowledged never lost", f"commands (client, sequence) {sorted(lost)[:5]} are gone")
