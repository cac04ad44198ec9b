"""What this machine can do at all, in the run in which it is compared: disk flushes and ZeroMQ without anything else.

`python -m bench.floors SIDE ENDPOINT...` is the other side of a ZeroMQ floor, in a process of its own.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import zmq

from bench.errors import ProcessFailed
from bench.measure import percentile
from bench.systems.nats import HOST
from replicas.bus.addresses import free_ports

RECORD_BYTES = 100
#: Both queues are unbounded, so nothing is dropped: a PUB waits for nobody.
FRAMES_PER_COUNT = 1_000
SUBSCRIBERS = 2
_PREALLOCATED_PER_RECORD = 4_096
_TIMEOUT_MS = 20_000
_END = b"end"


def _median_ms(work: Callable[[], object], count: int) -> float:
    seconds = []
    for _ in range(count):
        began_s = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began_s)
    return round(1_000 * percentile(sorted(seconds), 0.5), 4)


def lmdb_commit_ms(folder: Path, count: int) -> float:
    """A synced LMDB transaction with one record."""
    with lmdb.open(str(folder / "floor.mdb"), lib_version=0, subdir=False, map_size=64 << 20) as environment:
        numbers = iter(range(count))

        def commit() -> None:
            with environment.begin(write=True) as transaction:
                transaction.put(next(numbers).to_bytes(8, "big"), bytes(RECORD_BYTES), append=True)

        return _median_ms(commit, count)


def append_ms(folder: Path, count: int) -> float:
    """A record appended to a preallocated, zeroed file, and fdatasync."""
    descriptor = os.open(folder / "floor.log", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, bytes(max(1 << 20, _PREALLOCATED_PER_RECORD * count)))
        os.fsync(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)

        def append() -> None:
            os.write(descriptor, bytes(RECORD_BYTES))
            os.fdatasync(descriptor)

        return _median_ms(append, count)
    finally:
        os.close(descriptor)


def round_trip_ms(count: int) -> float:
    """DEALER to a ROUTER in another process and back."""
    endpoint = f"tcp://{HOST}:{free_ports(1, HOST)[0]}"
    with _other_sides(1, "echo", endpoint), zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(endpoint)

        def ask() -> None:
            dealer.send(bytes(RECORD_BYTES))
            _receive(dealer, "the DEALER/ROUTER floor got no answer")

        ask()
        return _median_ms(ask, count)


def pub_frames_per_second(count: int) -> float:
    """Frames from a PUB to two SUBs, until both say that they have all of them."""
    ports = free_ports(2, HOST)
    endpoint, back = (f"tcp://{HOST}:{port}" for port in ports)
    frames = count * FRAMES_PER_COUNT
    with zmq.Context() as context, context.socket(zmq.XPUB) as pub, context.socket(zmq.PULL) as done:
        for socket in (pub, done):
            socket.setsockopt(zmq.LINGER, 0)
        pub.setsockopt(zmq.SNDHWM, 0)
        pub.setsockopt(zmq.XPUB_VERBOSE, 1)
        pub.bind(endpoint)
        done.bind(back)
        with _other_sides(SUBSCRIBERS, "sub", endpoint, back):
            for _ in range(SUBSCRIBERS):
                _receive(pub, "the PUB/SUB floor got no subscription")
            frame = bytes(RECORD_BYTES)
            began_s = time.perf_counter()
            for _ in range(frames):
                pub.send(frame)
            pub.send(_END)
            received = [int(_receive(done, "the PUB/SUB floor did not end")) for _ in range(SUBSCRIBERS)]
            seconds = time.perf_counter() - began_s
    if received != [frames] * SUBSCRIBERS:
        raise ProcessFailed(f"the PUB/SUB floor lost frames: {received} of {frames} came")
    return round(frames / seconds)


def _receive(socket: zmq.Socket[bytes], trouble: str) -> bytes:
    if not socket.poll(_TIMEOUT_MS):
        raise ProcessFailed(f"{trouble} within {_TIMEOUT_MS / 1_000:g} s")
    return socket.recv()


def measure_floors(count: int) -> dict[str, float]:
    """All floors, in a folder beside the data of the systems. Raises ProcessFailed."""
    with tempfile.TemporaryDirectory(prefix="ringcast-bench-") as name:
        folder = Path(name)
        return {
            "lmdb_commit_ms": lmdb_commit_ms(folder, count),
            "append_fdatasync_ms": append_ms(folder, count),
            "dealer_router_ms": round_trip_ms(count),
            "pub_frames_per_second": pub_frames_per_second(count),
        }


@contextlib.contextmanager
def _other_sides(number: int, side: str, *arguments: str) -> Iterator[None]:
    command = [sys.executable, "-P", "-m", "bench.floors", side, *arguments]
    sides = [subprocess.Popen(command, start_new_session=True) for _ in range(number)]
    try:
        yield
    finally:
        for one in sides:
            one.kill()
            one.wait()


def _echo(endpoint: str) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(endpoint)
        while True:
            router.send_multipart(router.recv_multipart())


def _subscribe(endpoint: str, back: str) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as sub, context.socket(zmq.PUSH) as done:
        sub.setsockopt(zmq.RCVHWM, 0)
        sub.setsockopt(zmq.SUBSCRIBE, b"")
        done.connect(back)
        sub.connect(endpoint)
        received = 0
        while sub.recv() != _END:
            received += 1
        done.send(b"%d" % received)


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        _echo(sys.argv[2])
    else:
        _subscribe(sys.argv[2], sys.argv[3])
