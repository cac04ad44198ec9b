"""Watched sockets: closing one while its connection breaks."""

import subprocess
import sys

# In a process of its own: what goes wrong here stops the whole process, not one coroutine.
CLOSE_WHILE_IT_BREAKS = """
import asyncio, random, socket
import zmq
from ringcast.sockets import Watched

async def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    wait = random.Random(1)
    for number in range(3_000):
        context, lost = zmq.Context(), asyncio.Event()
        watched = Watched(context, zmq.DEALER, f"tcp://127.0.0.1:{port}", on_frames=print,
                          on_lost=lambda _, lost=lost: lost.set(), options={})
        if number % 2:
            await lost.wait()
        else:
            await asyncio.sleep(wait.random() * 0.0006)
        watched.close()
        context.destroy()
    print("closed")

asyncio.run(main())
"""


def test_closing_a_connection_that_breaks_does_not_hang() -> None:
    """The monitor is disabled before its receiver ends: else libzmq's thread waits for that with a lock held."""
    run = subprocess.run(
        [sys.executable, "-c", CLOSE_WHILE_IT_BREAKS], capture_output=True, text=True, timeout=55, check=False
    )
    assert (run.returncode, run.stdout) == (0, "closed\n"), run.stderr
