"""Network namespaces of our own: one for each replica, behind a router that can cut any direction of any pair.

Each namespace is held by a child process and goes with it; nothing is named, and nothing of the machine's own network
is touched. The test itself moves into the router's namespace, from where it reaches every replica at any time. A cut
drops packets in silence, as a broken link or a firewall does: nobody gets an error for it; or it refuses, if asked to.
"""

import ctypes
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from replicas.local.cluster import LocalCluster
from replicas.local.files import LocalReplica

Cut = Literal["blackhole", "prohibit"]
CLONE_NEWNET = 0x40000000
#: Holds a namespace until its standard input ends, which is when the test closes it or dies.
HOLD = "echo held; exec cat"


class NoNamespaces(Exception):
    """They cannot be made here; the text says what is missing."""


class Network:
    """Enter it with `with`. Members are 1 .. `members`."""

    def __init__(self, members: int) -> None:
        self.hosts = {member: f"10.77.{member}.2" for member in range(1, members + 1)}
        self._holders: dict[int, subprocess.Popen[str]] = {}  # 0: the router
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._entered = False

    def __enter__(self) -> Self:
        try:
            for place in (0, *self.hosts):
                self._holders[place] = self._hold()
            self._run(0, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
            self._ip(0, "link set lo up")
            for member, host in self.hosts.items():
                self._link(member, host)
            self._enter(Path(f"/proc/{self._holders[0].pid}/ns/net"))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered:
            _set_namespace(self._own)
        os.close(self._own)
        for holder in self._holders.values():
            holder.kill()
            holder.communicate()

    def _hold(self) -> "subprocess.Popen[str]":
        try:
            holder = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", HOLD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except FileNotFoundError:
            raise NoNamespaces("there is no `unshare`: install util-linux") from None
        assert holder.stdout is not None
        if holder.stdout.readline() != "held\n":
            _, said = holder.communicate()
            raise NoNamespaces(f"a network namespace cannot be made here: {said.strip()}")
        return holder

    def _link(self, member: int, host: str) -> None:
        """A veth pair from the router to the member's namespace, and a route back."""
        router = host.rpartition(".")[0] + ".1"
        pid = self._holders[member].pid
        self._ip(0, f"link add name to-{member} type veth peer name uplink netns {pid}")
        self._ip(0, f"addr add {router}/24 dev to-{member}")
        self._ip(0, f"link set to-{member} up")
        self._ip(member, "link set lo up")
        self._ip(member, f"addr add {host}/24 dev uplink")
        self._ip(member, "link set uplink up")
        self._ip(member, f"route add default via {router}")

    def inside(self, member: int, command: Sequence[str]) -> list[str]:
        """The command that runs `command` in a member's namespace, under the same pid."""
        return ["nsenter", f"--net=/proc/{self._holders[member].pid}/ns/net", "--", *command]

    def cut(self, sender: int, receiver: int, *, how: Cut = "blackhole") -> None:
        """Nothing that `sender` sends reaches `receiver` any more; the other direction stays as it is.

        With "prohibit" the sender is told: a connection that it begins is refused at once.
        """
        self._ip(0, f"rule {self._cut('add', sender, receiver)} {how}")

    def heal(self, sender: int, receiver: int) -> None:
        """Take a cut back, of either kind."""
        self._ip(0, f"rule {self._cut('del', sender, receiver)}")

    def _cut(self, verb: str, sender: int, receiver: int) -> str:
        return f"{verb} from {self.hosts[sender]} to {self.hosts[receiver]}"

    def _ip(self, place: int, arguments: str) -> None:
        self._run(place, "ip", *arguments.split())

    def _run(self, place: int, *command: str) -> None:
        try:
            done = subprocess.run(self.inside(place, command), capture_output=True, text=True, check=False, timeout=10)
        except FileNotFoundError:
            raise NoNamespaces("there is no `nsenter`: install util-linux") from None
        if done.returncode:
            raise NoNamespaces(f"`{' '.join(command)}` failed in a namespace of its own: {done.stderr.strip()}")

    def _enter(self, namespace: Path) -> None:
        descriptor = os.open(namespace, os.O_RDONLY)
        try:
            _set_namespace(descriptor)
            self._entered = True
        finally:
            os.close(descriptor)


def _set_namespace(descriptor: int) -> None:
    """setns(2) of this thread, and so of every thread that it starts from now on (os.setns is Python 3.12's)."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, CLONE_NEWNET):
        raise NoNamespaces(f"this process cannot move to another namespace: {os.strerror(ctypes.get_errno())}")


class NamespacedCluster(LocalCluster):
    """A local cluster whose replicas live in the namespaces of `network`."""

    network: Network

    def command(self, replica: LocalReplica) -> list[str]:
        """As of LocalCluster, in the replica's namespace; `nsenter` becomes it."""
        return self.network.inside(replica.id, super().command(replica))
