"""A cluster of replica processes on this machine: what `up`, `down`, the demo and the process tests drive.

The folder holds `cluster.json` (who runs where; the client reads its endpoints), and for each replica `replica-N.toml`,
`replica-N.log` and the data folder `replica-N` (`products-N` of the product store). A LocalCluster is the replicas of
one role; those of other roles in the same folder are left as they are. Processes are children of whoever started them,
in sessions of their own, and are known by pid and start time, so that nothing else is ever signalled. The pid of an
entry is the replica itself, below its supervisor (replicas/supervisor.py). All calls block; none needs a loop.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

from replicas import supervisor
from replicas.bus.config import BusConfig
from replicas.bus.standing import WAITS_TO_BE_ADDED
from replicas.keys import ADMIN_FILE, KeyFolder
from replicas.local import registry
from replicas.local.files import (
    BUS,
    HOST,
    LocalClusterError,
    LocalReplica,
    Role,
    addresses,
    peer_entry,
    peers_of,
    read_settings,
    write_replica,
)
from replicas.local.processes import is_running, send_signal, start_time
from replicas.local.registry import FILE_NAME
from sequencer.config import MEMBERS_MAX

#: Keys of a cluster that has some; cluster.json names the operator's, so that commands on this machine just work.
KEYS_NAME = "keys"
READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0
#: Advice that a replica gives for so long is not of the moment.
ADVISED_FOR_S = 1.5
_POLL_S = 0.02
_LOG_TAIL_LINES = 5


class MemoryLost(LocalClusterError):
    """Too few replicas remember what they acknowledged (D2, V0): waiting does not help; the text says what to do."""


class LocalCluster:
    """The replicas of one role in one folder. `create` or `open` it."""

    #: Does a supervisor start the replicas again when they crash (replicas/supervisor.py)?
    supervised = supervisor.is_on(os.environ)

    def __init__(
        self, folder: Path, cluster: str, replicas: Mapping[int, LocalReplica] | None = None, role: Role = BUS
    ) -> None:
        self.role = role
        self.folder = folder
        self.cluster = cluster  # the group's id in hex, "0" before it was born
        self.replicas = dict(replicas or {})
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    # -------------------------------------------------------------- making and finding

    @classmethod
    def create(
        cls,
        folder: Path,
        count: int,
        settings: Mapping[str, object] | None = None,
        hosts: Mapping[int, str] | None = None,
        role: Role = BUS,
        *,
        secure: bool = False,
    ) -> Self:
        """Write the configuration of `count` replicas with free ports; nothing runs yet.

        `settings`: more keys for each replica's file (numbers, text or a table). `hosts`: members that have an address
        of their own. `secure`: make keys in the folder; where there are some, they are used. Raises LocalClusterError.
        """
        if not 1 <= count <= MEMBERS_MAX:
            raise LocalClusterError(f"{count} replicas: a group has 1 to {MEMBERS_MAX}; use 3 or 5")
        folder = folder.resolve()
        cluster = cls(folder, "0", role=role)
        if _entries(folder, role):
            raise LocalClusterError(f"{folder} holds a cluster already: start it again, or name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        if secure:
            KeyFolder.create(folder / KEYS_NAME)
        settings = {**(settings or {}), **cluster._let_in(range(1, count + 1))}
        found = addresses(role, {member: (hosts or {}).get(member, HOST) for member in range(1, count + 1)})
        peers = peers_of(role, found)
        with cluster._edited():
            for member, own in found.items():
                cluster.replicas[member] = write_replica(role, folder, member, own, peers, settings)
        return cluster

    def _let_in(self, members: Iterable[int]) -> dict[str, str]:
        """Keys for members, if the cluster has any; the setting that names them."""
        folder = self.folder / KEYS_NAME
        if not folder.exists():
            return {}
        KeyFolder.open(folder).have(self.role.name, members)
        return {"keys": str(folder)}

    def add(self, member: int, peers: Mapping[int, tuple[str, str]]) -> None:
        """Write the configuration of one replica more, which is to join `peers`: id -> its first two endpoints (V12).

        Other keys are those of the first replica. Nothing runs yet. Raises LocalClusterError.
        """
        if member in self.replicas:
            raise LocalClusterError(f"{self.folder} has a replica {member} already: start it, or take another id")
        data = self.folder / f"{self.role.files}-{member}"
        if data.exists():
            raise LocalClusterError(f"{data} is of a replica of old, and an id is given once: take another id")
        own = addresses(self.role, {member: HOST})[member]
        known = {other: peer_entry(*(one.removeprefix("tcp://") for one in found)) for other, found in peers.items()}
        known[member] = peer_entry(*own[:2])
        self._let_in([member])
        with self._edited():
            self.replicas[member] = write_replica(self.role, self.folder, member, own, known, self._settings())

    def reload(self) -> None:
        """Take what another process wrote since: replicas that were added or forgotten."""
        self.replicas = {replica.id: replica for replica in _entries(self.folder, self.role)}

    def forget(self, member: int) -> None:
        """It is no member any more: its entry goes, its files stay."""
        with self._edited():
            self.replicas.pop(member, None)

    def _settings(self) -> dict[str, object]:
        """What the first replica's file says and is not its own."""
        return read_settings(Path(min(self.replicas.values(), key=lambda one: one.id).config))

    @classmethod
    def open(cls, folder: Path, role: Role = BUS) -> Self:
        """The replicas of a role in a folder, running or not; maybe none. Raises LocalClusterError."""
        if not (folder / FILE_NAME).exists():
            raise LocalClusterError(f"there is no cluster in {folder}: start one with `ringcast up --data {folder}`")
        replicas = {replica.id: replica for replica in _entries(folder, role)}
        return cls(folder.resolve(), str(_document(folder).get(role.cluster_key, "0")), replicas, role)

    @property
    def path(self) -> Path:
        """cluster.json, which `ringcast.connect` takes."""
        return self.folder / FILE_NAME

    @property
    def durability(self) -> str:
        """As the first replica's file says it."""
        return str(self._settings().get("durability") or BusConfig.model_fields["durability"].default)

    @contextlib.contextmanager
    def _edited(self) -> Iterator[None]:
        """Change `replicas` or `cluster` in the file: on top of what other processes wrote, one at a time."""
        with registry.locked(self.folder):
            self.reload()
            yield
            self._write_file()

    def _write_file(self) -> None:
        document = _document(self.folder)
        others = [entry for entry in document.get("replicas", ()) if entry["role"] != self.role.name]
        ours = [asdict(replica) for replica in self.replicas.values()]
        both = [*ours, *others] if self.role is BUS else [*others, *ours]
        if (self.folder / KEYS_NAME).exists():
            document["keys"] = str(self.folder / KEYS_NAME / ADMIN_FILE)
        changed = {"cluster": "0", **document, self.role.cluster_key: self.cluster, "replicas": both}
        registry.write(self.folder, changed)

    # -------------------------------------------------------------- processes

    def running(self) -> list[int]:
        """The ids whose process runs."""
        return [member for member in self.replicas if self._is_running(member)]

    def start(self, members: Iterable[int] | None = None) -> list[int]:
        """Start those that do not run (all, or `members`); returns the ids started. See `wait_ready`."""
        wanted = list(self.replicas) if members is None else list(members)
        started = [member for member in wanted if not self._is_running(member)]
        for member in started:
            self._spawn(member)
        if self.supervised:
            self._wait_listed(started)
        return started

    def _wait_listed(self, members: Iterable[int]) -> None:
        """Each supervisor has a worker, and cluster.json names it; or it has ended, which `wait_ready` finds."""
        left, deadline = set(members), time.monotonic() + READY_TIMEOUT_S
        while left and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            left = {one for one in left if self._reap(one) is None}
            left = {one for one in left if self._supervisor(one)[0] != self._children[one].pid}
        self.reload()

    def _spawn(self, member: int) -> None:
        replica = self._replica(member)
        self._reap(member)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGCAST_")}
        if self.supervised:
            environment[registry.VARIABLE] = f"{self.role.name} {member} {self.folder}"
        with self.log_path(member).open("ab") as log:
            child = subprocess.Popen(
                self.command(replica),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._children[member] = child
        if not self.supervised:
            with self._edited():
                self.replicas[member] = replace(replica, pid=child.pid, started=start_time(child.pid) or "")

    def command(self, replica: LocalReplica) -> list[str]:
        """What is run for a replica; it must become the replica under the same pid."""
        # -P: the folder we are in may have a package `cli` of its own.
        option = "--supervise" if self.supervised else "--no-supervise"
        return [sys.executable, "-P", "-m", "cli", "serve", self.role.name, "--config", replica.config, option]

    def log_path(self, member: int) -> Path:
        """Where a replica's process writes its log."""
        return self.folder / f"{self.role.files}-{member}.log"

    def _replica(self, member: int) -> LocalReplica:
        replica = self.replicas.get(member)
        if replica is None:
            known = ", ".join(map(str, self.replicas))
            raise LocalClusterError(f"there is no {self.role.title} {member} in {self.folder}: it has {known}")
        return replica

    def _reap(self, member: int) -> int | None:
        """The exit code of our own child, if it ended; lets the kernel forget it."""
        child = self._children.get(member)
        return None if child is None else child.poll()

    def signal(self, member: int, number: signal.Signals) -> bool:
        """Signal one replica's process, or its supervisor while that waits; False if neither runs."""
        replica = self._replica(member)
        if not is_running(replica.pid, replica.started):
            self.reload()  # it may have crashed since, and have another pid
            replica = self._replica(member)
        if send_signal(replica.pid, replica.started, number):
            return True
        return send_signal(*self._supervisor(member), number)

    def _is_running(self, member: int) -> bool:
        """Does its process run, or the supervisor that is about to start it again?"""
        return self._replica(member).running or is_running(*self._supervisor(member))

    def _supervisor(self, member: int) -> tuple[int, str]:
        """The parent of a replica, by pid and start time; (0, "") if it never had one."""
        return registry.supervisor_of(_document(self.folder), self.role.name, member)

    def kill(self, member: int) -> None:
        """kill -9, and wait until the process is gone."""
        self.signal(member, signal.SIGKILL)
        self.wait_gone([member], STOP_TIMEOUT_S)

    def stop(self, members: Iterable[int] | None = None, timeout_s: float = STOP_TIMEOUT_S) -> list[int]:
        """SIGTERM (V11) and wait; what does not end in time is killed. Returns the ids that ran."""
        wanted = list(self.replicas) if members is None else list(members)
        signalled = [member for member in wanted if self.signal(member, signal.SIGTERM)]
        for member in signalled:
            self.signal(member, signal.SIGCONT)  # a stopped process can't hear a SIGTERM
        for member in self.wait_gone(signalled, timeout_s):
            self.signal(member, signal.SIGKILL)
        self.wait_gone(signalled, timeout_s)
        return signalled

    def restart(self, member: int) -> None:
        """Start a replica whose process ended; see `wait_ready`."""
        self.start([member])

    def detach(self) -> None:
        """Let go of the processes: they outlive this one."""
        for child in self._children.values():
            child.returncode = child.returncode or 0  # nobody is going to wait for it
        self._children.clear()

    def wait_gone(self, members: Iterable[int], timeout_s: float) -> list[int]:
        """Wait until the processes ended; returns those that have not."""
        left = list(members)
        deadline = time.monotonic() + timeout_s
        while left:
            for member in list(left):
                ours = member in self._children
                if self._reap(member) is not None if ours else not self._is_running(member):
                    left.remove(member)
            if time.monotonic() > deadline:
                break
            if left:
                time.sleep(_POLL_S)
        return left

    # -------------------------------------------------------------- readiness

    def wait_ready(self, members: Iterable[int] | None = None, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until each orders and acknowledges, or waits to be added (V12).

        Raises LocalClusterError with the end of its log, or MemoryLost.
        """
        advised_since: dict[int, float] = {}

        def reached(member: int) -> bool:
            if self.is_ready(member) or self.waits_to_be_added(member):
                return True
            advice = self.advice(member)
            if advice is None:
                advised_since.pop(member, None)
            elif time.monotonic() - advised_since.setdefault(member, time.monotonic()) > ADVISED_FOR_S:
                known = (self.advice(one) for one in self.replicas)
                raise MemoryLost("\n".join(dict.fromkeys(one for one in known if one)))
            return False

        self._wait("ready", reached, members, timeout_s)

    def wait_live(self, members: Iterable[int] | None = None, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until each answers, with or without a quorum. Raises LocalClusterError with the end of its log."""
        self._wait("up", lambda member: self._ask(member, "/readyz") is not None, members, timeout_s)

    def _wait(self, what: str, reached: Callable[[int], bool], members: Iterable[int] | None, timeout_s: float) -> None:
        left = list(self.replicas) if members is None else list(members)
        deadline = time.monotonic() + timeout_s
        while left:
            for member in list(left):
                code = self._reap(member)
                if code is not None:
                    raise LocalClusterError(
                        f"{self.role.title} {member} ended with exit code {code}: {self._log_tail(member)}"
                    )
                if reached(member):
                    left.remove(member)
            if left and time.monotonic() > deadline:
                names = ", ".join(map(str, left))
                raise LocalClusterError(
                    f"{self.role.title} {names} was not {what} within {timeout_s:g} s: {self._log_tail(left[0])}"
                )
            if left:
                time.sleep(_POLL_S)

    def is_ready(self, member: int) -> bool:
        """Does it order and acknowledge now? Learns the cluster id from the first that does."""
        answer = self._ask(member, "/readyz")
        if answer is None or not answer.get("ready"):
            return False
        self.adopt(str(answer.get("cluster", "0")))
        return True

    def adopt(self, cluster: str) -> None:
        """This is the group's id, in hex."""
        if cluster != self.cluster:
            with self._edited():
                self.cluster = cluster

    def waits_to_be_added(self, member: int) -> bool:
        """Does it run, outside the members (V12)? Then only `members add` makes it ready."""
        return (self._ask(member, "/readyz") or {}).get("state") == WAITS_TO_BE_ADDED

    def advice(self, member: int) -> str | None:
        """What only an operator can mend, as the replica says it; None if there is nothing, or it does not answer."""
        found = (self._ask(member, "/readyz") or {}).get("advice")
        return str(found) if found else None

    def _ask(self, member: int, path: str) -> dict[str, object] | None:
        host, _, port = self._replica(member).http.removeprefix("http://").rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=1.0)
        try:
            connection.request("GET", path)
            found = json.loads(connection.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return found if isinstance(found, dict) else None

    def _log_tail(self, member: int) -> str:
        path = self.log_path(member)
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return f"see {path}" + "".join(f"\n  {line}" for line in lines)


def _document(folder: Path) -> dict[str, Any]:
    """cluster.json; empty if there is none. Raises LocalClusterError."""
    try:
        return registry.read(folder)
    except (OSError, ValueError) as error:
        raise _unreadable(folder / FILE_NAME, error) from None


def _entries(folder: Path, role: Role) -> list[LocalReplica]:
    """The entries of a role. Raises LocalClusterError."""
    try:
        found = [LocalReplica(**entry) for entry in _document(folder).get("replicas", ())]
    except (TypeError, KeyError) as error:
        raise _unreadable(folder / FILE_NAME, error) from None
    return [replica for replica in found if replica.role == role.name]


def _unreadable(path: Path, why: object) -> LocalClusterError:
    return LocalClusterError(f"{path} cannot be read ({why}): `ringcast up` writes it")
