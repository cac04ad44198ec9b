"""raftos' Configuration as an instance's own (R17, R23), with ours beside its settings; no secret, no cryptor (R20)."""

from collections.abc import Callable, Mapping
from typing import Any

from replicas.raft import library
from replicas.raft.errors import SettingRefused


def _nothing() -> None:
    """The default of the callbacks."""


class RaftConfiguration(library.Configuration):
    """Seconds, bytes and counts. raftos derives `step_down_interval` (the least election timeout; a leader that no
    quorum answers for so long steps down) and `election_interval` from the first three.

    The defaults are for one machine room: a round trip there takes a millisecond, and a stall of 300 ms is rare.
    """

    cryptor = None  # raftos would make one

    heartbeat_interval: float
    step_down_missed_heartbeats: int
    election_interval_spread: float
    on_leader: Callable[[], object]
    on_follower: Callable[[], object]
    #: How soon a follower asks for votes once the connection to its leader broke; drawn between the two.
    peer_lost_interval: tuple[float, float]
    #: One AppendEntries; a larger entry goes alone.
    append_bytes_max: int
    #: Entries on their way to one follower, beyond what it has acknowledged.
    inflight_bytes_max: int
    #: Commands on their way to their commit; beyond it they are refused.
    proposed_bytes_max: int
    command_bytes_max: int
    #: Entries that one write applies.
    apply_bytes_max: int
    #: Entries kept in memory for the followers.
    cache_bytes_max: int
    #: Applied entries kept behind, so that a short absence costs no snapshot; trimmed when twice as many are there.
    log_entries_kept: int
    #: A learner this close to the end of the log becomes a voter.
    catch_up_entries: int
    #: Chunks of a snapshot on their way.
    snapshot_window: int

    def __init__(self, **settings: object) -> None:
        """Raises SettingRefused for an unknown name or a value out of bounds."""
        super().__init__()
        unknown = settings.keys() - self.default_settings().keys()
        if unknown:
            raise SettingRefused(f"unknown settings of Raft: {', '.join(sorted(unknown))}")
        self.configure(settings)

    @staticmethod
    def default_settings() -> dict[str, Any]:
        """raftos' names first."""
        return {
            "heartbeat_interval": 0.05,
            "step_down_missed_heartbeats": 6,
            "election_interval_spread": 2,
            "on_leader": _nothing,
            "on_follower": _nothing,
            "peer_lost_interval": (0.001, 0.04),
            "append_bytes_max": 1 << 20,
            "inflight_bytes_max": 8 << 20,
            "proposed_bytes_max": 64 << 20,
            "command_bytes_max": 1 << 20,
            "apply_bytes_max": 1 << 20,
            "cache_bytes_max": 16 << 20,
            "log_entries_kept": 20_000,
            "catch_up_entries": 256,
            "snapshot_window": 4,
        }

    def configure(self, kwargs: Mapping[str, Any]) -> None:
        """Set some; raftos sets them and derives its intervals."""
        super().configure(kwargs)
        low, high = self.peer_lost_interval
        for holds, what in (
            (self.heartbeat_interval > 0, "heartbeat_interval must be above 0"),
            (self.step_down_missed_heartbeats >= 2, "step_down_missed_heartbeats must be at least 2"),
            (self.election_interval_spread > 1, "election_interval_spread must be above 1, or votes split for ever"),
            (0 <= low < high <= self.step_down_interval, "peer_lost_interval must lie within the election timeout"),
            (0 < self.command_bytes_max <= self.append_bytes_max, "command_bytes_max must fit append_bytes_max"),
            (self.append_bytes_max <= self.inflight_bytes_max, "append_bytes_max must fit inflight_bytes_max"),
            (self.command_bytes_max <= self.proposed_bytes_max, "command_bytes_max must fit proposed_bytes_max"),
            (min(self.apply_bytes_max, self.cache_bytes_max) > 0, "bounds in bytes must be above 0"),
            (self.log_entries_kept >= 0, "log_entries_kept must not be negative"),
            (self.catch_up_entries >= 0, "catch_up_entries must not be negative"),
            (self.snapshot_window >= 1, "snapshot_window must be at least 1"),
        ):
            if not holds:
                raise SettingRefused(what)
