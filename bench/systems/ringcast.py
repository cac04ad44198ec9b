"""Ringcast's bus."""

import os
import signal
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import ClassVar, NamedTuple

import ringcast.sync
from bench.errors import ProcessFailed
from bench.systems import WORKLOADS
from bench.systems.local import Local
from replicas.local.cluster import KEYS_NAME, LocalCluster
from ringcast.keys import ENVIRONMENT

_STATUS_TIMEOUT_S = 1.0
_HOLDER_TIMEOUT_S = 5.0
_NEXT_OFFSET = "ringcast_next_offset{"


class Struck(NamedTuple):
    """Who was killed or stopped, and whether it had just said that it holds the token."""

    member: int
    seen_holding: bool


@dataclass(slots=True)
class Ringcast(Local):
    """A local cluster. `name` tells two sizes of it apart."""

    durability: str
    name: str = "ringcast"
    workloads: tuple[str, ...] = WORKLOADS
    client: str = "ringcast"
    fresh: bool = False
    secure: bool = False
    cluster_class: ClassVar[type[LocalCluster]] = LocalCluster

    @property
    def label(self) -> str:
        """With the number of replicas."""
        return f"Ringcast, {self.replicas} replicas{', with keys (CURVE)' if self.secure else ''}"

    @property
    def remark(self) -> str:
        """What a receipt means."""
        return "synced on a majority" if self.durability == "majority" else "in the memory of a majority"

    def start(self, folder: Path) -> None:
        """Start all replicas."""
        settings = {"durability": self.durability}
        cluster = self.cluster_class.create(folder, self.replicas, settings, secure=self.secure)
        if self.secure:
            os.environ[ENVIRONMENT] = str(folder / KEYS_NAME)  # for the clients, which are processes of their own
        self._run(cluster)

    def leader(self) -> int:
        """The token holder at some moment."""
        return self.strike_holder(lambda _: True, lambda _: None).member

    def strike_holder(self, wanted: Callable[[int], bool], strike: Callable[[int], None]) -> Struck:
        """Wait until a replica that is `wanted` says that it holds the token, and strike it at once.

        Each replica says it of itself alone, and the token moves on: the answer is a moment old. If none says so in
        time, the first one is struck all the same. Raises ProcessFailed if they do not answer.
        """
        members = [member for member in self.cluster.running() if wanted(member)]
        deadline_s = time.monotonic() + _HOLDER_TIMEOUT_S
        try:
            with ExitStack() as stack:
                buses = {member: stack.enter_context(self._bus(member)) for member in members}
                for member, bus in cycle(buses.items()):
                    seen = bus.status().token_holder == member
                    if seen or time.monotonic() > deadline_s:
                        strike(member)
                        return Struck(member, seen)
        except ringcast.RingcastError as error:
            raise ProcessFailed(f"replica {members} did not say who holds the token: {error}") from None
        raise ProcessFailed("no replica runs that could be struck")

    def _bus(self, member: int) -> ringcast.sync.Bus:
        endpoint = self.cluster.replicas[member].client
        return ringcast.sync.connect(endpoint, replica=member, timeout=_STATUS_TIMEOUT_S)

    def delivered(self, member: int) -> int | None:
        """The offset below which a replica has delivered everything; None if it does not answer."""
        try:
            url = f"{self.cluster.replicas[member].http}/metrics"
            with urllib.request.urlopen(url, timeout=1.0) as answer:  # noqa: S310 - an address that we chose ourselves
                lines = answer.read().decode().splitlines()
        except OSError:
            return None
        return next((int(float(line.split()[-1])) for line in lines if line.startswith(_NEXT_OFFSET)), None)

    def pause(self, member: int) -> None:
        """SIGSTOP."""
        self.cluster.signal(member, signal.SIGSTOP)

    def resume(self, member: int) -> None:
        """SIGCONT, and wait until it takes part."""
        self.cluster.signal(member, signal.SIGCONT)
        self._wait([member])

    def stop(self) -> None:
        """End all replicas."""
        # Not `super()`: a dataclass with slots is another class than the one that it stands in.
        Local.stop(self)
        os.environ.pop(ENVIRONMENT, None)
