"""broker/resets.py: a connection of a bound socket ends, and never fails while libzmq does not look."""

import asyncio
import select
import socket as sockets
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from broker import resets
from broker.sockets import SocketLimits, bind, open_socket
from tests.broker.clients import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="filters of Linux")

FAILED = select.POLLERR | select.POLLHUP
#: ZMTP 3.0 with NULL, as a DEALER says it.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes at the end."""
    with ExitStack() as found:
        yield found


def accepted(stack: ExitStack, listener: sockets.socket) -> tuple[sockets.socket, sockets.socket]:
    """A client's connection, and our end of it with bytes that nobody has read."""
    client = stack.enter_context(sockets.create_connection(listener.getsockname()[:2]))
    ours, _ = listener.accept()
    client.sendall(bytes(100))
    return client, stack.enter_context(ours)


def listening(stack: ExitStack, host: str) -> sockets.socket:
    """A listener on a free port."""
    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    return stack.enter_context(sockets.create_server((host, 0), family=family))


def reset(client: sockets.socket) -> None:
    """Close it as a process does that dies with answers unread."""
    client.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def seen(ours: sockets.socket) -> int:
    """What a poller is told."""
    poller = select.poll()
    poller.register(ours, select.POLLIN | select.POLLRDHUP)
    return poller.poll(0)[0][1]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_reset_does_not_reach_a_connection_and_an_end_does(stack: ExitStack, host: str) -> None:
    guarded, plain = listening(stack, host), listening(stack, host)
    before, before_ours = accepted(stack, guarded)
    resets.ignore(guarded.getsockname()[1])
    after, after_ours = accepted(stack, guarded)
    ended, ended_ours = accepted(stack, guarded)
    other, other_ours = accepted(stack, plain)
    for one in (before, after, other):
        reset(one)
    ended.close()
    await until(lambda: bool(seen(other_ours) & FAILED))
    await until(lambda: bool(seen(ended_ours) & select.POLLRDHUP))
    assert not any(seen(ours) & FAILED for ours in (before_ours, after_ours, ended_ours))
    assert after_ours.recv(200) == bytes(100)
    assert ended_ours.recv(200) == bytes(100)
    assert ended_ours.recv(200) == b""


async def test_what_is_cut_has_ended_behind_what_came_and_takes_no_more(stack: ExitStack) -> None:
    client, ours = accepted(stack, listening(stack, "127.0.0.1"))
    await until(lambda: bool(seen(ours) & select.POLLIN))
    resets.end(ours)
    client.sendall(bytes(100))
    reset(client)
    assert not seen(ours) & FAILED
    assert ours.recv(200) == bytes(100)
    assert ours.recv(200) == b""


async def test_the_other_end_of_a_cut_connection_hears_of_it_when_its_owner_closes(stack: ExitStack) -> None:
    client, ours = accepted(stack, listening(stack, "127.0.0.1"))
    resets.end(ours)
    ours.close()
    await until(lambda: bool(seen(client) & select.POLLIN))
    with pytest.raises(ConnectionResetError):
        client.recv(1)


async def test_a_dead_peer_of_a_bound_socket_is_found_by_the_kernel(stack: ExitStack) -> None:
    """Its reset is dropped, and what its end does not acknowledge is."""
    context = stack.enter_context(zmq.Context())
    router = open_socket(context, zmq.ROUTER, SocketLimits(cut_after_ms=500))
    stack.callback(router.close, linger=0)
    monitor = router.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
    stack.callback(monitor.close, linger=0)
    stack.callback(router.disable_monitor)
    port = int(bind(router, "tcp://127.0.0.1:*").rpartition(":")[2])
    client = sockets.create_connection(("127.0.0.1", port))
    client.sendall(GREETING + READY)
    await until(lambda: bool(monitor.poll(0)))
    assert recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
    reset(client)
    await asyncio.sleep(0)
    await until(lambda: bool(monitor.poll(0)), 30)
    assert recv_monitor_message(monitor)["event"] == zmq.EVENT_DISCONNECTED
