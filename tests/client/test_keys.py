"""ringcast/keys.py: a client's key file, where it is looked for, and what is wrong with it."""

import json
from pathlib import Path
from typing import Any

import pytest

from ringcast.endpoints import find
from ringcast.errors import Disconnected, HandshakeRefused, KeysUnusable
from ringcast.keys import PLAIN, Credentials, Pair, find_credentials, read_client_keys

SERVERS = [Pair.new().public, Pair.new().public]


def write(path: Path, pair: Pair | None = None, **changes: Any) -> Path:
    pair = pair or Pair.new()
    document = {"format": 1, "kind": "client", "name": "billing", "servers": SERVERS, **pair._asdict(), **changes}
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGCAST_KEYS", raising=False)


def test_a_file(tmp_path: Path) -> None:
    pair = Pair.new()
    keys = read_client_keys(write(tmp_path / "me.key", pair))
    assert keys == ("billing", pair, tuple(SERVERS))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 9}, "its format is 9, this version reads 1"),
        ({"kind": "server"}, "it is of kind 'server', a client file is needed"),
        ({"public": SERVERS[0]}, "no pair of keys"),
        ({"secret": "x"}, "no pair of keys"),
        ({"servers": []}, "no list of 1 to 4 keys"),
        ({"servers": "x"}, "no list of 1 to 4 keys"),
    ],
)
def test_a_file_that_is_wrong_says_why(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(KeysUnusable, match=says):
        read_client_keys(write(tmp_path / "me.key", **changes))


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{" * 3, b" " * (2 << 20)])
def test_what_is_no_key_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "me.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeysUnusable, match="it is no key file"):
        read_client_keys(path)


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o660, 0o666, 0o620])
def test_a_secret_that_is_open_to_others(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "me.key")
    path.chmod(mode)
    with pytest.raises(KeysUnusable, match=f"its mode is {mode:04o}, and it holds a secret: .* chmod 600"):
        read_client_keys(path)


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_a_secret_as_kubernetes_mounts_it(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "me.key")
    path.chmod(mode)
    assert read_client_keys(path).name == "billing"


def test_where_keys_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument, else the environment, else cluster.json, else none."""
    mine, his, local = (write(tmp_path / name, name=name) for name in ("mine", "his", "local"))
    cluster = tmp_path / "cluster.json"
    entry = {"id": 1, "client": "tcp://a:1"}
    cluster.write_text(json.dumps({"cluster": "0", "keys": str(local), "replicas": [entry]}))
    assert find("tcp://a:1").credentials is PLAIN
    assert find(cluster).credentials.name == "local"
    monkeypatch.setenv("RINGCAST_KEYS", str(his))
    assert find(cluster).credentials.name == "his"
    assert find("tcp://a:1").credentials.name == "his"
    assert find(cluster, keys=mine).credentials.name == "mine"


def test_a_folder_of_keys(tmp_path: Path) -> None:
    with pytest.raises(KeysUnusable, match="the folder has 0 client keys"):
        find_credentials(tmp_path, "")
    write(tmp_path / "client-a.key", name="a")
    assert find_credentials(tmp_path, "").name == "a"
    write(tmp_path / "client-b.key", name="b")
    with pytest.raises(KeysUnusable, match=r"2 client keys, client-a\.key, client-b\.key: name one file"):
        find_credentials(tmp_path, "")
    write(tmp_path / "client-admin.key", name="admin")
    assert find_credentials(tmp_path, "").name == "admin"
    write(tmp_path / "client.key", name="own")
    assert find_credentials(tmp_path, "").name == "own"


def test_no_file_no_keys(tmp_path: Path) -> None:
    with pytest.raises(KeysUnusable, match="No such file"):
        find_credentials(tmp_path / "nowhere", "")


def test_a_rotated_file_is_taken_and_a_broken_one_is_not(tmp_path: Path) -> None:
    path, first, second = tmp_path / "me.key", Pair.new(), Pair.new()
    credentials = Credentials(write(path, first))
    assert first.public.encode() in credentials.options().values()
    path.write_text("{")
    assert first.public.encode() in credentials.options().values()
    write(path, second)
    assert second.public.encode() in credentials.options().values()


def test_servers_are_tried_one_after_the_other(tmp_path: Path) -> None:
    credentials = Credentials(write(tmp_path / "me.key"))
    assert credentials.attempts == 2
    for server in (*SERVERS, SERVERS[0]):
        assert server.encode() in credentials.options().values()
        credentials.try_next_server()


def test_plain_has_no_options() -> None:
    assert (PLAIN.options(), PLAIN.attempts, PLAIN.name) == ({}, 1, "")


def test_what_a_lost_handshake_means(tmp_path: Path) -> None:
    import zmq

    from ringcast.connection import why_lost

    keyed = Credentials(write(tmp_path / "me.key"))
    for event, credentials, says in (
        (zmq.EVENT_HANDSHAKE_FAILED_AUTH, keyed, "does not allow the key of 'billing'"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, PLAIN, "asks for a key and there is none"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, keyed, "speaks without keys"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, PLAIN, "it asks for a key"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, keyed, "none of the server keys in"),
    ):
        error = why_lost("tcp://a:1", event, credentials)
        assert isinstance(error, HandshakeRefused)
        assert says in str(error)
    assert isinstance(why_lost("tcp://a:1", zmq.EVENT_DISCONNECTED, keyed), Disconnected)
