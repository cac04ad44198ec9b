"""Where each member is reached. Three say so: this replica's file, the members themselves, and the log's newest change.

Who is a member is the log's to say (V12); where one is reached is the file's first, since an operator who moves a
replica corrects the files, then the member's own word, also as another member passes it on, then what its change said
on the day it was ordered. Where one was reached counts more than all of these.
"""

import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import NamedTuple

from broker.peer import PeerEndpoints
from replicas.bus.config import BusConfig
from replicas.bus.parts import MEMBER_ID_MAX, array, each, member_id, text
from ringcast.strict import Plain, bad, dumps, loads
from ringcast.wire import Endpoint

ADDRESS_CHARACTERS_MAX = 512
INFO_BYTES_MAX = 1 << 16
_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):(?P<port>[1-9]\d{0,4})")


@dataclass(frozen=True, slots=True)
class Addresses:
    """A member's endpoints as others reach them, `tcp://host:port`; `http` is a URL. "" = not known.

    Also a frame between members: what one says of itself to each peer that it connects to.
    """

    peer: str
    pub: str
    client: str = ""
    feed: str = ""
    http: str = ""


@dataclass(frozen=True, slots=True)
class Relayed:
    """A frame between members: where others are, of their own word to the sender. For one that does not hear them."""

    told: tuple[tuple[int, Addresses], ...]


class Introduced(NamedTuple):
    """A frame that says where members are came, of the sender itself or of others; no event of the core."""

    cluster: int
    sender: int
    told: tuple[tuple[int, Addresses], ...]


def read_addresses(value: object) -> Addresses:
    """An array of the five. Raises BadFrame: nobody connects to what is no address."""
    found = Addresses(*(text("an address", one, ADDRESS_CHARACTERS_MAX) for one in array("addresses", value, 5)))
    for endpoint in (found.peer, found.pub):
        match = _ENDPOINT.fullmatch(endpoint)
        if match is None or int(match["port"]) > 65_535:
            bad("an address of a member", endpoint, "tcp://host:port")
    return found


def pack_told(told: Iterable[tuple[int, Addresses]]) -> tuple[Plain, ...]:
    """[[member, [peer, pub, client, feed, http]], ...]."""
    return tuple((member, astuple(one)) for member, one in told)


def read_told(value: object) -> tuple[tuple[int, Addresses], ...]:
    """What `pack_told` gave. Raises BadFrame."""
    rows = each("addresses", value, MEMBER_ID_MAX, lambda row: array("a member", row, 2))
    return tuple((member_id(member), read_addresses(one)) for member, one in rows)


def pack_info(addresses: Iterable[tuple[int, Addresses]]) -> bytes:
    """The `info` of a change (V12): msgpack of `pack_told`."""
    return dumps(pack_told(addresses))


def read_info(info: bytes) -> dict[int, Addresses]:
    """The `info` of a change. Raises BadFrame."""
    return dict(read_told(loads(info, INFO_BYTES_MAX)))


class Directory:
    """The addresses that one replica knows."""

    def __init__(self, config: BusConfig) -> None:
        self._file = {
            member: Addresses(address.peer_endpoint, address.pub_endpoint) for member, address in config.peers.items()
        }
        self._told: dict[int, Addresses] = {}
        self._relayed: dict[int, Addresses] = {}
        self._log: dict[int, Addresses] = {}
        self._reached: dict[int, PeerEndpoints] = {}

    def learn(self, member: int, addresses: Addresses) -> None:
        """A member says where it is."""
        self._told[member] = addresses

    def learn_relayed(self, member: int, addresses: Addresses) -> None:
        """Another member says where this one is, of its own word."""
        self._relayed[member] = addresses

    def learn_info(self, info: bytes) -> None:
        """The log's newest change says where everybody is. Raises BadFrame if it was made by another program."""
        self._log = read_info(info) if info else {}

    def learn_reached(self, member: int, place: PeerEndpoints) -> None:
        """The member was reached there, and said so."""
        self._reached[member] = place

    def forget(self, member: int) -> None:
        """One that is no member has gone."""
        for known in (self._told, self._relayed, self._reached):
            known.pop(member, None)

    def of(self, member: int) -> Addresses | None:
        """As far as it is known."""
        told = self._told.get(member) or self._relayed.get(member) or self._log.get(member)
        found = self._file.get(member, told)
        if found is None or told is None:
            return found
        place = self._reached.get(member) or found
        return Addresses(place.peer, place.pub, told.client, told.feed, told.http)

    def in_file(self, member: int) -> bool:
        """The file says where it is."""
        return member in self._file

    def places(self, member: int) -> list[PeerEndpoints]:
        """Wherever it may be reached, the likeliest first."""
        sources = (self._file, self._told, self._relayed, self._log)
        said = [found for source in sources if (found := source.get(member)) is not None]
        reached = self._reached.get(member)
        places = [PeerEndpoints(one.peer, one.pub) for one in said]
        return list(dict.fromkeys(places if reached is None else [reached, *places]))

    def first_hand(self, members: Iterable[int]) -> tuple[tuple[int, Addresses], ...]:
        """What those of them said of themselves: what may be passed on."""
        return tuple((member, self._told[member]) for member in members if member in self._told)

    def known(self, members: Iterable[int]) -> list[tuple[int, Addresses]]:
        """Those of them whose address is known."""
        return [(member, found) for member in members if (found := self.of(member)) is not None]

    def endpoints(self, members: Iterable[int]) -> tuple[Endpoint, ...]:
        """Where clients reach these members."""
        return tuple(Endpoint(member, found.client) for member, found in self.known(members) if found.client)
