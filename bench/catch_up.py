"""How fast an empty member is filled, and what that costs those who publish meanwhile."""

import time
from dataclasses import replace
from typing import Any

from bench.conversation import Conversation, background
from bench.errors import NotMeasurable, ProcessFailed
from bench.gap import open_loop
from bench.options import Options
from bench.systems.ringcast import Ringcast

TIMEOUT_S = 180.0
PAYLOAD_BYTES = 1_000
_MB = 1e6
_POLL_S = 0.02


def catch_up(system: Ringcast, options: Options) -> dict[str, Any]:
    """Wipe a member below a log of some size, start it, and time it under a client at full speed.

    `mb_per_second`: payload bytes that were there when it started, over the time from its first answer until it has
    delivered them all. `seconds_from_start` counts its process's start too. Raises ProcessFailed, NotMeasurable.
    """
    if system.replicas < 3:
        raise NotMeasurable(f"with {system.replicas} replicas nobody may be wiped")
    job = replace(open_loop(system, options), payload=PAYLOAD_BYTES, rate=0)
    member, other = system.replicas, 1
    with background(job) as talk:
        _fill(talk, options.catch_up_mb)
        system.wipe(member)
        talk.wait_for_receipts(1, TIMEOUT_S)
        time.sleep(options.gap_seconds)
        start_s = time.monotonic()
        messages = int(talk.ask(f"between 0 {start_s}")["messages"])
        target = system.delivered(other)
        if target is None:
            raise ProcessFailed(f"replica {other} does not answer: see its log")
        system.cluster.start([member])
        first_s, end_s = _watch(system, member, target)
        rates = {
            "published_before_per_second": _rate(talk, start_s - options.gap_seconds, start_s),
            "published_meanwhile_per_second": _rate(talk, first_s, end_s),
        }
    seconds = max(end_s - first_s, _POLL_S)
    before = rates["published_before_per_second"]
    return {
        "mb": round(messages * PAYLOAD_BYTES / _MB, 1),
        "seconds": round(seconds, 3),
        "seconds_from_start": round(end_s - start_s, 3),
        "mb_per_second": round(messages * PAYLOAD_BYTES / _MB / seconds, 1),
        **{name: round(rate) for name, rate in rates.items()},
        "publish_ratio": round(rates["published_meanwhile_per_second"] / before, 3) if before else None,
    }


def _fill(talk: Conversation, mb: int) -> None:
    talk.wait_for_receipts(int(mb * _MB / PAYLOAD_BYTES), TIMEOUT_S)


def _rate(talk: Conversation, begin_s: float, end_s: float) -> float:
    messages = int(talk.ask(f"between {begin_s} {end_s}")["messages"])
    return messages / max(end_s - begin_s, _POLL_S)


def _watch(system: Ringcast, member: int, target: int) -> tuple[float, float]:
    """When the member first answered, and when it had delivered everything below `target`."""
    deadline_s = time.monotonic() + TIMEOUT_S
    first_s: float | None = None
    while time.monotonic() < deadline_s:
        delivered = system.delivered(member)
        now_s = time.monotonic()
        if delivered is not None:
            first_s = first_s or now_s
            if delivered >= target:
                return first_s, now_s
        time.sleep(_POLL_S)
    raise ProcessFailed(f"the wiped replica {member} did not catch up within {TIMEOUT_S:g} s")
