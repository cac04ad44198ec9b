"""Which systems run, and in which order: each repetition begins with another one, so that none always comes last."""

from collections.abc import Sequence
from typing import TypeVar

from bench.options import Options
from bench.systems import BATCHED, PIPELINED, System
from bench.systems.etcd import Etcd
from bench.systems.nats import Nats
from bench.systems.pysyncobj import PySyncObj
from bench.systems.redis import Redis
from bench.systems.ringcast import Ringcast

T = TypeVar("T")

THREE, FIVE = 3, 5


def turned(systems: Sequence[T], repetition: int) -> list[T]:
    """The same systems, beginning `repetition` places later."""
    place = repetition % len(systems) if systems else 0
    return [*systems[place:], *systems[:place]]


def systems_of(options: Options) -> list[System]:
    """What `--against` names, Ringcast first; some systems come in two settings."""
    peers: dict[str, list[System]] = {
        "nats": [Nats(options.replicas, synced=True), Nats(options.replicas, synced=False)],
        "etcd": [Etcd(options.replicas)],
        "pysyncobj": [PySyncObj(options.replicas, eager=False), PySyncObj(options.replicas, eager=True)],
        "redis": [Redis(options.replicas)],
    }
    found: list[System] = [Ringcast(options.replicas, options.durability)]
    if options.extras and options.replicas == THREE:
        found.append(Ringcast(FIVE, options.durability, name="ringcast-5", workloads=(PIPELINED, BATCHED)))
    if options.curve:
        found.append(Ringcast(options.replicas, options.durability, name="ringcast-curve", secure=True))
    return found + [system for name in options.against for system in peers[name]]
