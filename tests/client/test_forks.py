"""A client that was opened before a fork: a typed error at once in the child, no harm to the parent."""

import asyncio
import subprocess
import sys

import pytest

from tests.client.doubles import Replica

# The child says what it met and ends as programs do, with all finalizers; an alarm ends one that hangs.
SYNC = """
import os, signal, sys
import ringcast, ringcast.sync

def child(bus, subscription, publisher):
    for call in (lambda: bus.publish("a", b"child", timeout=3), bus.status, lambda: next(iter(subscription)),
                 lambda: publisher.send(b"x"), lambda: bus.subscribe("a"), bus.close):
        try:
            print("child:", call())
        except ringcast.Forked as error:
            assert str(os.getpid()) in str(error) and "connect in the child" in str(error)
            print("child: Forked")
    with ringcast.sync.connect(sys.argv[1], timeout=20) as own:
        print("child:", own.publish("a", b"own").count)

with ringcast.sync.connect(sys.argv[1], timeout=20) as bus:
    bus.publish("a", b"0")
    with bus.subscribe("a") as subscription, bus.publisher("a") as publisher:
        next(iter(subscription))
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            child(bus, subscription, publisher)
            sys.exit(0)
        _, status = os.waitpid(pid, 0)
        print("status:", status)
        print("parent:", bus.publish("a", b"1").count, next(iter(subscription)).payload)
"""

ASYNC = """
import asyncio, os, signal, sys
import ringcast

async def child(bus, subscription, publisher):
    calls = (bus.publish("a", b"no", timeout=3), bus.status(), anext(subscription), publisher.send(b"x"), bus.close())
    for call in calls:
        try:
            print("child:", await call)
        except ringcast.Forked:
            print("child: Forked")
    async with ringcast.connect(sys.argv[1], timeout=20) as own:
        print("child:", (await own.publish("a", b"own")).count)

async def main():
    async with ringcast.connect(sys.argv[1], timeout=20) as bus:
        await bus.publish("a", b"0")
        async with bus.subscribe("a") as subscription, bus.publisher("a") as publisher:
            await anext(subscription)
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                asyncio.run(child(bus, subscription, publisher))
                sys.stdout.flush()
                os._exit(0)
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
            print("status:", status)
            print("parent:", (await bus.publish("a", b"1")).count, (await anext(subscription)).payload)

asyncio.run(main())
"""


@pytest.mark.parametrize("program", [SYNC, ASYNC], ids=["sync", "async"])
async def test_a_forked_child_is_told_to_connect_by_itself(replica: Replica, program: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, replica.endpoint, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = (text.decode() for text in await process.communicate())
    lines = out.splitlines()
    told, end = lines[:-4], lines[-4:]
    assert set(told) == {"child: Forked"}, (out, errors)
    assert len(told) == (5 if program is SYNC else 4)
    assert end == ["child: None", "child: 1", "status: 0", "parent: 1 b'own'"], (out, errors)
    assert errors == ""
