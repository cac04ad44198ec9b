"""`ringcast doctor`: what could be wrong, looked at one by one, each with what to do. Nothing is changed.

Of one replica on this machine: its versions, clock, disk, ports, keys and the way to its peers. Of a running cluster:
what each replica says, and whether they say the same.
"""

import asyncio
import ctypes
import os
import resource
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import zmq

from broker.keyring import FILE_NAME, read_keyring
from broker.security import read_secrets
from replicas.bus.addresses import blame
from replicas.bus.config import BusConfig
from replicas.bus.overview import lacks
from replicas.bus.space import volume_bytes
from replicas.hosting import check_libzmq
from replicas.settings import ConfigError, ReplicaConfig
from replicas.versions import VERSION, libraries
from ringcast.errors import KeysUnusable
from store.aside import present

Verdict: TypeAlias = Literal["ok", "warning", "failed"]

SYNC_SLOW_S = 0.05
SYNC_TRIES = 5
FREE_MIN_BYTES = 1 << 30
DESCRIPTORS_MIN = 4_096
CONNECT_TIMEOUT_S = 1.0
CLOCK_OFFSET_MAX_S = 0.5
#: adjtimex(2): the kernel's clock is not disciplined by anybody.
_TIME_ERROR = 5
_LOOPBACK = ("127.", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class Finding:
    """One look. `next`: what to do, "" where there is nothing to do."""

    check: str
    verdict: Verdict
    what: str
    next: str = ""


def machine() -> list[Finding]:
    """What all replicas here stand on."""
    return [*versions(), *clock(), *descriptors()]


def examine(config: ReplicaConfig, role: str) -> list[Finding]:
    """A replica as its configuration describes it, whether it runs or not."""
    parts = (disk(config), folders(config), ports(config), keys(config, role), peers(config))
    return [finding for part in parts for finding in part]


# ------------------------------------------------------------------ one replica, on this machine


def versions() -> Iterator[Finding]:
    """Ours, and of the libraries."""
    said = ", ".join(f"{name} {number}" for name, number in libraries().items())
    try:
        check_libzmq()
    except ConfigError as error:
        yield Finding("versions", "failed", str(error), "install pyzmq from its wheel")
        return
    if not zmq.has("curve"):
        what = "this libzmq was built without CURVE, so no keys can be used"
        yield Finding("versions", "warning", what, "install pyzmq from its wheel")
    yield Finding("versions", "ok", f"ringcast {VERSION}, {said}")


def descriptors() -> Iterator[Finding]:
    """How many files and connections a process may open here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < DESCRIPTORS_MIN:
        what = f"a process may open {hard} files and connections (RLIMIT_NOFILE)"
        yield Finding("descriptors", "warning", what, f"raise the hard limit to {DESCRIPTORS_MIN} or more")
    else:
        yield Finding("descriptors", "ok", "enough files and connections may be open (RLIMIT_NOFILE)")


def clock() -> Iterator[Finding]:
    """Is the clock kept by somebody? Ringcast orders without it; retention by age, and people, go by it."""
    state = _clock_state()
    if state == _TIME_ERROR:
        yield Finding("clock", "warning", "the kernel says that nobody keeps this clock", "run chrony, or another NTP")
    else:
        yield Finding("clock", "ok", "kept" if state >= 0 else "not to be seen from here")


def _clock_state() -> int:
    """adjtimex(2) without a change; -1 where it cannot be asked."""
    with suppress(OSError, AttributeError):
        found = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
        return int(found)
    return -1


def disk(config: ReplicaConfig) -> Iterator[Finding]:
    """Is there room for what is to be kept, and how long does a sync take?"""
    if not config.data.name:
        return  # an interface keeps nothing
    folder = next(one for one in (config.data, *config.data.absolute().parents) if one.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        owner = folder.stat().st_uid
        what = f"{folder} belongs to user {owner}, and this is user {os.getuid()}"
        yield Finding("disk", "failed", what, f"chown -R {os.getuid()} {folder}")
        return
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    wanted = volume_bytes(config, state_bytes=0) if isinstance(config, BusConfig) else 0
    used = sum(path.stat().st_blocks * 512 for path in config.data.rglob("*") if path.is_file())
    said = f"{folder}: {free / 1e9:.1f} GB free"
    if free < FREE_MIN_BYTES:
        yield Finding("disk", "failed", said, "free space: a replica whose disk is full leaves the ring")
    elif free + used < wanted:
        what = f"{said}, and its settings let the folder grow to {wanted / 1e9:.1f} GB"
        yield Finding("disk", "warning", what, "lower retention_bytes, or take a larger disk")
    else:
        yield Finding("disk", "ok", said)
    seconds = _sync_seconds(folder)
    slow = seconds > SYNC_SLOW_S
    what, step = f"a sync takes {seconds * 1e3:.1f} ms", "take a faster disk; every receipt waits for a sync"
    yield Finding("sync", "warning" if slow else "ok", what, step if slow else "")


def folders(config: ReplicaConfig) -> Iterator[Finding]:
    """Was a data folder set aside (D6)?"""
    if not config.data.name:
        return
    for one in present(config.data):
        what = f"it was damaged and set aside: {one.folder} ({one.why})"
        if one.pending:
            step = (
                "start the other replicas, so that it comes back through them; if too few have data: restore a backup, "
                "or give up what was there with `ringcast recover --accept-loss`"
            )
            yield Finding("folder", "failed", what, step)
        else:
            yield Finding("folder", "warning", what, "it came back; look at the disk, then move that folder away")


def _sync_seconds(folder: Path) -> float:
    """The median of some."""
    taken = []
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        for _ in range(SYNC_TRIES):
            started = time.perf_counter()
            file.write(bytes(4_096))
            file.flush()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    return sorted(taken)[SYNC_TRIES // 2]


def ports(config: ReplicaConfig) -> Iterator[Finding]:
    """Does the replica listen at its addresses, or could it?"""
    binds = config.binds
    listens = {name for name, address in binds.items() if _answers(address)}
    if len(listens) == len(binds):
        yield Finding("ports", "ok", f"{len(binds)} addresses, the replica listens")
        return
    for name, address in binds.items():
        # A replica binds all or ends, so an address that answers beside one that does not is another program's.
        why = "taken, and the replica does not run" if name in listens else _refusal(address)
        if why:
            yield Finding("ports", "failed", f"{name} = {address}: {why}", blame(address))
    step = "start it; if it runs, its log says why it does not listen"
    yield Finding("ports", "warning", f"{len(binds)} addresses, the replica does not run", step)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) if port.isdigit() else 0


def _answers(address: str) -> bool:
    host, port = _split(address)
    with suppress(OSError), socket.create_connection((_reachable(host), port), timeout=CONNECT_TIMEOUT_S):
        return True
    return False


def _reachable(host: str) -> str:
    """Where a wildcard is reached from here."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}.get(host, host)  # noqa: S104


def _refusal(address: str) -> str:
    """Why it cannot be bound; "" if it can."""
    host, port = _split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            return os.strerror(error.errno) if error.errno else str(error)
    return ""


def keys(config: ReplicaConfig, role: str) -> Iterator[Finding]:
    """Can they be used, are they this replica's, and has every peer one?"""
    folder = config.keys
    if folder is None:
        if all(address.startswith(_LOOPBACK) for address in config.binds.values()):
            yield Finding("keys", "ok", "none, and every address is this machine's own")
        else:
            step = "`ringcast keys init`, and set RINGCAST_KEYS; or close the ports to everybody else"
            yield Finding("keys", "warning", "none: whoever reaches a port can do everything", step)
        return
    member = None if role in {"sellers", "buyers"} else config.id
    try:
        keyring, secrets = read_keyring(folder / FILE_NAME), read_secrets(folder, role, member)
    except KeysUnusable as error:
        yield Finding("keys", "failed", f"{error.details['path']}: {error.details['why']}", str(error.details["next"]))
        return
    step = "take server.key, the member's key and keyring.json from one folder"
    if secrets.server.public not in keyring.servers:
        yield Finding("keys", "failed", f"{folder}/server.key is not on the list", step)
    if secrets.member is not None and keyring.owners.get(secrets.member.public) != (role, config.id):
        yield Finding("keys", "failed", f"the key of {role}-{config.id} is not on the list", step)
    without = [one for one in getattr(config, "peers", {}) if member is not None and not keyring.of_member(role, one)]
    if without:
        names = ", ".join(f"{role}-{one}" for one in without)
        yield Finding("keys", "failed", f"{names} of [peers] has no key", f"ringcast keys add {role}-{without[0]}")
    yield Finding("keys", "ok", f"{len(keyring.owners)} members and {len(keyring.grants)} clients are let in")


def peers(config: ReplicaConfig) -> Iterator[Finding]:
    """Are they found by name, and do they listen?"""
    for member, address in getattr(config, "peers", {}).items():
        if member == config.id or not hasattr(address, "peer_endpoint"):
            continue
        yield reach(f"peer {member}", address.peer_endpoint)


def reach(what: str, endpoint: str) -> Finding:
    """Does anything listen there?"""
    found = urlsplit(endpoint)
    where = f"{what} at {found.hostname}:{found.port}"
    try:
        socket.create_connection((found.hostname or "", found.port or 0), timeout=CONNECT_TIMEOUT_S).close()
    except socket.gaierror:
        return Finding("peers", "failed", f"{where}: the name is not known", "correct the address, or the name server")
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else "no answer"
        return Finding("peers", "warning", f"{where}: {why}", "start it, or open the way (firewall, NetworkPolicy)")
    return Finding("peers", "ok", f"{where} listens")


# ------------------------------------------------------------------ a running cluster


def compare(replicas: Sequence[Mapping[str, Any]], asked_us: int) -> list[Finding]:
    """What the replicas say (rows of `Overview.look`), asked at `asked_us` of this machine's wall clock."""
    return [finding for part in (_states(replicas), _agreement(replicas, asked_us)) for finding in part]


def _states(replicas: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for one in replicas:
        who = f"replica {one['replica']}"
        if "error" in one:
            yield Finding("replicas", "failed", f"{who}: {one['error']}", "start it; see its log")
        elif one["state"] != "serving":
            step = str(one.get("advice") or "docs/operations.md, Health, says what this state wants")
            why = f" ({one['links']})" if one.get("links") else ""
            yield Finding("replicas", "failed", f"{who} is {one['state']}{why}", step)
        else:
            yield Finding("replicas", "ok", f"{who} serves")
        for sentence in one.get("limits", ()):
            yield Finding("limits", "warning", f"{who}: {sentence}", "docs/operations.md, Limits of a process")
        if found := lacks(one):
            step = "wait until it is whole, and replace or remove no other replica before"
            yield Finding("replicas", "warning", f"{who} {found}", step)
        if one.get("possible_loss"):
            what = f"{who}: an operator made a view with `recover --accept-loss`"
            yield Finding("replicas", "warning", what, "compare what you published with what is there")


def _agreement(replicas: Sequence[Mapping[str, Any]], asked_us: int) -> Iterator[Finding]:
    rows = [one for one in replicas if "error" not in one]
    for key, step in (
        ("version", "finish the rolling upgrade"),
        ("durability", "set the same durability in every file, and restart"),
        ("cluster_name", "set the same cluster_name in every file, and restart"),
        ("members", "wait: a change of members is under way, or a replica catches up"),
    ):
        found = {str(one.get(key)) for one in rows}
        if len(found) > 1:
            yield Finding("agreement", "warning", f"{key} differs: {' and '.join(sorted(found))}", step)
        elif found:
            yield Finding("agreement", "ok", f"{key} is the same everywhere: {found.pop()}")
    for one in rows:
        offset = (int(one.get("wall_us", asked_us)) - asked_us) / 1e6
        if abs(offset) > CLOCK_OFFSET_MAX_S:
            what = f"the clock of replica {one['replica']} is {offset:+.1f} s from this machine's"
            yield Finding("clock", "warning", what, "run chrony, or another NTP, on both")
    yield from _ring_time(rows)


def _ring_time(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """D7: whose clock the ring does not go by, and whether the ring's time is right."""
    for one in rows:
        clock = one.get("clock")
        if not clock or clock["quorum_us"] is None:
            continue
        offset = clock["offsets_us"].get(str(one["replica"]), 0) / 1e6
        if one["replica"] in clock["beyond"]:
            what = (
                f"the clock of replica {one['replica']} is {offset:+.1f} s off what a quorum's say: it orders nothing"
            )
            yield Finding("clock", "failed", what, "run chrony, or another NTP, there")
        else:
            yield Finding("clock", "ok", f"replica {one['replica']} is {offset:+.3f} s off what a quorum's clocks say")
    ahead = max((one["clock"]["ahead_us"] - one["clock"]["bound_us"] for one in rows if one.get("clock")), default=0)
    if ahead > 0:
        step = "when the clocks are right, run `ringcast clock reset`"
        yield Finding("clock", "failed", "the ring's time is ahead of the clocks of a quorum", step)


def worst(findings: Iterable[Finding]) -> Verdict:
    """Of all of them."""
    found = {finding.verdict for finding in findings}
    return "failed" if "failed" in found else "warning" if "warning" in found else "ok"


async def examine_all(configs: Iterable[tuple[str, ReplicaConfig]]) -> dict[str, list[Finding]]:
    """Several replicas of this machine at the same time: name -> findings."""
    named = [(f"{role} {config.id}", role, config) for role, config in configs]
    found = await asyncio.gather(*(asyncio.to_thread(examine, config, role) for _, role, config in named))
    return {name: findings for (name, _, _), findings in zip(named, found, strict=True)}
