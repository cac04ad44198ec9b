"""Configuration of one bus replica: defaults < TOML file < environment RINGCAST_* < flags.

    # replica-1.toml
    cluster_name = "orders"
    id = 1
    data = "/var/lib/ringcast"
    bind_peer = "0.0.0.0:7101"        # ROUTER: what peers send to this member alone
    bind_pub = "0.0.0.0:7102"         # PUB: what it sends to all
    bind_client = "0.0.0.0:7103"      # ROUTER: clients
    bind_feed = "0.0.0.0:7104"        # PUB: the live feed for subscribers
    bind_http = "0.0.0.0:7105"        # /livez /readyz /metrics
    advertise_client = "10.0.0.1:7103"  # as clients reach it; the bound address unless given
    advertise_feed = "10.0.0.1:7104"

    # Every member, this one too: "host:peer port[:pub port]", pub = peer port + 1. Later the log says who is one (V12).
    [peers]
    1 = "10.0.0.1:7101"
    2 = "10.0.0.2:7101"
    3 = "10.0.0.3:7101:7102"

    [group]                           # any limit or timer of sequencer/config.py but `members`
    suspect_timeout_ms = 300

`RINGCAST_PEERS="1=replica-1:7101,2=replica-2:7101,3=replica-3:7101"` is a way to say [peers] too, and so is
`RINGCAST_PEERS="1..3=replica-{id}:7101"`; what holds for the
configuration of every role stands in settings.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from replicas import settings
from replicas.settings import Address, Loaded, StoredConfig, by_member, check_peers, host_and_ports
from sequencer.config import GroupConfig
from sequencer.errors import ConfigError as GroupError


class PeerAddress(NamedTuple):
    """Where a member's two peer sockets are reached."""

    host: str
    peer_port: int
    pub_port: int

    @property
    def peer_endpoint(self) -> str:
        """The ROUTER, for what is sent to this member alone."""
        return f"tcp://{self.host}:{self.peer_port}"

    @property
    def pub_endpoint(self) -> str:
        """The PUB, for what it sends to all."""
        return f"tcp://{self.host}:{self.pub_port}"


def _peers(value: Any) -> Any:
    """'1=host:port,2=...' or a table {id: 'host:port[:pub port]'} -> {id: PeerAddress}."""
    value = by_member(value)
    if not isinstance(value, Mapping):
        return value
    return {
        member: PeerAddress(*host_and_ports(address, "pub_port")) if isinstance(address, str) else address
        for member, address in value.items()
    }


Peers = Annotated[dict[int, PeerAddress], BeforeValidator(_peers)]

#: They may change in the file of a running replica (replicas/watching.py); every other key needs a restart.
RETENTION_KEYS = frozenset({"retention_bytes", "retention_age", "snapshot_slots", "snapshot_bytes"})


class BusConfig(StoredConfig):
    """One replica's configuration; made by `load`, never changed."""

    TABLE: ClassVar[str] = "group"

    ring: int = Field(default=0, ge=0, lt=1 << 32)
    peers: Peers
    bind_peer: Address = "127.0.0.1:7101"
    bind_pub: Address = "127.0.0.1:7102"
    bind_client: Address = "127.0.0.1:7103"
    bind_feed: Address = "127.0.0.1:7104"
    bind_http: Address = "127.0.0.1:7105"
    advertise_client: Address | None = None
    advertise_feed: Address | None = None
    durability: Literal["majority", "memory"] = "majority"
    retention_bytes: int = Field(default=8 << 30, ge=1 << 20)
    retention_age: int | None = Field(default=None, ge=1, description="seconds; none: by bytes only")
    snapshot_slots: int = Field(default=20_000, ge=1)
    snapshot_bytes: int = Field(default=1 << 30, ge=1 << 16)
    snapshot_chunk_bytes: int = Field(default=1 << 20, ge=1 << 12, le=16 << 20)
    check_invariants: bool = Field(default=False, description="check the core's invariants every second; costs time")
    group: dict[str, int] = Field(default_factory=dict)

    @field_validator("peers")
    @classmethod
    def _check_peers(cls, peers: dict[int, PeerAddress], info: ValidationInfo) -> dict[int, PeerAddress]:
        return check_peers(peers, info.data.get("id"))

    @field_validator("group")
    @classmethod
    def _check_group(cls, group: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        group = {name.lower(): value for name, value in group.items()}
        known = set(GroupConfig.__dataclass_fields__) - {"members", "durability"}
        unknown = sorted(set(group) - known)
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r}: expected one of {', '.join(sorted(known))}")
        if "peers" in info.data:
            _group(tuple(info.data["peers"]), group)
        return group

    @property
    def members(self) -> tuple[int, ...]:
        """The configured members' ids, ascending."""
        return tuple(self.peers)

    @property
    def group_config(self) -> GroupConfig:
        """The core's limits and timers."""
        return replace(_group(self.members, self.group), durability=self.durability)


def _group(members: tuple[int, ...], group: Mapping[str, Any]) -> GroupConfig:
    try:
        return replace(GroupConfig(members), **group)
    except GroupError as error:
        raise ValueError(str(error)) from None


def load(path: Path | None = None, flags: Mapping[str, Any] | None = None) -> Loaded[BusConfig]:
    """See `settings.load`."""
    return settings.load(BusConfig, path, flags)
