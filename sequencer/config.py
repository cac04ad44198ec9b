"""Limits and timers of one group, in one validated value (A9): a bound on every queue, buffer and retry.

Where the defaults come from: a loop turn with a commit takes about 1 ms, a scheduler hiccup on a busy two-core
machine tens of ms; corosync waits 1,000 ms for a token, etcd 1,000 ms for a leader, RabbitMQ acts on the closed
connection at once. We act on the closed connection at once (V1) and wait 300 ms for silence.
"""

from dataclasses import dataclass
from typing import Literal

from sequencer.errors import ConfigError
from sequencer.quorum import majority

MEMBERS_MAX = 7
CLOCK_BOUND_MS_MAX = 3_600_000
MS = 1_000  # the core counts time in integer microseconds


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """Configuration that all members of a group share. Times in milliseconds, sizes in bytes or counts."""

    members: tuple[int, ...]
    durability: Literal["majority", "memory"] = "majority"
    heartbeat_interval_ms: int = 75
    ack_delay_ms: int = 5
    commit_delay_ms: int = 1
    idle_hop_interval_ms: int = 150
    resend_interval_ms: int = 40
    nack_delay_ms: int = 5
    nack_backoff_max_ms: int = 200
    nack_budget_per_second: int = 200
    suspect_timeout_ms: int = 300
    token_timeout_ms: int = 300
    promise_wait_ms: int = 20
    view_timeout_ms: int = 600
    propose_delay_ms: int = 60
    join_interval_ms: int = 100
    fetch_interval_ms: int = 50
    backfill_interval_ms: int = 50
    read_interval_ms: int = 50
    drain_timeout_ms: int = 5_000
    back_off_base_ms: int = 1_000
    back_off_max_ms: int = 30_000
    back_off_reset_ms: int = 60_000
    retention_grace_ms: int = 3_600_000
    clock_bound_ms: int = 5_000
    clock_interval_ms: int = 250
    clock_window_ms: int = 2_000
    clock_wait_ms: int = 1_000
    uncommitted_slots_max: int = 256
    uncommitted_bytes_max: int = 64 << 20
    slot_fill_bytes: int = 512 << 10
    slot_requests_max: int = 256
    slot_bytes_max: int = 2 << 20
    request_bytes_max: int = 16 << 20
    own_requests_max: int = 1_024
    own_bytes_max: int = 64 << 20
    sender_requests_max: int = 2_048
    window_slots: int = 512
    window_bytes: int = 32 << 20
    retransmit_bytes_max: int = 4 << 20
    catch_up_limit_slots: int = 256

    def __post_init__(self) -> None:
        """Check every bound and how the limits relate."""
        n = len(self.members)
        if not 1 <= n <= MEMBERS_MAX:
            raise ConfigError(f"members: {n} members named, the limit is 1 to {MEMBERS_MAX}")
        if list(self.members) != sorted(set(self.members)) or self.members[0] < 1 or self.members[-1] > 63:
            raise ConfigError(f"members: {self.members}: ids must be distinct, ascending, from 1 to 63")
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            least = 0 if name == "clock_wait_ms" else 1
            if name not in {"members", "durability"} and (not isinstance(value, int) or value < least):
                raise ConfigError(f"{name} = {value!r}: must be a whole number of at least {least}")
        if self.clock_bound_ms > CLOCK_BOUND_MS_MAX:
            raise ConfigError(
                f"clock_bound_ms = {self.clock_bound_ms}: must be at most {CLOCK_BOUND_MS_MAX} (one hour; "
                "a clock that is further off is to be mended)"
            )
        relations = (
            ("suspect_timeout_ms", 3 * self.heartbeat_interval_ms, "three heartbeats, or one lost frame suspects"),
            ("token_timeout_ms", 2 * self.resend_interval_ms, "two resends of the token"),
            ("view_timeout_ms", 2 * self.promise_wait_ms, "a view change needs two round trips"),
            ("clock_bound_ms", self.suspect_timeout_ms, "a frame that is late makes its sender's clock look late"),
            ("clock_window_ms", 4 * self.clock_interval_ms, "of four frames one is not late"),
            ("own_bytes_max", self.request_bytes_max, "one request must fit"),
            ("uncommitted_bytes_max", self.slot_bytes_max + self.request_bytes_max, "one slot must fit"),
        )
        for name, least, why in relations:
            if getattr(self, name) < least:
                raise ConfigError(f"{name} = {getattr(self, name)}: must be at least {least} ({why})")

    @property
    def quorum(self) -> int:
        """Q = floor(n/2) + 1 of the configured members, never of those that happen to be up."""
        return majority(self.members)
