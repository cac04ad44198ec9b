"""Where each member is reached. Three say so: this replica's file, the members themselves, and the log's newest change.

Who is a member is the log's to say (V12); where one is reached is the file's first, since an operator who moves a
replica corrects the files, then the member's own word, then what its change said on the day it was ordered.
"""

import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import NamedTuple

from replicas.bus.config import BusConfig
from replicas.bus.parts import MEMBER_ID_MAX, array, each, member_id, text
from ringcast.strict import bad, dumps, loads
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


class Introduced(NamedTuple):
    """A frame with a member's own addresses came; no event of the core."""

    cluster: int
    sender: int
    addresses: Addresses


def read_addresses(value: object) -> Addresses:
    """An array of the five. Raises BadFrame: nobody connects to what is no address."""
    found = Addresses(*(text("an address", one, ADDRESS_CHARACTERS_MAX) for one in array("addresses", value, 5)))
    for endpoint in (found.peer, found.pub):
        match = _ENDPOINT.fullmatch(endpoint)
        if match is None or int(match["port"]) > 65_535:
            bad("an address of a member", endpoint, "tcp://host:port")
    return found


def pack_info(addresses: Iterable[tuple[int, Addresses]]) -> bytes:
    """The `info` of a change (V12): msgpack [[member, [peer, pub, client, feed, http]], ...]."""
    return dumps(tuple((member, astuple(one)) for member, one in addresses))


def read_info(info: bytes) -> dict[int, Addresses]:
    """The `info` of a change. Raises BadFrame."""
    found = {}
    for row in each("addresses", loads(info, INFO_BYTES_MAX), MEMBER_ID_MAX, lambda row: array("a member", row, 2)):
        found[member_id(row[0])] = read_addresses(row[1])
    return found


class Directory:
    """The addresses that one replica knows."""

    def __init__(self, config: BusConfig) -> None:
        self._file = {
            member: Addresses(address.peer_endpoint, address.pub_endpoint) for member, address in config.peers.items()
        }
        self._told: dict[int, Addresses] = {}
        self._log: dict[int, Addresses] = {}

    def learn(self, member: int, addresses: Addresses) -> None:
        """A member says where it is."""
        self._told[member] = addresses

    def learn_info(self, info: bytes) -> None:
        """The log's newest change says where everybody is. Raises BadFrame if it was made by another program."""
        self._log = read_info(info) if info else {}

    def forget(self, member: int) -> None:
        """One that is no member has gone."""
        self._told.pop(member, None)

    def of(self, member: int) -> Addresses | None:
        """As far as it is known."""
        told = self._told.get(member) or self._log.get(member)
        return self._file.get(member) if told is None else self.placed(member, told)

    def placed(self, member: int, told: Addresses) -> Addresses:
        """What is told of a member, but its place where the file says it is."""
        named = self._file.get(member, told)
        return Addresses(named.peer, named.pub, told.client, told.feed, told.http)

    def known(self, members: Iterable[int]) -> list[tuple[int, Addresses]]:
        """Those of them whose address is known."""
        return [(member, found) for member in members if (found := self.of(member)) is not None]

    def endpoints(self, members: Iterable[int]) -> tuple[Endpoint, ...]:
        """Where clients reach these members."""
        return tuple(Endpoint(member, found.client) for member, found in self.known(members) if found.client)
