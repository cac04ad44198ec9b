"""replicas/keys.py and broker/keyring.py: the folder of keys, made, changed and read."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from broker.keyring import read_keyring
from broker.security import read_secrets
from replicas.keys import KeyFolder, KeysError, Rights
from ringcast.errors import KeysUnusable
from ringcast.keys import Pair, read_client_keys

ORDERS = Rights(publish=("orders.>",), subscribe=("orders.>",), cursors=("billing",))


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    return KeyFolder.create(tmp_path / "keys", {"bus": [1, 2, 3], "products": [1]})


def test_a_new_folder_has_what_a_cluster_needs(keys: KeyFolder) -> None:
    ring = read_keyring(keys.folder / "keyring.json")
    assert {role: sorted(found) for role, found in ring.members.items()} == {"bus": [1, 2, 3], "products": [1]}
    for role, member in (("bus", 2), ("products", 1)):
        secrets = read_secrets(keys.folder, role, member)
        assert secrets.member is not None
        assert ring.owners[secrets.member.public] == (role, member)
        assert ring.servers == (secrets.server.public,)
    admin = read_client_keys(keys.folder / "client-admin.key")
    assert ring.grants[admin.pair.public].admin
    assert admin.servers == ring.servers


def test_secrets_are_closed_to_others_and_the_list_holds_none(keys: KeyFolder) -> None:
    listed = (keys.folder / "keyring.json").read_text()
    for path in keys.folder.glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert json.loads(path.read_text())["secret"] not in listed
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
    assert not list(keys.folder.glob("*.tmp"))


def test_a_folder_is_not_made_twice(keys: KeyFolder) -> None:
    with pytest.raises(KeysError, match="holds keys already: use `ringcast keys add`"):
        KeyFolder.create(keys.folder)


def test_clients_and_their_rights(keys: KeyFolder) -> None:
    file = keys.add_client("billing", ORDERS)
    public = read_client_keys(file).pair.public
    assert read_keyring(keys.folder / "keyring.json").grants[public].publish == ("orders.>",)
    keys.grant("billing", Rights(subscribe=("a",)))
    grant = read_keyring(keys.folder / "keyring.json").grants[public]
    assert (grant.publish, grant.subscribe) == ((), ("a",))
    assert [owner.rights for owner in keys.owners() if owner.name == "billing"] == [Rights(subscribe=("a",))]


@pytest.mark.parametrize(
    ("name", "rights", "says"),
    [
        ("admin", ORDERS, "has a key already"),
        ("bus-9", ORDERS, "no name for a client"),
        ("server", ORDERS, "no name for a client"),
        ("a b", ORDERS, "no name for a client"),
        ("x", Rights(), "may do nothing"),
        ("x", Rights(publish=("a.>.b",)), "no topic or pattern"),
    ],
)
def test_clients_that_cannot_be(keys: KeyFolder, name: str, rights: Rights, says: str) -> None:
    with pytest.raises(KeysError, match=says):
        keys.add_client(name, rights)


@pytest.mark.parametrize("name", ["server", "bus-1", "billing"])
def test_rotation_has_two_keys_and_retiring_one(keys: KeyFolder, name: str) -> None:
    keys.add_client("billing", ORDERS)
    before = _keys(keys)[name]
    file = keys.rotate(name)
    new, old = _keys(keys)[name]
    assert (old,) == before
    assert json.loads(file.read_text())["public"] == new
    with pytest.raises(KeysError, match=f"`ringcast keys retire {name}`"):
        keys.rotate(name)
    assert keys.retire(name) == 1
    assert _keys(keys)[name] == (new,)
    assert [row["public"] for row in keys.revoked()] == [old]


def test_clients_believe_both_keys_of_a_server_that_rotates(keys: KeyFolder) -> None:
    keys.rotate("server")
    keys.add_client("billing", ORDERS)
    for name in ("admin", "billing"):
        assert read_client_keys(keys.folder / f"client-{name}.key").servers == _keys(keys)["server"]
    keys.retire("server")
    assert read_client_keys(keys.folder / "client-admin.key").servers == _keys(keys)["server"]


@pytest.mark.parametrize("name", ["admin", "bus-1"])
def test_revoked_is_gone_and_remembered(keys: KeyFolder, name: str) -> None:
    public = _keys(keys)[name][0]
    assert keys.revoke(name) == 1
    ring = read_keyring(keys.folder / "keyring.json")
    assert public in ring.revoked
    assert public not in {*ring.grants, *ring.owners}
    assert name not in _keys(keys)
    with pytest.raises(KeysError, match="there is no"):
        keys.revoke(name)


def test_the_server_is_not_revoked(keys: KeyFolder) -> None:
    with pytest.raises(KeysError, match="rotate server"):
        keys.revoke("server")


def test_two_processes_change_it_one_after_the_other(keys: KeyFolder) -> None:
    other = KeyFolder.open(keys.folder)
    keys.add_client("one", ORDERS)
    other.add_client("two", ORDERS)
    assert {"one", "two"} <= _keys(keys).keys() | _keys(KeyFolder.open(keys.folder)).keys()


def _keys(folder: KeyFolder) -> dict[str, tuple[str, ...]]:
    return {owner.name: owner.keys for owner in folder.owners()}


def _set(path: str, value: Any) -> Any:
    def change(document: dict[str, Any]) -> None:
        *steps, last = path.split("/")
        place = document
        for step in steps:
            place = place[step]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("format", 2, "its format is 2, this version reads 1"),
        ("kind", "client", "it is of kind 'client'"),
        ("servers", [], "servers is no list of 1 to 2 keys"),
        ("servers", ["short"], "servers is no list"),
        ("members", [], "members is list, expected a table"),
        ("members/bus", [], r"members\.bus is list"),
        ("members/bus/x", ["a" * 40], "has the id 'x'"),
        ("clients/admin/keys", None, r"clients\.admin\.keys is no list"),
        ("clients/admin/admin", "yes", "expected true or false"),
        ("clients/admin/publish", ["a..b"], "expected topics and patterns"),
        ("clients/admin/publsh", [], "unknown key 'publsh'"),
        ("clients/a b", {"keys": ["a" * 40]}, "is not words of"),
        ("revoked", {}, "revoked is dict"),
        ("revoked", [{}], "lacks or garbles 'public'"),
    ],
)
def test_a_list_that_is_wrong_says_where(keys: KeyFolder, path: str, value: Any, says: str) -> None:
    file = keys.folder / "keyring.json"
    document = json.loads(file.read_text())
    _set(path, value)(document)
    file.write_text(json.dumps(document))
    with pytest.raises(KeysUnusable, match=says):
        read_keyring(file)


def test_a_key_has_one_owner(keys: KeyFolder) -> None:
    file = keys.folder / "keyring.json"
    document = json.loads(file.read_text())
    document["clients"]["thief"] = {"keys": document["members"]["bus"]["1"], "admin": True}
    file.write_text(json.dumps(document))
    with pytest.raises(KeysUnusable, match="a key of thief is revoked, or another's too"):
        read_keyring(file)
    document["clients"]["thief"]["keys"] = [(lost := Pair.new().public)]
    document["revoked"] = [{"public": lost, "owner": "x", "when": ""}]
    file.write_text(json.dumps(document))
    with pytest.raises(KeysUnusable, match="is revoked"):
        read_keyring(file)
