"""Where members are: whose word counts, and what is no address."""

from pathlib import Path

import pytest

from replicas.bus.config import BusConfig, PeerAddress
from replicas.bus.directory import Addresses, Directory, pack_info, read_addresses, read_info
from ringcast.errors import BadFrame
from ringcast.strict import dumps
from ringcast.wire import Endpoint


def addresses(host: str) -> Addresses:
    """All five at one host."""
    return Addresses(f"tcp://{host}:1", f"tcp://{host}:2", f"tcp://{host}:3", f"tcp://{host}:4", f"http://{host}:5")


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """The file names 1 and 2."""
    peers = {member: PeerAddress(f"file-{member}", 7101, 7102) for member in (1, 2)}
    return Directory(BusConfig(id=1, data=tmp_path, peers=peers))


def test_the_file_says_where_then_the_member_then_the_log(directory: Directory) -> None:
    assert directory.of(2) == Addresses("tcp://file-2:7101", "tcp://file-2:7102")
    assert directory.of(4) is None
    directory.learn_info(pack_info([(2, addresses("log-2")), (4, addresses("log-4"))]))
    directory.learn(2, addresses("told-2"))
    assert directory.of(2) == Addresses("tcp://file-2:7101", "tcp://file-2:7102", *list_of("told-2")[2:])
    assert directory.of(4) == addresses("log-4")
    directory.learn(4, addresses("told-4"))
    assert directory.of(4) == addresses("told-4")
    directory.forget(4)
    directory.forget(5)
    directory.learn_info(b"")
    assert directory.of(4) is None


def list_of(host: str) -> list[str]:
    """The five endpoints."""
    one = addresses(host)
    return [one.peer, one.pub, one.client, one.feed, one.http]


def test_clients_are_told_of_those_whose_address_is_known(directory: Directory) -> None:
    directory.learn(4, addresses("four"))
    assert directory.endpoints((1, 2, 4)) == (Endpoint(4, "tcp://four:3"),)
    assert [member for member, _ in directory.known((1, 4, 5))] == [1, 4]


def test_the_info_of_a_change_comes_back_as_it_was() -> None:
    known = {1: addresses("a"), 63: Addresses("tcp://[::1]:7101", "tcp://bus-63.bus:7102")}
    assert read_info(pack_info(known.items())) == known


@pytest.mark.parametrize(
    "peer",
    ["", "tcp://host", "tcp://host:0", "tcp://host:65536", "ipc:///x", "tcp://eth0;10.0.0.1:7101", "tcp://a b:1", "x"],
)
def test_what_is_no_address_is_refused(peer: str) -> None:
    """A replica connects to what it reads, and libzmq knows more kinds of endpoints than we mean."""
    with pytest.raises(BadFrame):
        read_addresses((peer, "tcp://host:1", "", "", ""))
    with pytest.raises(BadFrame):
        read_info(dumps(((1, ("tcp://host:1", peer, "", "", "")),)))


@pytest.mark.parametrize(
    "value", [b"\x01", b"\xc1", dumps(((64, tuple(list_of("a"))),)), dumps(((1,),)), dumps(((1, ("a",)),))]
)
def test_info_of_another_program_is_refused(value: bytes) -> None:
    with pytest.raises(BadFrame):
        read_info(value)
