"""Configuration of one interface replica, of sellers or of buyers; how it is read: settings.py.

    # buyers-1.toml
    id = 1
    bind_client = "0.0.0.0:7401"      # ROUTER: clients
    bind_http = "0.0.0.0:7402"        # /livez /readyz /startupz /metrics
    bus = "10.0.0.1:7103,10.0.0.2:7103,10.0.0.3:7103"        # client addresses of bus replicas, one at least
    products = "10.0.0.1:7202,10.0.0.2:7202,10.0.0.3:7202"   # client addresses of product replicas, one at least

    # The interfaces of this kind, this one too, as clients reach them: "host:port". Clients are told of them.
    [peers]
    1 = "10.0.0.1:7401"
    2 = "10.0.0.2:7401"

An interface keeps nothing: `data` is accepted, as for every role, and not used.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from replicas import settings
from replicas.settings import Address, Loaded, ReplicaConfig, by_member
from ringcast.endpoints import Endpoints
from ringcast.errors import KeysUnusable
from ringcast.keys import Credentials
from ringcast.wire import ANY_CLUSTER, Endpoint


def _addresses(value: str) -> str:
    for one in value.split(","):
        settings.check_address(one.strip())
    return value


#: host:port, with commas between.
Addresses = Annotated[str, AfterValidator(_addresses)]
Peers = Annotated[dict[int, Address], BeforeValidator(by_member)]


class MarketConfig(ReplicaConfig):
    """One interface's configuration; made by `load`, never changed."""

    TABLE: ClassVar[str] = "peers"

    data: Path = Path()
    bus: Addresses
    products: Addresses
    bind_client: Address = "127.0.0.1:7401"
    bind_http: Address = "127.0.0.1:7402"
    peers: Peers = Field(default_factory=dict)
    call_timeout_ms: int = Field(default=10_000, ge=100, description="of one step of a call at one database")
    drain_timeout_ms: int = Field(default=5_000, ge=0)

    def client_keys(self, party: str) -> Path | None:
        """With what it proves itself to the databases."""
        return None if self.keys is None else self.keys / f"client-{party}s.key"

    @property
    def members(self) -> tuple[Endpoint, ...]:
        """The interfaces that clients are told of."""
        return tuple(Endpoint(member, f"tcp://{address}") for member, address in sorted(self.peers.items()))


def endpoints(addresses: str, keys: Path | None) -> Endpoints:
    """What a client of a database takes. Raises ConfigError."""
    try:
        credentials = Credentials(keys)
    except KeysUnusable as error:
        raise settings.ConfigError(f"keys: {error}") from None
    return Endpoints(ANY_CLUSTER, tuple(f"tcp://{one.strip()}" for one in addresses.split(",")), credentials)


def load(path: Path | None = None, flags: Mapping[str, Any] | None = None) -> Loaded[MarketConfig]:
    """See `settings.load`."""
    return settings.load(MarketConfig, path, flags)
