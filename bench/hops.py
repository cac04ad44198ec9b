"""Where the time of one message goes: from the client through the ring and back, hop by hop, on real processes."""

import sys
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import uvloop

import ringcast
from bench.clients.ringcast import TOPIC
from bench.errors import NotMeasurable
from bench.options import Options
from bench.systems.ringcast import Ringcast
from bench.traced_replica import ASKED, DELIVERED, ORDERED, REQUEST, SLOT, TAKEN, WRITES, WRITTEN
from replicas.local.cluster import LocalCluster
from replicas.local.files import LocalReplica

Marks = Mapping[str, Sequence[int]]

#: In the order in which a message passes them; the second pair only if another member holds the token.
HOPS = (
    "client -> its replica",
    "its replica's turn (A1)",
    "REQUEST -> holder",
    "holder's turn: SEQUENCE (A3)",
    "SEQUENCE -> first other member",
    "turns of a quorum (A8)",
    "sync of a quorum (D2)",
    "ACK -> its replica, commit, deliver (A5)",
    "receipt -> client",
)
HERE, ELSEWHERE = "its replica holds the token", "another replica holds the token"


class Traced(LocalCluster):
    """A cluster whose replicas write down what they did when."""

    supervised = False

    def command(self, replica: LocalReplica) -> list[str]:
        """As the shipped one, with the marks."""
        return [sys.executable, "-P", "-m", "bench.traced_replica", replica.config, str(self.trace(replica.id))]

    def trace(self, member: int) -> Path:
        """Where a replica's marks are, once it has stopped."""
        return self.folder / f"replica-{member}.trace"


class TracedRingcast(Ringcast):
    """The system of bench/systems with such a cluster."""

    cluster_class = Traced


class Message(NamedTuple):
    """When one publish began and had its receipt, monotonic nanoseconds."""

    began: int
    ended: int


def hops(system: Ringcast, options: Options) -> dict[str, Any]:
    """Medians of each hop in microseconds, of messages that were published one at a time. Stops the system."""
    if system.replicas < 3:
        raise NotMeasurable(f"with {system.replicas} replicas there are no hops")
    at, messages = uvloop.run(_publish(system.endpoints(), options))
    cluster = system.cluster
    assert isinstance(cluster, Traced)
    cluster.stop()
    traces = {member: read_trace(cluster.trace(member)) for member in cluster.replicas}
    return summary(at, messages, traces)


async def _publish(endpoints: Sequence[str], options: Options) -> tuple[int, list[Message]]:
    payload, deadline_s = bytes(options.payload), time.monotonic() + options.one_seconds
    done: list[Message] = []
    async with ringcast.connect(endpoints) as bus:
        await bus.publish(TOPIC, payload)
        while time.monotonic() < deadline_s and len(done) < options.one_count:
            began = time.monotonic_ns()
            await bus.publish(TOPIC, payload)
            done.append(Message(began, time.monotonic_ns()))
        assert bus.replica is not None
        return bus.replica, done


def read_trace(path: Path) -> Marks:
    """Times by name, ascending."""
    found: dict[str, list[int]] = {}
    for line in path.read_text(encoding="ascii").splitlines():
        at, name = line.split()
        found.setdefault(name, []).append(int(at))
    return found


def summary(at: int, messages: Sequence[Message], traces: Mapping[int, Marks]) -> dict[str, Any]:
    """`at`: the client's replica. Messages that crossed a view change or a resend lack a mark and are left out."""
    found: dict[str, list[tuple[int, ...]]] = {HERE: [], ELSEWHERE: []}
    for message in messages:
        path = path_of(at, message, traces)
        if path is not None:
            holder, cuts = path
            parts = tuple(after - before for before, after in pairwise(cuts))
            found[HERE if holder == at else ELSEWHERE].append(parts)
    return {
        "messages": len(messages),
        "traced": sum(map(len, found.values())),
        **{
            kind: {"messages": len(paths), "hops_us": dict(_medians(paths))}  # where it holds the token two are 0
            for kind, paths in found.items()
        },
    }


def _medians(paths: Sequence[tuple[int, ...]]) -> Iterator[tuple[str, float]]:
    for name, times in zip(HOPS, zip(*paths, strict=True), strict=bool(paths)):
        yield name, round(median(times) / 1_000, 1)


def path_of(at: int, message: Message, traces: Mapping[int, Marks]) -> tuple[int, tuple[int, ...]] | None:
    """(holder, the ten times between which the hops lie, ascending); None if a mark is missing."""

    def first(name: str, after: int, members: Sequence[int] | None = None) -> list[tuple[int, int]]:
        """(time, member) of each member's first mark in this message's time, ascending."""
        found = []
        for member in members or traces:
            times = traces[member].get(name, ())
            place = bisect_left(times, after)
            if place < len(times) and times[place] < message.ended:
                found.append((times[place], member))
        return sorted(found)

    taken, ordered = first(TAKEN, message.began, [at]), first(ORDERED, message.began)
    if not taken or not ordered:
        return None
    sequenced, holder = ordered[0]
    asked = reached = sequenced
    if holder != at:
        left, there = first(ASKED, taken[0][0], [at]), first(REQUEST, taken[0][0], [holder])
        if not left or not there:
            return None
        asked, reached = left[0][0], there[0][0]
    others = [member for member in traces if member != holder]
    needed = len(traces) // 2 + 1
    arrived, delivered = first(SLOT, sequenced, others), first(DELIVERED, sequenced, [at])
    writes, written = first(WRITES, sequenced)[needed - 1 :], first(WRITTEN, sequenced)[needed - 1 :]
    if not arrived or not writes or not written or not delivered:
        return None
    came, begun, stored = arrived[0][0], writes[0][0], written[0][0]
    cuts = (
        message.began, taken[0][0], asked, reached, sequenced, came, begun, stored, delivered[0][0], message.ended,
    )  # fmt: skip
    return (holder, cuts) if list(cuts) == sorted(cuts) else None
