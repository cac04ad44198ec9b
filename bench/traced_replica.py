"""A replica that writes down when it did what: `python -m bench.traced_replica CONFIG TRACE` (bench/hops.py).

The shipped code knows nothing of it: the marks are set around the shell's methods from outside. They cost about a
microsecond each and go to TRACE, one `nanoseconds name` a line, when the replica stops in order.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from replicas.bus import replica as bus
from replicas.bus.config import load
from replicas.bus.disk import Disk
from replicas.bus.shell import Shell

TAKEN, ASKED, REQUEST, ORDERED, SLOT, WRITES, WRITTEN, DELIVERED = (
    "taken",  # a client's batch is the core's (A1)
    "asked",  # REQUEST leaves
    "request",  # REQUEST arrives
    "ordered",  # SEQUENCE leaves
    "slot",  # SEQUENCE arrives
    "writes",  # a ticket goes to the disk
    "written",  # it is synced
    "delivered",  # slots are applied and their receipts have left
)
_marks: list[tuple[int, str]] = []


def mark(name: str) -> None:
    """Now."""
    _marks.append((time.monotonic_ns(), name))


def _before(owner: type, method: str, note: Callable[..., None]) -> None:
    inner = getattr(owner, method)

    def traced(self: Any, *arguments: Any) -> Any:
        note(*arguments)
        return inner(self, *arguments)

    setattr(owner, method, traced)


def _after(owner: type, method: str, note: Callable[..., None]) -> None:
    inner = getattr(owner, method)

    def traced(self: Any, *arguments: Any) -> Any:
        found = inner(self, *arguments)
        note(*arguments)
        return found

    setattr(owner, method, traced)


def _received(events: list[Any]) -> None:
    for event in events:
        message = getattr(event, "message", None)  # an address that a peer tells has none
        if getattr(message, "sequences", ()):
            mark(SLOT)
        elif getattr(message, "requests", ()):
            mark(REQUEST)


def _sends(send: Any) -> None:
    if send.to is None and getattr(send.message, "sequences", False):
        mark(ORDERED)
    elif send.to is None and getattr(send.message, "requests", False):
        mark(ASKED)


def main(config: str, trace: str) -> int:
    """Run the replica until it is stopped; its exit code."""
    _before(Shell, "submit", lambda _: mark(TAKEN))
    _before(Shell, "received", _received)
    _before(Shell, "_send", _sends)
    _after(Shell, "_deliver", lambda _: mark(DELIVERED))
    for way in ("submit", "journal"):
        _before(Disk, way, lambda *_: mark(WRITES))
    _before(Disk, "_tell", lambda _: mark(WRITTEN))
    loaded = load(Path(config), {})
    code = bus.run(loaded, lambda: loaded.config)
    Path(trace).write_text("".join(f"{at} {name}\n" for at, name in _marks), encoding="ascii")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
