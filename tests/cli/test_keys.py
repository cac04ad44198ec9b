"""`ringcast keys`: every command on a folder of its own, each with --json, and what goes wrong."""

import json
from pathlib import Path

import pytest

from ringcast.keys import read_client_keys
from tests.cli.conftest import Ringcast, document


@pytest.fixture
def folder(ringcast: Ringcast, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keys of a cluster of three, without a product store."""
    monkeypatch.delenv("RINGCAST_KEYS", raising=False)
    path = tmp_path / "keys"
    ringcast("keys", "init", "--folder", str(path), "--products", "0")
    return path


def owners(ringcast: Ringcast, folder: Path) -> dict[str, int]:
    """Name -> how many keys."""
    found = document(ringcast("keys", "list", "--folder", str(folder), "--json"))
    return {one["name"]: len(one["keys"]) for one in found["owners"]}


def test_init(ringcast: Ringcast, folder: Path) -> None:
    assert owners(ringcast, folder) == dict.fromkeys(
        ("server", "bus-1", "bus-2", "bus-3", "admin", "buyers", "sellers"), 1
    )
    assert "holds keys already" in ringcast("keys", "init", "--folder", str(folder), code=2).stderr
    said = ringcast("keys", "list", "--folder", str(folder)).stdout
    assert "everything" in said
    assert "publish _products _customers" in said


def test_init_says_what_to_do_next(ringcast: Ringcast, tmp_path: Path) -> None:
    said = ringcast("keys", "init", "--folder", str(tmp_path / "other"), "--replicas", "1").stdout
    assert "RINGCAST_KEYS=" in said
    assert "ringcast keys add NAME" in said
    found = document(ringcast("keys", "init", "--folder", str(tmp_path / "third"), "--json"))
    assert "products-3" in found["owners"]


def test_a_client_from_added_to_revoked(ringcast: Ringcast, folder: Path) -> None:
    place = ("--folder", str(folder))
    found = document(ringcast("keys", "add", "billing", "--publish", "bills.>", "--subscribe", "a", *place, "--json"))
    file = Path(found["file"])
    before = read_client_keys(file)
    listed = document(ringcast("keys", "list", *place, "--json"))["owners"]
    (rights,) = (one["rights"] for one in listed if one["name"] == "billing")
    assert rights == {"publish": ["bills.>"], "subscribe": ["a"], "cursors": ["billing", "billing.>"], "admin": False}
    ringcast("keys", "grant", "billing", "--subscribe", "b", "--cursor", "c", *place)
    assert "subscribe b; cursors c" in ringcast("keys", "list", *place).stdout
    assert "then: ringcast keys retire billing" in ringcast("keys", "rotate", "billing", *place).stdout
    assert read_client_keys(file) != before
    assert owners(ringcast, folder)["billing"] == 2
    assert document(ringcast("keys", "retire", "billing", *place, "--json")) == {"name": "billing", "revoked": 1}
    assert "1 key is revoked" in ringcast("keys", "revoke", "billing", *place).stdout
    assert "billing" not in owners(ringcast, folder)
    assert not file.exists()
    assert len(document(ringcast("keys", "list", *place, "--json"))["revoked"]) == 2


def test_a_member_more(ringcast: Ringcast, folder: Path) -> None:
    assert "for this member alone" in ringcast("keys", "add", "bus-4", "--folder", str(folder)).stdout
    assert owners(ringcast, folder)["bus-4"] == 1
    said = ringcast("keys", "add", "bus-5", "--admin", "--folder", str(folder), code=2).stderr
    assert "is a member, which has no rights of clients" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "x"), "may do nothing"),
        (("add", "a b", "--admin"), "no name for a client"),
        (("add", "x", "--publish", "a..b"), "no topic or pattern"),
        (("rotate", "nobody"), "there is no client 'nobody'"),
        (("retire", "bus-9"), "there is no member bus-9"),
        (("revoke", "server"), "rotate server"),
        (("grant", "bus-1", "--admin"), "there is no client 'bus-1'"),
    ],
)
def test_what_cannot_be(ringcast: Ringcast, folder: Path, arguments: tuple[str, ...], says: str) -> None:
    assert says in ringcast("keys", *arguments, "--folder", str(folder), code=2).stderr


def test_no_folder_and_one_of_a_newer_version(ringcast: Ringcast, folder: Path, tmp_path: Path) -> None:
    assert "ringcast keys init" in ringcast("keys", "list", "--folder", str(tmp_path / "none"), code=2).stderr
    file = folder / "keyring.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2}))
    assert "this version reads 1: upgrade" in ringcast("keys", "list", "--folder", str(folder), code=2).stderr


def test_the_folder_of_a_client_file_is_found(
    ringcast: Ringcast, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGCAST_KEYS", str(folder / "client-admin.key"))
    assert "admin" in ringcast("keys", "list").stdout
