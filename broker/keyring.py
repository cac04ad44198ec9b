"""The allow list of a cluster, `keyring.json`: whose public keys are let in, where, and what their owners may do.

    {"format": 1, "kind": "keyring",
     "servers": ["<public>"],                                       # what the client ports and feeds prove to clients
     "members": {"bus": {"1": ["<public>"], "2": ["<public>"]}},    # what each member proves to its peers
     "clients": {"billing": {"keys": ["<public>"], "publish": ["orders.>"], "subscribe": [], "cursors": [],
                             "admin": false}},
     "revoked": [{"public": "<public>", "owner": "billing", "when": "2026-01-31T12:00:00Z"}]}

It holds no secret, and whoever can write it can let himself in. Two keys of one owner are valid while it is rotated,
newest first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.grants import Grant
from ringcast.bus.topics import is_pattern, is_topic
from ringcast.errors import KeysUnusable
from ringcast.keys import is_key, read_document

FILE_NAME = "keyring.json"
KEYS_OF_ONE_MAX = 2


@dataclass(frozen=True, slots=True)
class Keyring:
    """`members`: role -> id -> public keys. `owners`: public key -> (role, id). `grants`: public key -> grant."""

    servers: tuple[str, ...]
    members: Mapping[str, Mapping[int, tuple[str, ...]]]
    grants: Mapping[str, Grant]
    revoked: Mapping[str, str]
    owners: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def of_member(self, role: str, member: int) -> tuple[str, ...]:
        """The keys of a member, newest first; none: it is not on the list."""
        return self.members.get(role, {}).get(member, ())


def read_keyring(path: Path) -> Keyring:
    """Read and check the file. Raises KeysUnusable: which entry, and what it should be."""
    return parse(read_document(path, "keyring", secret=False), path)


def parse(document: Mapping[str, Any], path: Path) -> Keyring:
    """The checked contents. Raises KeysUnusable."""
    try:
        servers = _keys("servers", document.get("servers"))
        revoked = {str(row["public"]): str(row["owner"]) for row in _rows(document.get("revoked", []))}
        members = {role: _members(role, row) for role, row in _table("members", document.get("members")).items()}
        grants: dict[str, Grant] = {}
        for name, row in _table("clients", document.get("clients")).items():
            grant = _grant(name, _table(f"clients.{name}", row))
            grants |= dict.fromkeys(_keys(f"clients.{name}.keys", row.get("keys")), grant)
        owners = {key: (role, member) for role, found in members.items() for member in found for key in found[member]}
        _check_once(servers, members, document, revoked)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error) if isinstance(error, ValueError) else f"it lacks or garbles {error}"
        raise KeysUnusable(path=str(path), why=why, next="correct it with `ringcast keys`") from None
    return Keyring(servers, members, grants, revoked, owners)


def _check_once(
    servers: tuple[str, ...],
    members: Mapping[str, Mapping[int, tuple[str, ...]]],
    document: Mapping[str, Any],
    revoked: Mapping[str, str],
) -> None:
    """A key has one owner, and is not revoked. Raises ValueError."""
    seen: set[str] = set(revoked)
    for owner, keys in _all_keys(servers, members, document):
        for key in keys:
            if key in seen:
                raise ValueError(f"a key of {owner} is revoked, or another's too: give {owner} a key of its own")
            seen.add(key)


def _all_keys(
    servers: tuple[str, ...], members: Mapping[str, Mapping[int, tuple[str, ...]]], document: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "the servers", servers
    for role, found in members.items():
        yield from ((f"{role}-{member}", keys) for member, keys in found.items())
    for name, row in document["clients"].items():
        yield name, tuple(row["keys"])


def _table(what: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(f"{what} is {type(value).__name__}, expected a table")


def _rows(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    raise ValueError(f"revoked is {type(value).__name__}, expected a list")


def _keys(what: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= KEYS_OF_ONE_MAX or not all(map(is_key, value)):
        raise ValueError(f"{what} is no list of 1 to {KEYS_OF_ONE_MAX} keys of 40 characters")
    return tuple(value)


def _members(role: str, row: Any) -> dict[int, tuple[str, ...]]:
    found = {}
    for member, keys in _table(f"members.{role}", row).items():
        if not member.isascii() or not member.isdigit():
            raise ValueError(f"members.{role} has the id {member!r}, expected a number")
        found[int(member)] = _keys(f"members.{role}.{member}", keys)
    return found


def _grant(name: str, row: Mapping[str, Any]) -> Grant:
    if not is_topic(name):
        raise ValueError(f"the client's name {name!r} is not words of A-Z a-z 0-9 _ - joined by dots")
    unknown = sorted(row.keys() - {"keys", "publish", "subscribe", "cursors", "admin"})
    if unknown:
        raise ValueError(f"clients.{name} has the unknown key {unknown[0]!r}")
    admin = row.get("admin", False)
    if admin is not True and admin is not False:
        raise ValueError(f"clients.{name}.admin is {admin!r}, expected true or false")
    patterns = {role: row.get(role, []) for role in ("publish", "subscribe", "cursors")}
    for role, found in patterns.items():
        if not isinstance(found, list) or not all(isinstance(one, str) and is_pattern(one) for one in found):
            raise ValueError(f"clients.{name}.{role} = {found!r}: expected topics and patterns (a.b, a.b.>, >)")
    publish, subscribe, cursors = map(tuple, patterns.values())
    return Grant(name, publish, subscribe, cursors, admin)
