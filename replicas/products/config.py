"""Configuration of one replica of the product store; how it is read: settings.py.

    # products-1.toml
    id = 1
    data = "/var/lib/ringcast-products"
    bind_peer = "0.0.0.0:7201"        # ROUTER: what the other members send
    bind_client = "0.0.0.0:7202"      # ROUTER: clients
    bind_http = "0.0.0.0:7203"        # /livez /readyz /metrics

    # Every member, this one too, as the others and the clients reach it: "host:peer port[:client port]",
    # client port = peer port + 1. It is for the first day; later the log says who is one (R16).
    [peers]
    1 = "10.0.0.1:7201"
    2 = "10.0.0.2:7201"
    3 = "10.0.0.3:7201:7202"

    [raft]                            # any number of replicas/raft/configuration.py; times in milliseconds
    heartbeat_interval_ms = 50

`RINGCAST_PEERS="1=products-1:7201,2=products-2:7201,3=products-3:7201"` is a way to say [peers] too, and so is
`RINGCAST_PEERS="1..3=products-{id}:7201"`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from replicas import settings
from replicas.settings import Address, Loaded, StoredConfig, by_member, check_peers, host_and_ports

_MS = "_ms"


class MemberAddress(NamedTuple):
    """Where the other members and the clients reach a member. As a text it stands in the replicated configuration."""

    host: str
    peer_port: int
    client_port: int

    @classmethod
    def parse(cls, value: str) -> "MemberAddress":
        """'host:peer port[:client port]'. Raises ValueError."""
        return cls(*host_and_ports(value, "client_port"))

    @property
    def peer_endpoint(self) -> str:
        """Its ROUTER for members."""
        return f"tcp://{self.host}:{self.peer_port}"

    @property
    def client_endpoint(self) -> str:
        """Its ROUTER for clients."""
        return f"tcp://{self.host}:{self.client_port}"

    def __str__(self) -> str:
        return f"{self.host}:{self.peer_port}:{self.client_port}"


def _peers(value: Any) -> Any:
    value = by_member(value)
    if not isinstance(value, Mapping):
        return value
    return {
        member: MemberAddress.parse(address) if isinstance(address, str) else address
        for member, address in value.items()
    }


Peers = Annotated[dict[int, MemberAddress], BeforeValidator(_peers)]


class ProductsConfig(StoredConfig):
    """One replica's configuration; made by `load`, never changed."""

    TABLE: ClassVar[str] = "raft"

    peers: Peers
    bind_peer: Address = "127.0.0.1:7201"
    bind_client: Address = "127.0.0.1:7202"
    bind_http: Address = "127.0.0.1:7203"
    drain_timeout_ms: int = Field(default=5_000, ge=0)
    raft: dict[str, int] = Field(default_factory=dict)

    @field_validator("peers")
    @classmethod
    def _check_peers(cls, peers: dict[int, MemberAddress], info: ValidationInfo) -> dict[int, MemberAddress]:
        return check_peers(peers, info.data.get("id"))

    @field_validator("raft")
    @classmethod
    def _lower(cls, raft: dict[str, int]) -> dict[str, int]:
        return {name.lower(): value for name, value in raft.items()}

    @property
    def raft_settings(self) -> dict[str, float]:
        """As RaftConfiguration takes them: seconds, bytes, counts."""
        return {
            name.removesuffix(_MS): value / 1_000 if name.endswith(_MS) else value for name, value in self.raft.items()
        }


def load(path: Any = None, flags: Mapping[str, Any] | None = None) -> Loaded[ProductsConfig]:
    """See `settings.load`."""
    return settings.load(ProductsConfig, path, flags)
