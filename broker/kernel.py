"""What Linux knows of connections and of this process's memory, asked without a Python socket around each descriptor.

libzmq owns the descriptors: an object of ours around one would close it when it is collected.
"""

import ctypes
import os
import socket as sockets
import struct
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple
from weakref import finalize

from broker import resets

#: Calls of microseconds, which keep the interpreter's lock; `trim` takes longer and lets it go.
_quick = ctypes.PyDLL(None)
_slow = ctypes.CDLL(None)
_TCP, _TCP_INFO = 6, 11
_SOL_SOCKET, _SO_COOKIE = 1, 57
_INFO_BYTES = 232
_ADDRESS_BYTES = 128
_U64 = struct.Struct("=Q")
_BYTES_RECEIVED = 128  # offset in struct tcp_info (linux/tcp.h)
_TRAFFIC = struct.Struct("=Q8xI")  # bytes received, segments out and in, bytes not sent
#: Of cgroup v2 and v1, as a container sees its own; "max" is none.
_MEMORY_LIMITS = [Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM_BYTES = 256  # seven numbers


def cookie(descriptor: int) -> int | None:
    """The kernel's own number of the socket behind a descriptor, never used twice; None: there is no socket."""
    found = _option(descriptor, _SOL_SOCKET, _SO_COOKIE, _U64.size)
    return None if found is None else int(_U64.unpack_from(found)[0])


class Traffic(NamedTuple):
    """Of a TCP connection. `received`: bytes since it began; `unsent`: bytes in its queue to the other end."""

    received: int
    unsent: int


def traffic(descriptor: int) -> Traffic | None:
    """None: there is no TCP connection behind this descriptor."""
    found = _option(descriptor, _TCP, _TCP_INFO, _INFO_BYTES)
    return None if found is None else Traffic(*_TRAFFIC.unpack_from(found, _BYTES_RECEIVED))


def peer_of(descriptor: int) -> str:
    """The address of a connection's other end, as host:port; "?" if it is gone or has none."""
    buffer = ctypes.create_string_buffer(_ADDRESS_BYTES)
    length = ctypes.c_uint32(_ADDRESS_BYTES)
    if _quick.getpeername(descriptor, buffer, ctypes.byref(length)) != 0:
        return "?"
    family, port = struct.unpack_from("=H", buffer.raw)[0], struct.unpack_from("!H", buffer.raw, 2)[0]
    if family == sockets.AF_INET:
        return f"{IPv4Address(buffer.raw[4:8])}:{port}"
    if family == sockets.AF_INET6:
        return f"[{IPv6Address(buffer.raw[8:24])}]:{port}"
    return "?"


def shut_down(descriptor: int) -> bool:
    """End a connection as if its other end had gone (broker/resets.py); its owner meets that and closes it."""
    try:
        connection = sockets.socket(fileno=descriptor)
    except OSError:
        return False
    try:
        resets.end(connection)
    except OSError:
        return False
    finally:
        connection.detach()
    return True


class Memory:
    """What this process holds. Its file stays open, so that it can be read when there are no descriptors left."""

    def __init__(self) -> None:
        self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        finalize(self, os.close, self._statm)

    def anonymous_bytes(self) -> int:
        """Resident memory that is no file's: LMDB's pages, which the kernel may take back, do not count."""
        _, resident, shared, *_ = os.pread(self._statm, _STATM_BYTES, 0).split()
        return (int(resident) - int(shared)) * _PAGE_BYTES


def memory_limit() -> int | None:
    """What the cgroup of this process (a container's) allows it; None: there is no limit."""
    for path in _MEMORY_LIMITS:
        with suppress(OSError, ValueError):
            return int(path.read_text(encoding="ascii"))
    return None


def trim() -> None:
    """Give free memory back to the kernel, where the allocator can (glibc)."""
    with suppress(AttributeError):
        _slow.malloc_trim(0)


def _option(descriptor: int, level: int, name: int, size: int) -> bytes | None:
    buffer = ctypes.create_string_buffer(size)
    length = ctypes.c_uint32(size)
    if _quick.getsockopt(descriptor, level, name, buffer, ctypes.byref(length)) != 0:
        return None
    return buffer.raw
