"""Keys of one replica at work: its secured sockets, who may connect to them, and what becomes of it when keys change.

Every socket is in a domain, which says whose keys open it: the members of a role (`peer-bus`), or clients (`client`).
The keyring is watched: a key that is added is let in, one that is revoked or changed is cut off, within two seconds of
the file's change and without a restart. A replica's own secrets are read at start.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import structlog
import zmq

from broker.doors import Door, Holder
from broker.grants import ANYTHING, Grant
from broker.keyring import FILE_NAME, Keyring, read_keyring
from broker.ports import Port
from broker.sockets import CURVE_PART_BYTES, Identify, ZmqContext, ZmqSocket
from broker.zap import Authenticator
from ringcast.errors import KeysUnusable
from ringcast.keys import Pair, read_document, read_pair, stamp_of

CLIENTS = "client"
WATCH_INTERVAL_S = 1.0
SERVER_FILE = "server.key"


class Secrets(NamedTuple):
    """What a replica proves: itself to its peers (None: it has no peers), and the cluster to clients."""

    server: Pair
    member: Pair | None


def member_file(role: str, member: int) -> str:
    """The name of a member's secret in the folder of keys."""
    return f"{role}-{member}.key"


def read_secrets(folder: Path, role: str, member: int | None) -> Secrets:
    """From the folder of keys. Raises KeysUnusable."""
    pairs = {}
    names = {"server": SERVER_FILE} | ({"member": member_file(role, member)} if member is not None else {})
    for kind, name in names.items():
        path = folder / name
        pairs[kind] = read_pair(read_document(path, kind, secret=True), path)
    return Secrets(pairs["server"], pairs.get("member"))


class Security:
    """One process's. Made on the loop before any secured socket is bound; `watch` runs until the end.

    `on_change` callbacks are called when the keyring changed: connections that lost their right are cut by then.
    """

    def __init__(self, context: ZmqContext, folder: Path, role: str, member: int | None) -> None:
        """Raises KeysUnusable."""
        self._path = folder / FILE_NAME
        self._stamp = stamp_of(self._path)
        self.keyring: Keyring = read_keyring(self._path)
        self.secrets = read_secrets(folder, role, member)
        self._role = role
        if self.secrets.server.public not in self.keyring.servers:
            raise _foreign(folder / SERVER_FILE, "servers")
        own = self.secrets.member
        if own is not None and self.keyring.owners.get(own.public) != (role, member):
            raise _foreign(folder / member_file(role, member or 0), f"members.{role}.{member}")
        self.counters: Counter[str] = Counter()
        self.on_change: list[Callable[[], None]] = []
        self._doors: list[tuple[str, Door]] = []
        self._log = structlog.get_logger()
        self.authenticator = Authenticator(context, self.refusal)

    @property
    def peers_domain(self) -> str:
        """Where the members of our role are let in."""
        return f"peer-{self._role}"

    # ------------------------------------------------------------------ sockets

    def listen(self, socket: ZmqSocket, domain: str) -> None:
        """Secure a socket that is to be bound."""
        pair = self.secrets.server if domain == CLIENTS else self.secrets.member
        assert pair is not None, "a role without members has no peers' port"
        for option, value in pair.listens().items():
            socket.setsockopt(option, value)
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def door(self, port: Port, domain: str) -> Door:
        """The connections of a secured socket that is bound."""
        door = Door(port)
        port.meter.part_bytes += CURVE_PART_BYTES
        port.key_of = lambda descriptor: self._name_of(door, descriptor)
        self._doors.append((domain, door))
        return door

    def dial(self, socket: ZmqSocket, key: str) -> None:
        """Secure a socket that is to connect to the peer that has this key."""
        assert self.secrets.member is not None
        for option, value in self.secrets.member.dials(key).items():
            socket.setsockopt(option, value)

    # ------------------------------------------------------------------ who is who

    def refusal(self, domain: str, key: str) -> str:
        """Why a key is not let in here; "" if it is."""
        keyring = self.keyring
        if key in keyring.revoked:
            return "revoked"
        if key not in keyring.grants and key not in keyring.owners:
            return "unknown"
        owner = keyring.owners.get(key)
        fits = key in keyring.grants if domain == CLIENTS else owner is not None and domain == f"peer-{owner[0]}"
        return "" if fits else "wrong_port"

    def grant(self, key: str) -> Grant | None:
        """What the client with this key may do."""
        return self.keyring.grants.get(key)

    def _name_of(self, door: Door, descriptor: int) -> str:
        """For the log: whose key is behind a connection; "" if it is not known yet."""
        holder = door.holders.get(descriptor)
        if holder is None:
            return ""
        grant = self.grant(holder.key)
        role, member = self.keyring.owners.get(holder.key, ("", 0))
        return grant.key if grant is not None else f"{role}-{member}" if role else holder.key

    def sender(self, key: str) -> int:
        """The member of our role that has this key; 0: none."""
        role, member = self.keyring.owners.get(key, ("", 0))
        return member if role == self._role else 0

    def keys_of(self, member: int) -> tuple[str, ...]:
        """What a member of our role may prove, newest first."""
        return self.keyring.of_member(self._role, member)

    # ------------------------------------------------------------------ while it runs

    async def watch(self) -> None:
        """Take changes of the keyring; one that cannot be read is logged, and changes nothing."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            self.look()

    def look(self) -> None:
        """Read the keyring again if its file changed."""
        stamp = stamp_of(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            keyring = read_keyring(self._path)
        except KeysUnusable as error:
            self.counters["keyring_refused"] += 1
            self._log.error("keyring_refused", why=str(error), next="the keys of before stay valid")
            return
        before, self.keyring = self.keyring, keyring

        def changed(holder: Holder) -> bool:
            key = holder.key
            owner, grant = before.owners.get(key), before.grants.get(key)
            return (owner, grant) != (keyring.owners.get(key), keyring.grants.get(key))

        cut = sum(door.cut(changed) for _, door in self._doors)
        self.counters["keyring_read"] += 1
        self.counters["cut"] += cut
        self._log.info("keyring_read", clients=len(keyring.grants), members=len(keyring.owners), cut=cut)
        for callback in self.on_change:
            callback()

    def all_counters(self) -> Counter[str]:
        """Of handshakes, of broken connections and of the keyring, for metrics."""
        found = self.counters + self.authenticator.counters
        for _, door in self._doors:
            found += door.counters
        return found

    def close(self) -> None:
        """Before the context ends."""
        self.authenticator.close()


def clients_door(security: Security | None, router: Port, on_change: Callable[[], None]) -> Identify | None:
    """For the reader of a bound ROUTER of clients: who sent each message, and a call when the keyring changed."""
    if security is None:
        return None
    security.on_change.append(on_change)
    return security.door(router, CLIENTS).of_route


def grant_of(security: Security | None, key: str) -> Grant | None:
    """What a client may do; None: it was revoked in this moment. Without keys everybody may do anything."""
    return ANYTHING if security is None else security.grant(key)


def _foreign(path: Path, entry: str) -> KeysUnusable:
    why = f"its public key is not among `{entry}` of {FILE_NAME}"
    return KeysUnusable(path=str(path), why=why, next="take both files from one `ringcast keys init`, or `keys rotate`")
