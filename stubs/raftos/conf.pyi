from collections.abc import Callable, Mapping
from typing import Any

class Configuration:
    heartbeat_interval: float
    step_down_missed_heartbeats: int
    election_interval_spread: float
    step_down_interval: float
    election_interval: tuple[float, float]
    on_leader: Callable[[], object]
    on_follower: Callable[[], object]
    cryptor: Any
    def __init__(self) -> None: ...
    @staticmethod
    def default_settings() -> dict[str, Any]: ...
    def configure(self, kwargs: Mapping[str, Any]) -> None: ...

config: Configuration
configure: Callable[..., None]
