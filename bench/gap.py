"""The gap: the longest time between two acknowledged publishes, while who orders is killed or stopped.

The client is an open loop of 500 messages a second that tries each again until it is acknowledged. For Ringcast it is
attached once to a replica that survives and once to the one that is killed; both times the token holder is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

from bench.conversation import Conversation, background
from bench.errors import NotMeasurable, ProcessFailed
from bench.job import Job
from bench.options import Options
from bench.systems import System
from bench.systems.ringcast import Ringcast, Struck

SURVIVOR, KILLED, STOPPED = "client_on_survivor", "client_on_killed", "holder_stopped"
#: Nothing is struck: what the client, the disk and the other processes of this machine cost by themselves.
UNDISTURBED = "undisturbed"
BEFORE_S = 0.3
_POLL_S = 0.05


@dataclass(slots=True)
class Gaps:
    """Milliseconds of each. `without_receipt`: how many times nothing came until the time was over.

    `unseen`: how many times the victim had not said that it holds the token (the token is never long in one place).
    """

    gaps_ms: list[float] = field(default_factory=list)
    without_receipt: int = 0
    unseen: int = 0

    def as_dict(self) -> dict[str, Any]:
        """With the median and the worst, None of nothing."""
        return {
            "times": len(self.gaps_ms),
            "median_ms": round(median(self.gaps_ms), 1) if self.gaps_ms else None,
            "worst_ms": round(max(self.gaps_ms), 1) if self.gaps_ms else None,
            "without_receipt": self.without_receipt,
            "holder_not_seen": self.unseen,
            "gaps_ms": [round(one, 1) for one in self.gaps_ms],
        }


def open_loop(system: System, options: Options) -> Job:
    """The job of the client."""
    return Job(
        client=system.client,
        endpoints=system.endpoints(),
        replicas=system_replicas(system, options),
        workload="open loop",
        payload=options.payload,
        count=0,
        seconds=0.0,
        rate=options.gap_rate,
    )


def system_replicas(system: System, options: Options) -> int:
    """How many servers the system has."""
    return system.replicas if isinstance(system, Ringcast) else options.replicas


def _one(talk: Conversation, strike: Callable[[], None], options: Options, gaps: Gaps) -> None:
    """Strike, and watch for `gap_seconds`, or longer until a receipt came, but not beyond `peer_gap_seconds`."""
    limit_s = options.peer_gap_seconds
    time.sleep(BEFORE_S)
    talk.ask("mark")
    strike()
    began_s = time.monotonic()
    time.sleep(options.gap_seconds)
    # What is on its way when the leader dies is still answered: a receipt of the last moments tells of work again.
    while time.monotonic() - began_s < limit_s:
        before = int(talk.ask("where")["total"])
        time.sleep(_POLL_S)
        if int(talk.ask("where")["total"]) > before:
            break
    found = talk.ask("gap")
    stuck_s = time.monotonic() - began_s
    gaps.without_receipt += stuck_s >= limit_s
    gaps.gaps_ms.append(float(found["gap_ms"]) if stuck_s < limit_s else stuck_s * 1_000)


def _victim(talk: Conversation, kind: str) -> Callable[[int], bool]:
    attached = int(talk.ask("where")["attached"])
    return lambda member: (member == attached) == (kind == KILLED)


def ringcast_gaps(system: Ringcast, options: Options, found: dict[str, Gaps]) -> None:
    """Kills with the client on a survivor and on the victim, and stops of the holder.

    `found` gets each as it comes, so that one that fails does not take the others with it. Raises ProcessFailed.
    """
    if system.replicas < 3:
        raise NotMeasurable(f"with {system.replicas} replicas nobody may be killed")
    found.update({kind: Gaps() for kind in (UNDISTURBED, SURVIVOR, KILLED, STOPPED)})
    with background(open_loop(system, options)) as talk:
        talk.wait_for_receipts(1, options.peer_gap_seconds)
        for _ in range(options.stops):
            _one(talk, lambda: None, options, found[UNDISTURBED])
        for kind in (SURVIVOR, KILLED):
            for _ in range(options.kills):
                _strike(system, talk, kind, options, found[kind])
        for _ in range(options.stops):
            _strike(system, talk, STOPPED, options, found[STOPPED])


def _strike(system: Ringcast, talk: Conversation, kind: str, options: Options, gaps: Gaps) -> None:
    """Kill or stop the holder, and bring it back."""
    struck: list[Struck] = []
    wanted = _victim(talk, kind)
    act, bring_back = (system.pause, system.resume) if kind == STOPPED else (system.kill, system.revive)
    try:
        _one(talk, lambda: struck.append(system.strike_holder(wanted, act)), options, gaps)
    finally:
        for one in struck:
            bring_back(one.member)
            gaps.unseen += not one.seen_holding
    talk.wait_for_receipts(1, options.peer_gap_seconds)


def peer_gaps(system: System, options: Options, gaps: Gaps) -> None:
    """kill -9 of the leader, a few times, each kept as it comes. Raises NotMeasurable, ProcessFailed."""
    with background(open_loop(system, options)) as talk:
        talk.wait_for_receipts(options.gap_rate // 2, options.peer_gap_seconds)
        for _ in range(options.peer_kills):
            leader = _leader(system, options.peer_gap_seconds)
            _one(talk, partial(system.kill, leader), options, gaps)
            system.revive(leader)
            talk.wait_for_receipts(options.gap_rate // 2, options.peer_gap_seconds)


def _leader(system: System, timeout_s: float) -> int:
    """An election may be going on."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            return system.leader()
        except ProcessFailed:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_POLL_S)
