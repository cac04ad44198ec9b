"""How the configuration of a replica is read: defaults < TOML file < environment RINGCAST_* < flags; every role's.

Each key is also an environment variable: `RINGCAST_ID=1`, `RINGCAST_DATA=/data`; two underscores reach into a table:
`RINGCAST_GROUP__SUSPECT_TIMEOUT_MS=500`. `RINGCAST_CONFIG=/etc/ringcast.toml` names the file. RINGCAST_CLUSTER is the
command line's (which cluster to talk to) and no key of this file. Unknown keys are refused wherever they stand;
variables that Kubernetes makes for a service called `ringcast` are left alone.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import EnvSettingsSource

from replicas import supervisor
from replicas.local import registry

PREFIX = "RINGCAST_"
MEMBER_ID_MAX = 63
#: Variables with our prefix that are not keys: the command line's, the name of the file itself, the supervisor's.
_NOT_KEYS = frozenset({"RINGCAST_CLUSTER", "RINGCAST_CONFIG", supervisor.VARIABLE, registry.VARIABLE})
_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_\d+_(TCP|UDP)|$)")
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\s/]+):(?P<port>\d{1,5}|\*)")
_RANGE = re.compile(r"(?P<first>\d{1,9})\.\.(?P<last>\d{1,9})")
_TWO_PORTS = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<first>\d+)(:(?P<second>\d+))?")


class ConfigError(Exception):
    """A configuration is not valid. The text names each key, its value, the bound and where the value came from."""


def check_address(value: str) -> str:
    """host:port, as it is. Raises ValueError."""
    found = _ADDRESS.fullmatch(value)
    if found is None or (found["port"] != "*" and int(found["port"]) > 65_535):
        raise ValueError("expected host:port with a port of 0 to 65535, or * for any free one")
    return value


Address = Annotated[str, AfterValidator(check_address)]


def by_member(value: Any) -> Any:
    """'1=address,2=...' as a mapping; what is no text stays as it is.

    '1..3=bus-{id}:7101' is all of 1, 2 and 3: where replicas have numbered names, their count is all that differs.
    """
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for row in filter(None, map(str.strip, value.split(","))):
        member, _, address = map(str.strip, row.partition("="))
        several = _RANGE.fullmatch(member)
        if several is None:
            found[member] = address
            continue
        first, last = int(several["first"]), int(several["last"])
        if not 1 <= first <= last <= MEMBER_ID_MAX or "{id}" not in address:
            raise ValueError(
                f"{row!r}: expected first..last=name-{{id}}:port with 1 <= first <= last <= {MEMBER_ID_MAX}"
            )
        found |= {str(one): address.replace("{id}", str(one)) for one in range(first, last + 1)}
    return found


def host_and_ports(value: str, second_name: str) -> tuple[str, int, int]:
    """'host:port[:second port]', which is port + 1 unless given. Raises ValueError."""
    found = _TWO_PORTS.fullmatch(value)
    if found is None:
        raise ValueError(f"{value!r}: expected host:port or host:port:{second_name}")
    first = int(found["first"])
    second = int(found["second"] or first + 1)
    if not (0 < first < 65_536 and 0 < second < 65_536) or first == second:
        raise ValueError(f"{value!r}: expected two different ports of 1 to 65535")
    return found["host"], first, second


def check_peers(peers: dict[int, Any], own: int | None) -> dict[int, Any]:
    """The members by id. Raises ValueError."""
    if not peers:
        raise ValueError("expected at least this member: 1=host:port,2=host:port,3=host:port")
    if own is not None and own not in peers:
        raise ValueError(f"id = {own} is not among the members {sorted(peers)}: add it, or correct id")
    return dict(sorted(peers.items()))


class ReplicaConfig(BaseSettings):
    """What every role's process has. `TABLE`: the key that is a table of limits and timers, merged key by key."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    TABLE: ClassVar[str]

    cluster_name: str = Field(default="ringcast", min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    id: int = Field(ge=1, le=MEMBER_ID_MAX)
    data: Path
    keys: Path | None = Field(default=None, description="the folder of keys; none: plain, no authentication")
    memory_bytes: int = Field(
        default=1 << 30,
        ge=256 << 20,
        description="memory limit of the process, LMDB's pages aside; above three quarters of it connections are cut",
    )
    connection_bytes: int = Field(
        default=64 << 20,
        ge=24 << 20,
        description="what one connection may have sent without being read; else cut",
    )
    port_bytes: int = Field(default=192 << 20, ge=24 << 20, description="the same for all connections of a port")
    descriptor_reserve: int = Field(
        default=128, ge=32, description="file descriptors that are not for clients, but for peers, HTTP and the disk"
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "json"] = "auto"

    @property
    def binds(self) -> dict[str, str]:
        """The keys of all addresses that the process listens at, with their host:port."""
        return {name: str(getattr(self, name)) for name in type(self).model_fields if name.startswith("bind_")}

    @field_validator("keys", mode="before")
    @classmethod
    def _no_keys(cls, value: Any) -> Any:
        """An empty variable is how compose and Kubernetes say none."""
        return None if value == "" else value

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


class StoredConfig(ReplicaConfig):
    """What a replica with a data folder has: the pace of its background scrub (scrubber.py)."""

    scrub_bytes_per_second: int = Field(default=1 << 20, ge=0, le=1 << 30, description="0: no scrub")
    scrub_pause: int = Field(default=3_600, ge=1, description="seconds between two passes")


Config = TypeVar("Config", bound=ReplicaConfig)


class _Environment(EnvSettingsSource):
    """The environment as pydantic-settings reads it, but `peers` may be the short '1=host:port,...' form."""

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        """JSON where it is JSON, the text itself where it is not."""
        if field_name == "peers":
            return value
        return super().decode_complex_value(field_name, field, value)


class Loaded(NamedTuple, Generic[Config]):
    """A configuration, for each key that is not the default where its value came from, and the file if there is one."""

    config: Config
    sources: Mapping[str, str]
    path: Path | None = None


def load(kind: type[Config], path: Path | None = None, flags: Mapping[str, Any] | None = None) -> Loaded[Config]:
    """Read, merge and validate. `flags` that are None were not given. Raises ConfigError."""
    if path is None and os.environ.get("RINGCAST_CONFIG"):
        path = Path(os.environ["RINGCAST_CONFIG"])
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    for source, found in (
        (f"file {path}", _file_values(path)),
        ("environment", _environment_values(kind)),
        ("flag", given),
    ):
        for key, value in found.items():
            merge = key == kind.TABLE and isinstance(value, Mapping) and isinstance(values.get(key), Mapping)
            values[key] = {**values[key], **value} if merge else value
            sources[key] = f"environment {PREFIX}{key.upper()}" if source == "environment" else source
    try:
        return Loaded(kind(**values), sources, path)
    except ValidationError as error:
        raise ConfigError(_sentence(kind, error, sources)) from None


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


def _environment_values(kind: type[ReplicaConfig]) -> dict[str, Any]:
    known = {PREFIX + name.upper() for name in kind.model_fields}
    for name, value in os.environ.items():
        if not name.startswith(PREFIX) or name in known or name in _NOT_KEYS or _KUBERNETES.search(name):
            continue
        if not name.startswith(f"{PREFIX}{kind.TABLE.upper()}__"):
            names = ", ".join(sorted(known))
            raise ConfigError(f"environment {name} = {value!r}: unknown key, expected one of {names}")
    try:
        found = _Environment(kind)()
    except ValueError as error:
        raise ConfigError(f"environment: {error}") from None
    return {key: value for key, value in found.items() if key in kind.model_fields}


def _sentence(kind: type[ReplicaConfig], error: ValidationError, sources: Mapping[str, str]) -> str:
    """One line for each bad key: key, value, bound, source."""
    lines = []
    for one in error.errors():
        path = [str(step) for step in one["loc"]]
        key = path[0] if path else "the configuration"
        source = sources.get(key, "not given: set it in the file, the environment or by flag")
        value = "" if one["type"] == "missing" else f" = {one['input']!r}"
        text = str(one["msg"]).removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            text = f"unknown key, expected one of {', '.join(kind.model_fields)}"
        lines.append(f"{'.'.join(path)}{value}: {text} ({source})")
    return "; ".join(lines)
