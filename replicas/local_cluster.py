"""A cluster of replica processes on this machine: what `up`, `down`, the demo and the process tests drive.

The folder holds `cluster.json` (who runs where; the client reads its endpoints), and for each replica `replica-N.toml`,
`replica-N.log` and the data folder `replica-N`. Processes are children of whoever started them, in sessions of their
own, and are known by pid and start time, so that nothing else is ever signalled. All calls block; none needs a loop.
"""

import contextlib
import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from replicas.addresses import NoFreePort, free_ports
from replicas.config import BusConfig
from replicas.processes import is_running, send_signal, start_time
from replicas.standing import WAITS_TO_BE_ADDED
from sequencer.config import MEMBERS_MAX

FILE_NAME = "cluster.json"
LOCK_NAME = "cluster.lock"
HOST = "127.0.0.1"
READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0
#: Advice that a replica gives for so long is not of the moment.
ADVISED_FOR_S = 1.5
_BINDS = ("peer", "pub", "client", "feed", "http")
_POLL_S = 0.02
_LOG_TAIL_LINES = 5


class LocalClusterError(Exception):
    """The cluster on this machine cannot do that; the text says what to do."""


class MemoryLost(LocalClusterError):
    """Too few replicas remember what they acknowledged (D2, V0): waiting does not help; the text says what to do."""


@dataclass(frozen=True, slots=True)
class LocalReplica:
    """One entry of `replicas` in cluster.json. Endpoints as ZeroMQ addresses, `http` as a URL; pid 0: never started."""

    role: str
    id: int
    pid: int
    started: str
    config: str
    peer: str
    client: str
    feed: str
    http: str
    data: str

    @property
    def running(self) -> bool:
        """Does this very process run?"""
        return is_running(self.pid, self.started)


class LocalCluster:
    """The cluster of one folder. `create` or `open` it."""

    def __init__(self, folder: Path, cluster: str, replicas: Mapping[int, LocalReplica]) -> None:
        self.folder = folder
        self.cluster = cluster  # the cluster id in hex, "0" before it was born
        self.replicas = dict(replicas)
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    # -------------------------------------------------------------- making and finding

    @classmethod
    def create(
        cls,
        folder: Path,
        count: int,
        settings: Mapping[str, object] | None = None,
        hosts: Mapping[int, str] | None = None,
    ) -> Self:
        """Write the configuration of `count` replicas with free ports; nothing runs yet.

        `settings`: more keys for each replica's file (numbers, text or a table `group`). `hosts`: members that have an
        address of their own. Raises LocalClusterError.
        """
        if not 1 <= count <= MEMBERS_MAX:
            raise LocalClusterError(f"{count} replicas: a ring has 1 to {MEMBERS_MAX}; use 3 or 5")
        folder = folder.resolve()
        if (folder / FILE_NAME).exists():
            raise LocalClusterError(f"{folder} holds a cluster already: start it again, or name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        ports = _free_ports(count)
        where = {member: (hosts or {}).get(member, HOST) for member in range(1, count + 1)}
        addresses = {member: [f"{host}:{next(ports)}" for _ in _BINDS] for member, host in where.items()}
        peers = {member: _peer(*found[:2]) for member, found in addresses.items()}
        replicas = {member: _write(folder, member, found, peers, settings or {}) for member, found in addresses.items()}
        cluster = cls(folder, "0", replicas)
        cluster._write_file()
        return cluster

    def add(self, member: int, peers: Mapping[int, tuple[str, str]]) -> None:
        """Write the configuration of one replica more, which is to join `peers`: id -> (peer, pub) endpoint (V12).

        Other keys are those of the first replica. Nothing runs yet. Raises LocalClusterError.
        """
        if member in self.replicas:
            raise LocalClusterError(f"{self.folder} has a replica {member} already: start it, or take another id")
        data = self.folder / f"replica-{member}"
        if data.exists():
            raise LocalClusterError(f"{data} is of a replica of old, and an id is given once: take another id")
        ports = _free_ports(1)
        own = [f"{HOST}:{next(ports)}" for _ in _BINDS]
        known = {other: _peer(*(one.removeprefix("tcp://") for one in found)) for other, found in peers.items()}
        known[member] = _peer(*own[:2])
        with self._edited():
            self.replicas[member] = _write(self.folder, member, own, known, self._settings())

    def reload(self) -> None:
        """Take what another process wrote since: replicas that were added or forgotten."""
        self.replicas = LocalCluster.open(self.folder).replicas

    def forget(self, member: int) -> None:
        """It is no member any more: its entry goes, its files stay."""
        with self._edited():
            self.replicas.pop(member, None)

    def _settings(self) -> dict[str, object]:
        """What the first replica's file says and is not its own."""
        first = min(self.replicas.values(), key=lambda one: one.id)
        found = tomllib.loads(Path(first.config).read_text(encoding="utf-8"))
        own = {"id", "data", "peers", *(key for key in found if key.startswith(("bind_", "advertise_")))}
        return {key: value for key, value in found.items() if key not in own}

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The cluster of a folder, running or not. Raises LocalClusterError."""
        path = folder / FILE_NAME
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            replicas = [LocalReplica(**entry) for entry in document["replicas"]]
            return cls(folder.resolve(), str(document["cluster"]), {replica.id: replica for replica in replicas})
        except FileNotFoundError:
            raise LocalClusterError(
                f"there is no cluster in {folder}: start one with `ringcast up --data {folder}`"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LocalClusterError(f"{path} cannot be read ({error}): `ringcast up` writes it") from None

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
        with (self.folder / LOCK_NAME).open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.reload()
            yield
            self._write_file()

    def _write_file(self) -> None:
        document = {"cluster": self.cluster, "replicas": [asdict(replica) for replica in self.replicas.values()]}
        half = self.path.with_suffix(".tmp")
        half.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        half.replace(self.path)

    # -------------------------------------------------------------- processes

    def running(self) -> list[int]:
        """The ids whose process runs."""
        return [member for member, replica in self.replicas.items() if replica.running]

    def start(self, members: Iterable[int] | None = None) -> list[int]:
        """Start those that do not run (all, or `members`); returns the ids started. See `wait_ready`."""
        wanted = list(self.replicas) if members is None else list(members)
        started = [member for member in wanted if not self._replica(member).running]
        for member in started:
            self._spawn(member)
        return started

    def _spawn(self, member: int) -> None:
        replica = self._replica(member)
        self._reap(member)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGCAST_")}
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
        with self._edited():
            self.replicas[member] = replace(replica, pid=child.pid, started=start_time(child.pid) or "")

    def command(self, replica: LocalReplica) -> list[str]:
        """What is run for a replica; it must become the replica under the same pid."""
        # -P: the folder we are in may have a package `cli` of its own.
        return [sys.executable, "-P", "-m", "cli", "serve", "bus", "--config", replica.config]

    def log_path(self, member: int) -> Path:
        """Where a replica's process writes its log."""
        return self.folder / f"replica-{member}.log"

    def _replica(self, member: int) -> LocalReplica:
        replica = self.replicas.get(member)
        if replica is None:
            known = ", ".join(map(str, self.replicas))
            raise LocalClusterError(f"there is no replica {member} in {self.folder}: it has {known}")
        return replica

    def _reap(self, member: int) -> int | None:
        """The exit code of our own child, if it ended; lets the kernel forget it."""
        child = self._children.get(member)
        return None if child is None else child.poll()

    def signal(self, member: int, number: signal.Signals) -> bool:
        """Signal one replica's process; False if it does not run."""
        replica = self._replica(member)
        return send_signal(replica.pid, replica.started, number)

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
                if self._reap(member) is not None if ours else not self._replica(member).running:
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
                raise MemoryLost(advice)
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
                    raise LocalClusterError(f"replica {member} ended with exit code {code}: {self._log_tail(member)}")
                if reached(member):
                    left.remove(member)
            if left and time.monotonic() > deadline:
                names = ", ".join(map(str, left))
                raise LocalClusterError(
                    f"replica {names} was not {what} within {timeout_s:g} s: {self._log_tail(left[0])}"
                )
            if left:
                time.sleep(_POLL_S)

    def is_ready(self, member: int) -> bool:
        """Does it order and acknowledge now? Learns the cluster id from the first that does."""
        answer = self._ask(member, "/readyz")
        if answer is None or not answer.get("ready"):
            return False
        cluster = str(answer.get("cluster", "0"))
        if cluster != self.cluster:
            with self._edited():
                self.cluster = cluster
        return True

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


def _free_ports(replicas: int) -> Iterator[int]:
    try:
        return iter(free_ports(len(_BINDS) * replicas, HOST))
    except NoFreePort as error:
        raise LocalClusterError(str(error)) from None


def _peer(peer: str, pub: str) -> str:
    """An entry of [peers]: host:port:pub_port."""
    return f"{peer}:{pub.rpartition(':')[2]}"


def _write(
    folder: Path, member: int, addresses: Sequence[str], peers: Mapping[int, str], settings: Mapping[str, object]
) -> LocalReplica:
    """A replica's file, and its entry of cluster.json. `addresses`: host:port for each of _BINDS."""
    path, data = folder / f"replica-{member}.toml", folder / f"replica-{member}"
    tables = {key: value for key, value in settings.items() if isinstance(value, Mapping)}
    lines = [f"id = {member}", f"data = {_toml(str(data))}"]
    lines += [f"bind_{name} = {_toml(address)}" for name, address in zip(_BINDS, addresses, strict=True)]
    lines += [f"{key} = {_toml(value)}" for key, value in settings.items() if key not in tables]
    for name, table in {"peers": peers, **tables}.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    peer, _, client, feed, web = addresses
    return LocalReplica(
        role="bus",
        id=member,
        pid=0,
        started="",
        config=str(path),
        peer=f"tcp://{peer}",
        client=f"tcp://{client}",
        feed=f"tcp://{feed}",
        http=f"http://{web}",
        data=str(data),
    )


def _toml(value: object) -> str:
    """A number, a bool or a text as TOML; JSON's forms of these are TOML's too."""
    return json.dumps(value)
