"""The folder of keys of a cluster: made and changed by `ringcast keys`, read by replicas (broker/security.py).

    keyring.json         the allow list; no secret                          every replica
    client-sellers.key   what an interface proves to the two databases      that kind of interface
    server.key           what the client ports and feeds prove              every replica
    bus-1.key ...        what a member proves to its peers                  that member
    client-NAME.key      a client's secret, and the server keys it believes that client

Files are written whole, mode 0600 (the keyring 0644), one after the other, in an order in which what exists is never
refused by what is on the list. One process at a time.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from broker.grants import PRODUCTS
from broker.keyring import FILE_NAME, KEYS_OF_ONE_MAX, parse
from broker.security import SERVER_FILE
from ringcast.bus.topics import CUSTOMERS_TOPIC, is_pattern, is_topic
from ringcast.keys import FORMAT, Pair, read_document

ADMIN = "admin"
#: What the marketplace's interfaces do at the two databases, under their own keys.
INTERFACES = ("sellers", "buyers")
ADMIN_FILE = f"client-{ADMIN}.key"
SERVER = "server"
_MEMBER = re.compile(r"(?P<role>bus|products)-(?P<member>[1-9]\d?)", re.ASCII)


class KeysError(Exception):
    """The folder of keys cannot be changed like that; the text says what to do."""


class Rights(NamedTuple):
    """What a client may do: patterns of topics (`a.b`, `a.b.>`, `>`), and of the names of cursors."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    cursors: tuple[str, ...] = ()
    admin: bool = False


_INTERFACE = Rights(publish=(PRODUCTS, CUSTOMERS_TOPIC), subscribe=(PRODUCTS, CUSTOMERS_TOPIC))


class Owner(NamedTuple):
    """Who has keys. `kind`: server, member or client."""

    name: str
    kind: str
    keys: tuple[str, ...]
    rights: Rights | None


def member_name(role: str, member: int) -> str:
    """How a member is called here: `bus-1`."""
    return f"{role}-{member}"


class KeyFolder:
    """`create` or `open` it; then each call changes the files at once."""

    def __init__(self, folder: Path, document: dict[str, Any]) -> None:
        self.folder = folder
        self._document = document

    @classmethod
    def create(cls, folder: Path, members: Mapping[str, Iterable[int]] | None = None) -> "KeyFolder":
        """Keys of the servers, these members (role -> ids), the interfaces, and a client `admin`. Raises KeysError."""
        if (folder / FILE_NAME).exists():
            raise KeysError(f"{folder} holds keys already: use `ringcast keys add`, or name another folder")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        document = {"format": FORMAT, "kind": "keyring", "servers": [], "members": {}, "clients": {}, "revoked": []}
        made = cls(folder, document)
        with made._locked():
            server = Pair.new()
            document["servers"] = [server.public]
            made._write_secret(SERVER_FILE, SERVER, server)
            for role, ids in (members or {}).items():
                for member in ids:
                    made._add_member(role, member)
            made._add_client(ADMIN, Rights(admin=True))
            for name in INTERFACES:
                made._add_client(name, _INTERFACE)
            made._write_keyring()
        return made

    @classmethod
    def open(cls, folder: Path) -> "KeyFolder":
        """A folder that was made before. Raises KeysUnusable."""
        path = folder / FILE_NAME
        document = read_document(path, "keyring", secret=False)
        parse(document, path)
        return cls(folder, document)

    # ------------------------------------------------------------------ changes

    def have(self, role: str, members: Iterable[int]) -> None:
        """Let in the replicas of a role that are not yet: members, or interfaces by one key. Raises KeysError."""
        with self._changed():
            if role in INTERFACES:
                if role not in self._document["clients"]:
                    self._add_client(role, _INTERFACE)
                return
            for member in members:
                if str(member) not in self._document["members"].get(role, {}):
                    self._add_member(role, member)

    def add_member(self, role: str, member: int) -> Path:
        """Let in one member more; returns its file. Raises KeysError."""
        with self._changed():
            return self._add_member(role, member)

    def add_client(self, name: str, rights: Rights) -> Path:
        """Let in one client more; returns its file. Raises KeysError."""
        with self._changed():
            return self._add_client(name, rights)

    def grant(self, name: str, rights: Rights) -> None:
        """What a client may do from now on. Raises KeysError."""
        with self._changed():
            _check_rights(rights)
            self._client(name).update(_rights_table(rights))

    def rotate(self, name: str) -> Path:
        """A new key beside the old one, which is valid until `retire`; returns the file that has it. Raises KeysError.

        Of `server` and a member: the file is the replica's at its next start.
        """
        with self._changed():
            keys = self._keys_of(name)
            if len(keys) >= KEYS_OF_ONE_MAX:
                raise KeysError(f"{name} has {len(keys)} keys already: `ringcast keys retire {name}` ends the old one")
            pair = Pair.new()
            keys.insert(0, pair.public)
            if name == SERVER:
                self._tell_servers()
                return self._write_secret(SERVER_FILE, SERVER, pair)
            if self._is_member(name):
                return self._write_secret(f"{name}.key", "member", pair)
            return self._write_client(name, pair)

    def retire(self, name: str) -> int:
        """End all keys of an owner but the newest; how many. Raises KeysError."""
        with self._changed():
            keys = self._keys_of(name)
            old = keys[1:]
            self._revoke(name, old)
            del keys[1:]
            if name == SERVER:
                self._tell_servers()
            return len(old)

    def revoke(self, name: str) -> int:
        """End all keys of a client or member: it is not let in any more. How many. Raises KeysError."""
        if name == SERVER:
            raise KeysError("without a server key nobody can connect: `ringcast keys rotate server`, then `retire`")
        with self._changed():
            keys = list(self._keys_of(name))
            self._revoke(name, keys)
            match = self._is_member(name)
            if match:
                del self._document["members"][match["role"]][match["member"]]
            else:
                del self._document["clients"][name]
            (self.folder / (f"{name}.key" if match else f"client-{name}.key")).unlink(missing_ok=True)
            return len(keys)

    # ------------------------------------------------------------------ what is there

    def owners(self) -> list[Owner]:
        """Everybody on the list: the servers, members, clients by name."""
        found = [Owner(SERVER, SERVER, tuple(self._document["servers"]), None)]
        for role, members in sorted(self._document["members"].items()):
            ids = sorted(members, key=int)
            found += [Owner(f"{role}-{member}", "member", tuple(members[member]), None) for member in ids]
        for name, row in sorted(self._document["clients"].items()):
            publish, subscribe, cursors = (tuple(row.get(role, ())) for role in ("publish", "subscribe", "cursors"))
            rights = Rights(publish, subscribe, cursors, bool(row.get("admin", False)))
            found.append(Owner(name, "client", tuple(row["keys"]), rights))
        return found

    def revoked(self) -> list[dict[str, str]]:
        """Keys that are not let in any more: public, owner, when."""
        return list(self._document["revoked"])

    # ------------------------------------------------------------------ inside

    def _add_member(self, role: str, member: int) -> Path:
        name = member_name(role, member)
        if _MEMBER.fullmatch(name) is None:
            raise KeysError(f"{name} is no member: write bus-N or products-N, N from 1 to 63")
        members = self._document["members"].setdefault(role, {})
        if str(member) in members:
            raise KeysError(f"{name} has a key already: `ringcast keys rotate {name}` gives it a new one")
        pair = Pair.new()
        members[str(member)] = [pair.public]
        return self._write_secret(f"{name}.key", "member", pair)

    def _add_client(self, name: str, rights: Rights) -> Path:
        if not is_topic(name) or name == SERVER or self._is_member(name):
            raise KeysError(f"{name!r} is no name for a client: use words of A-Z a-z 0-9 _ - joined by dots")
        if name in self._document["clients"]:
            raise KeysError(f"{name} has a key already: `keys rotate {name}` gives it a new one, `keys grant` rights")
        _check_rights(rights)
        pair = Pair.new()
        self._document["clients"][name] = {"keys": [pair.public], **_rights_table(rights)}
        return self._write_client(name, pair)

    @staticmethod
    def _is_member(name: str) -> re.Match[str] | None:
        return _MEMBER.fullmatch(name)

    def _client(self, name: str) -> dict[str, Any]:
        found = self._document["clients"].get(name)
        if found is None:
            known = ", ".join(sorted(self._document["clients"]))
            raise KeysError(f"there is no client {name!r}: there are {known}")
        return found  # type: ignore[no-any-return]

    def _keys_of(self, name: str) -> list[str]:
        if name == SERVER:
            return self._document["servers"]  # type: ignore[no-any-return]
        match = self._is_member(name)
        if match is None:
            return self._client(name)["keys"]  # type: ignore[no-any-return]
        found = self._document["members"].get(match["role"], {}).get(match["member"])
        if found is None:
            raise KeysError(f"there is no member {name}: `ringcast keys list` says who there is")
        return found  # type: ignore[no-any-return]

    def _revoke(self, name: str, keys: Iterable[str]) -> None:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        self._document["revoked"] += [{"public": key, "owner": name, "when": when} for key in keys]

    def _tell_servers(self) -> None:
        """The servers' public keys, to every client whose file is here."""
        for name in self._document["clients"]:
            path = self.folder / f"client-{name}.key"
            if path.exists():
                document = read_document(path, "client", secret=True)
                self._write(path, {**document, "servers": self._document["servers"]}, 0o600)

    def _write_client(self, name: str, pair: Pair) -> Path:
        return self._write_secret(f"client-{name}.key", "client", pair, name=name, servers=self._document["servers"])

    def _write_secret(self, file: str, kind: str, pair: Pair, **more: Any) -> Path:
        document = {"format": FORMAT, "kind": kind, **more, **pair._asdict()}
        return self._write(self.folder / file, document, 0o600)

    def _write_keyring(self) -> None:
        path = self.folder / FILE_NAME
        parse(self._document, path)
        self._write(path, self._document, 0o644)

    @staticmethod
    def _write(path: Path, document: Mapping[str, Any], mode: int) -> Path:
        half = path.with_suffix(".tmp")
        half.unlink(missing_ok=True)
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            json.dump(document, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
        return path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _changed(self) -> Iterator[None]:
        """Change the document on top of what is there now, and write it. Raises KeysUnusable."""
        with self._locked():
            self._document = self.open(self.folder)._document
            yield
            self._write_keyring()


def _check_rights(rights: Rights) -> None:
    for pattern in (*rights.publish, *rights.subscribe, *rights.cursors):
        if not is_pattern(pattern):
            raise KeysError(f"{pattern!r} is no topic or pattern: write a.b, a.b.> or >")
    if rights == Rights():
        raise KeysError("a key that may do nothing is of no use: name --publish, --subscribe or --admin")


def _rights_table(rights: Rights) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in rights._asdict().items()}
