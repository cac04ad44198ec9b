"""A client's keys: one file that says who it is and which clusters' replicas it believes (CURVE, RFC 26 of ZeroMQ).

`ringcast keys add NAME` writes the file, `connect(..., keys=FILE)` or RINGCAST_KEYS names it. Without keys a client
speaks plain ZeroMQ, which a replica with keys refuses, and the other way round.

    {"format": 1, "kind": "client", "name": "billing", "public": "...", "secret": "...", "servers": ["..."]}

Keys are 40 characters of Z85. `servers` are the public keys of the replicas' client ports, newest first: two while they
are rotated. The file is read again when it changed, so a rotated key needs no restart.
"""

import json
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from ringcast.errors import KeysUnusable

ENVIRONMENT = "RINGCAST_KEYS"
FORMAT = 1
SERVERS_MAX = 4
FILE_BYTES_MAX = 1 << 20
_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
#: Others may do nothing with a secret, and the owner's group may only read it (as Kubernetes mounts it).
_FORBIDDEN_MODE = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP


class Pair(NamedTuple):
    """A public key and its secret, Z85."""

    public: str
    secret: str

    @classmethod
    def new(cls) -> "Pair":
        """From the operating system's randomness."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    def dials(self, server: str) -> dict[int, bytes]:
        """Options of a socket that connects to the owner of `server`."""
        return {
            zmq.CURVE_SERVERKEY: server.encode(),
            zmq.CURVE_PUBLICKEY: self.public.encode(),
            zmq.CURVE_SECRETKEY: self.secret.encode(),
        }

    def listens(self) -> dict[int, int | bytes]:
        """Options of a socket that binds."""
        return {
            zmq.CURVE_SERVER: 1,
            zmq.CURVE_PUBLICKEY: self.public.encode(),
            zmq.CURVE_SECRETKEY: self.secret.encode(),
        }


class ClientKeys(NamedTuple):
    """What a client's key file says."""

    name: str
    pair: Pair
    servers: tuple[str, ...]


def is_key(value: object) -> bool:
    """Could it be a key?"""
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


def read_document(path: Path, kind: str, *, secret: bool) -> dict[str, Any]:
    """A key file of one kind. `secret`: it must be closed to others. Raises KeysUnusable."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if secret and mode & _FORBIDDEN_MODE:
                why = f"its mode is {stat.S_IMODE(mode):04o}, and it holds a secret"
                raise KeysUnusable(path=str(path), why=why, next=f"close it to others: chmod 600 {path}")
            if not secret and mode & stat.S_IWOTH:
                why = f"its mode is {stat.S_IMODE(mode):04o}, so anybody may let himself in"
                raise KeysUnusable(path=str(path), why=why, next=f"close it for writing: chmod 644 {path}")
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        why = str(error.strerror)
        next_step = "name a file that exists and can be read; `ringcast keys init` and `keys add` make them"
        raise KeysUnusable(path=str(path), why=why, next=next_step) from None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if len(text) > FILE_BYTES_MAX or not isinstance(found, dict):
        raise KeysUnusable(path=str(path), why="it is no key file (JSON)", next="make it with `ringcast keys`")
    if found.get("format") != FORMAT:
        why = f"its format is {found.get('format')!r}, this version reads {FORMAT}"
        raise KeysUnusable(path=str(path), why=why, next="upgrade the older side")
    if found.get("kind") != kind:
        why = f"it is of kind {found.get('kind')!r}, a {kind} file is needed"
        raise KeysUnusable(path=str(path), why=why, next="name the right file")
    return found


def read_pair(document: Mapping[str, Any], path: Path) -> Pair:
    """The two keys of a file. Raises KeysUnusable if one is none, or they do not belong together."""
    public, secret = document.get("public"), document.get("secret")
    if not is_key(public) or not is_key(secret) or zmq.curve_public(str(secret).encode()).decode() != public:
        why = "`public` and `secret` are no pair of keys"
        raise KeysUnusable(path=str(path), why=why, next="make it anew with `ringcast keys`")
    return Pair(str(public), str(secret))


def read_client_keys(path: Path) -> ClientKeys:
    """A client's file. Raises KeysUnusable."""
    document = read_document(path, "client", secret=True)
    servers = document.get("servers")
    if not isinstance(servers, list) or not 1 <= len(servers) <= SERVERS_MAX or not all(map(is_key, servers)):
        why = f"`servers` is no list of 1 to {SERVERS_MAX} keys"
        raise KeysUnusable(path=str(path), why=why, next="make it anew with `ringcast keys add`")
    return ClientKeys(str(document.get("name", "")), read_pair(document, path), tuple(servers))


class Credentials:
    """What a client proves itself with on each new connection; nothing, without a file.

    Of several keys that a server may have it begins with the one that answered last.
    """

    def __init__(self, path: Path | None) -> None:
        """Raises KeysUnusable."""
        self.path = path
        self._seen: tuple[int, ...] = ()
        self._keys: ClientKeys | None = None
        self._server = 0
        if path is not None:
            self._keys = read_client_keys(path)
            self._seen = stamp_of(path)

    @property
    def name(self) -> str:
        """As the file calls its owner; "" without keys."""
        return self._keys.name if self._keys else ""

    @property
    def attempts(self) -> int:
        """How many server keys there are to be tried, at least 1."""
        return len(self._keys.servers) if self._keys else 1

    def options(self) -> dict[int, bytes]:
        """For the next socket that connects to a client port or to a feed."""
        if self._keys is None or self.path is None:
            return {}
        stamp = stamp_of(self.path)
        if stamp != self._seen:
            self._seen = stamp
            with suppress(KeysUnusable):  # half written, or gone: what was read before may still do
                self._keys = read_client_keys(self.path)
        return self._keys.pair.dials(self._keys.servers[self._server % len(self._keys.servers)])

    def try_next_server(self) -> None:
        """The other side does not own the server key that `options` used last."""
        self._server += 1


#: Speaks plain ZeroMQ.
PLAIN = Credentials(None)


def find_credentials(keys: str | os.PathLike[str] | None, beside: str) -> Credentials:
    """`keys`, else RINGCAST_KEYS, else what cluster.json names (`beside`), else none.

    A folder: its client.key, else its client-admin.key, else its only one.

    Raises KeysUnusable.
    """
    named = os.fspath(keys) if keys is not None else os.environ.get(ENVIRONMENT) or beside
    if not named:
        return PLAIN
    path = Path(named)
    return Credentials(_in_folder(path) if path.is_dir() else path)


def _in_folder(folder: Path) -> Path:
    for name in ("client.key", "client-admin.key"):
        if (folder / name).exists():
            return folder / name
    found = sorted(folder.glob("client-*.key"))
    if len(found) != 1:
        why = f"the folder has {len(found)} client keys" + "".join(f", {one.name}" for one in found)
        raise KeysUnusable(path=str(folder), why=why, next="name one file, with keys= or RINGCAST_KEYS")
    return found[0]


def stamp_of(path: Path) -> tuple[int, ...]:
    """Changes when the file does, also where a mounted Secret is a link that comes to lead elsewhere."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_ino, found.st_size)
