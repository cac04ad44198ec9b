"""Broken connections that libzmq meets as ended ones.

libzmq 4.3.5 aborts its process when it meets a ZMTP heartbeat on a connection that failed while its input was stopped
(`!_io_error`, stream_engine_base.cpp), and it stops the input of a connection whose receive queue is full. A failure
reaches a stopped connection only as an error of the kernel; an end (FIN) waits until the input goes on and is harmless.
So the kernel drops resets before they arrive at a connection of a bound socket; TCP_USER_TIMEOUT finds its other end
dead later (SocketLimits.cut_after_ms), when its queue has been read. And a connection that we cut ends: it does not
fail.

Linux alone; elsewhere nothing is done, and the supervisor is what is left (replicas/supervisor.py).
"""

import ctypes
import os
import socket as sockets
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import structlog

_SO_ATTACH_FILTER = 26


class _Step(NamedTuple):
    """One instruction of the kernel's socket filters (linux/filter.h); a packet begins with its TCP header."""

    code: int
    if_true: int
    if_false: int
    value: int


_LOAD_BYTE, _JUMP_IF_ANY, _RETURN = 0x30, 0x45, 0x06
_FLAGS, _RST = 13, 0x04
_DROP, _KEEP = _Step(_RETURN, 0, 0, 0), _Step(_RETURN, 0, 0, 0xFFFFFFFF)
_NO_RESETS = (_Step(_LOAD_BYTE, 0, 0, _FLAGS), _Step(_JUMP_IF_ANY, 0, 1, _RST), _DROP, _KEEP)
_NOTHING = (_DROP,)
_NO_LINGER = struct.pack("ii", 1, 0)


def ignore(port: int) -> None:
    """Drop resets that come to any connection of this process's listener at `port`, now and later."""
    if sys.platform != "linux":
        return
    try:
        for one in _sockets_at(port):  # what the listener accepts inherits its filter
            _attach(one, _NO_RESETS)
    except OSError as error:  # a kernel or a sandbox without filters
        structlog.get_logger().warning("resets_not_ignored", port=port, why=str(error))


def end(connection: sockets.socket) -> None:
    """Cut a connection: its owner reads what has come, then the end, and closes it, which resets the other side.

    Raises OSError.
    """
    if sys.platform != "linux":
        connection.shutdown(sockets.SHUT_RDWR)
        return
    with suppress(OSError):  # without a filter it ends when the other side pauses
        _attach(connection, _NOTHING)
    connection.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, _NO_LINGER)
    connection.shutdown(sockets.SHUT_RD)


def _attach(one: sockets.socket, steps: Sequence[_Step]) -> None:
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    one.setsockopt(sockets.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(steps), ctypes.addressof(program)))


def _sockets_at(port: int) -> Iterator[sockets.socket]:
    """This process's TCP sockets with this port at their own end, as copies; libzmq owns them."""
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            copy = os.dup(int(path.name))
            try:
                one = sockets.socket(fileno=copy)
            except OSError:
                os.close(copy)
                continue
            with one:
                if one.family in {sockets.AF_INET, sockets.AF_INET6} and one.getsockname()[1] == port:
                    yield one
