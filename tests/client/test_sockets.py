"""Watched sockets: a connection that breaks while it is closed, and while its messages are read."""

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


# A message of 30 parts is being read when libzmq looks for what happened, which it does at each hundredth part.
BREAKS_WHILE_IT_IS_READ = """
import asyncio, time
import zmq
from ringcast.sockets import Watched

MESSAGES = 200

async def lose(after: int) -> None:
    ours, theirs = zmq.Context(), zmq.Context()
    server = theirs.socket(zmq.ROUTER)
    server.setsockopt(zmq.SNDHWM, 0)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    lost, read = asyncio.Event(), 0

    def on_frames(frames):
        nonlocal read
        read += 1
        if read == after:
            server.close(linger=0)
            theirs.destroy(linger=0)
            time.sleep(0.02)  # the reader stands still while libzmq's thread meets the end of the connection

    watched = Watched(ours, zmq.DEALER, f"tcp://127.0.0.1:{port}", on_frames=on_frames,
                      on_lost=lambda event: lost.set(), options={zmq.RCVHWM: 0})
    watched.socket.send([b"hello"])
    route, _ = await asyncio.to_thread(server.recv_multipart)
    for _ in range(MESSAGES):
        server.send_multipart([route, *[b"part"] * 30])
    await asyncio.wait_for(lost.wait(), 10)
    watched.close()
    ours.destroy()

async def main() -> None:
    for number in range(20):
        await lose(10 + number)
    print("lived")

asyncio.run(main())
"""


def test_a_connection_that_breaks_while_its_messages_are_read_ends_no_process() -> None:
    """With RECONNECT_IVL = -1 libzmq aborts it: see RECONNECT_MS."""
    run = subprocess.run(
        [sys.executable, "-c", BREAKS_WHILE_IT_IS_READ], capture_output=True, text=True, timeout=55, check=False
    )
    assert (run.returncode, run.stdout) == (0, "lived\n"), run.stderr
