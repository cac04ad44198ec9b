"""What is to be measured, how often and how long; all limits of a run in one place."""

from dataclasses import dataclass, replace
from typing import Self

from bench.errors import BenchError

WINDOWS = (64, 256, 1_024, 4_096)
PEERS = ("nats", "etcd", "pysyncobj", "redis")
DURABILITIES = ("majority", "memory")
REPLICAS_MAX = 7


@dataclass(frozen=True, slots=True)
class Options:
    """One run. `seconds` and `count`: a workload ends with whichever comes first.

    `kills`: kill -9 of Ringcast's token holder, for each place of the client; `peer_kills`: of a peer's leader.
    `stops`: SIGSTOP of the token holder. `curve`: Ringcast with keys too. `extras`: also subscribers, idle, catch-up,
    memory and five replicas. After `run_minutes` nothing is begun any more: a whole run takes about 40.
    """

    replicas: int = 3
    payload: int = 100
    durability: str = "majority"
    against: tuple[str, ...] = PEERS
    repetitions: int = 3
    windows: tuple[int, ...] = WINDOWS
    count: int = 200_000
    seconds: float = 10.0
    one_count: int = 5_000
    one_seconds: float = 5.0
    tune_seconds: float = 1.5
    kills: int = 20
    peer_kills: int = 3
    stops: int = 5
    gap_seconds: float = 3.0
    peer_gap_seconds: float = 15.0
    gap_rate: int = 500
    idle_seconds: float = 5.0
    catch_up_mb: int = 256
    memory_messages: int = 10_000_000
    floor_count: int = 1_000
    extras: bool = True
    curve: bool = False
    run_minutes: int = 60

    def __post_init__(self) -> None:
        unknown = sorted(set(self.against) - set(PEERS))
        if unknown:
            raise BenchError(f"against {', '.join(unknown)}: the peers are {', '.join(PEERS)}")
        if self.durability not in DURABILITIES:
            raise BenchError(f"durability {self.durability!r}: use {' or '.join(DURABILITIES)}")
        if not 1 <= self.replicas <= REPLICAS_MAX:
            raise BenchError(f"{self.replicas} replicas: a ring has 1 to {REPLICAS_MAX}; use 3 or 5")
        if self.payload < 1 or self.repetitions < 1 or not self.windows:
            raise BenchError("payload and repetitions are at least 1, and there is at least one window")

    @property
    def quick(self) -> Self:
        """The same with counts that only show that everything works: its numbers mean nothing."""
        return replace(
            self,
            repetitions=1,
            windows=(256,),
            count=2_000,
            seconds=1.0,
            one_count=50,
            one_seconds=0.3,
            tune_seconds=0.2,
            kills=min(self.kills, 1),
            peer_kills=min(self.peer_kills, 1),
            stops=min(self.stops, 1),
            gap_seconds=0.5,
            peer_gap_seconds=8.0,
            idle_seconds=0.5,
            catch_up_mb=2,
            memory_messages=20_000,
            floor_count=20,
        )
