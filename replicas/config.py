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

Each key is also an environment variable: `RINGCAST_ID=1`, `RINGCAST_DATA=/data`,
`RINGCAST_PEERS="1=replica-1:7101,2=replica-2:7101,3=replica-3:7101"`, `RINGCAST_BIND_CLIENT=0.0.0.0:7103`,
`RINGCAST_GROUP__SUSPECT_TIMEOUT_MS=500` (two underscores reach into a table); `RINGCAST_CONFIG=/etc/ringcast.toml`
names the file. RINGCAST_CLUSTER is the command line's (which cluster to talk to) and no key of this file. Unknown keys
are refused wherever they stand; variables that Kubernetes makes for a service called `ringcast` are left alone.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import EnvSettingsSource

from sequencer.config import GroupConfig
from sequencer.errors import ConfigError as GroupError

PREFIX = "RINGCAST_"
#: Variables with our prefix that are not keys: the command line's, and the name of the file itself.
_NOT_KEYS = frozenset({"RINGCAST_CLUSTER", "RINGCAST_CONFIG"})
_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_\d+_(TCP|UDP)|$)")
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\s/]+):(?P<port>\d{1,5}|\*)")


class ConfigError(Exception):
    """A configuration is not valid. The text names each key, its value, the bound and where the value came from."""


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


def _address(value: str) -> str:
    found = _ADDRESS.fullmatch(value)
    if found is None or (found["port"] != "*" and int(found["port"]) > 65_535):
        raise ValueError("expected host:port with a port of 0 to 65535, or * for any free one")
    return value


def _peers(value: Any) -> Any:
    """'1=host:port,2=...' or a table {id: 'host:port[:pub port]'} -> {id: PeerAddress}."""
    if isinstance(value, str):
        rows = [row.partition("=") for row in value.split(",") if row.strip()]
        value = {member.strip(): address.strip() for member, _, address in rows}
    if not isinstance(value, Mapping):
        return value
    return {member: _peer(address) if isinstance(address, str) else address for member, address in value.items()}


def _peer(value: str) -> PeerAddress:
    host, _, ports = value.rpartition(":") if value.count(":") == 1 else _split_ports(value)
    first, _, second = ports.partition(":")
    if not host or not first.isdigit() or (second and not second.isdigit()):
        raise ValueError(f"{value!r}: expected host:port or host:port:pub_port")
    peer, pub = int(first), int(second) if second else int(first) + 1
    if not (0 < peer < 65_536 and 0 < pub < 65_536) or peer == pub:
        raise ValueError(f"{value!r}: expected two different ports of 1 to 65535")
    return PeerAddress(host, peer, pub)


def _split_ports(value: str) -> tuple[str, str, str]:
    found = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+):(\d+(?::\d+)?)", value)
    return (found[1], ":", found[2]) if found else ("", "", value)


Address = Annotated[str, AfterValidator(_address)]
Peers = Annotated[dict[int, PeerAddress], BeforeValidator(_peers)]


class BusConfig(BaseSettings):
    """One replica's configuration; made by `load`, never changed."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    cluster_name: str = Field(default="ringcast", min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    ring: int = Field(default=0, ge=0, lt=1 << 32)
    id: int = Field(ge=1, le=63)
    data: Path
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
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "json"] = "auto"
    check_invariants: bool = Field(default=False, description="check the core's invariants every second; costs time")
    group: dict[str, int] = Field(default_factory=dict)

    @field_validator("peers")
    @classmethod
    def _check_peers(cls, peers: dict[int, PeerAddress], info: ValidationInfo) -> dict[int, PeerAddress]:
        if not peers:
            raise ValueError("expected at least this member: 1=host:port,2=host:port,3=host:port")
        own = info.data.get("id")
        if own is not None and own not in peers:
            raise ValueError(f"id = {own} is not among the members {sorted(peers)}: add it, or correct id")
        return dict(sorted(peers.items()))

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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` gathered: it knows where each value came from."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


class _Environment(EnvSettingsSource):
    """The environment as pydantic-settings reads it, but `peers` may be the short '1=host:port,...' form."""

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        """JSON where it is JSON, the text itself where it is not."""
        if field_name == "peers":
            return value
        return super().decode_complex_value(field_name, field, value)


def _group(members: tuple[int, ...], group: Mapping[str, Any]) -> GroupConfig:
    try:
        return replace(GroupConfig(members), **group)
    except GroupError as error:
        raise ValueError(str(error)) from None


class Loaded(NamedTuple):
    """A configuration and, for each key that is not the default, where its value came from."""

    config: BusConfig
    sources: Mapping[str, str]


def load(path: Path | None = None, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Read, merge and validate. `flags` that are None were not given. Raises ConfigError."""
    if path is None and os.environ.get("RINGCAST_CONFIG"):
        path = Path(os.environ["RINGCAST_CONFIG"])
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    for source, found in (
        (f"file {path}", _file_values(path)),
        ("environment", _environment_values()),
        ("flag", given),
    ):
        for key, value in found.items():
            merge = key == "group" and isinstance(value, Mapping) and isinstance(values.get(key), Mapping)
            values[key] = {**values[key], **value} if merge else value
            sources[key] = f"environment {PREFIX}{key.upper()}" if source == "environment" else source
    try:
        return Loaded(BusConfig(**values), sources)
    except ValidationError as error:
        raise ConfigError(_sentence(error, sources)) from None


def _file_values(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"config file {path}: {error.strerror}: name a file that exists and can be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} is not TOML: {error}") from None


def _environment_values() -> dict[str, Any]:
    known = {PREFIX + name.upper() for name in BusConfig.model_fields}
    for name, value in os.environ.items():
        if not name.startswith(PREFIX) or name in known or name in _NOT_KEYS or _KUBERNETES.search(name):
            continue
        if not name.startswith(f"{PREFIX}GROUP__"):
            names = ", ".join(sorted(known))
            raise ConfigError(f"environment {name} = {value!r}: unknown key, expected one of {names}")
    try:
        found = _Environment(BusConfig)()
    except ValueError as error:
        raise ConfigError(f"environment: {error}") from None
    return {key: value for key, value in found.items() if key in BusConfig.model_fields}


def _sentence(error: ValidationError, sources: Mapping[str, str]) -> str:
    """One line for each bad key: key, value, bound, source."""
    lines = []
    for one in error.errors():
        path = [str(step) for step in one["loc"]]
        key = path[0] if path else "the configuration"
        source = sources.get(key, "not given: set it in the file, the environment or by flag")
        value = "" if one["type"] == "missing" else f" = {one['input']!r}"
        text = str(one["msg"]).removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            text = f"unknown key, expected one of {', '.join(BusConfig.model_fields)}"
        lines.append(f"{'.'.join(path)}{value}: {text} ({source})")
    return "; ".join(lines)
