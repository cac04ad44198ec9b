"""A client that speaks just enough ZMTP 3.0 (NULL) to send what libzmq never would, over a plain socket."""

import socket as sockets
import struct
from types import TracebackType
from typing import Self

_GREETING = b"\xff" + b"\0" * 7 + b"\x01\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" * 32


def frame(body: bytes, *, more: bool = False) -> bytes:
    """One part as it is on the wire."""
    if len(body) > 255:
        return bytes([2 | more]) + struct.pack(">Q", len(body)) + body
    return bytes([more, len(body)]) + body


class Flood:
    """One connection after its handshake."""

    def __init__(self, endpoint: str, kind: bytes = b"DEALER") -> None:
        """`kind`: the type of socket that it says it is."""
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self.socket = sockets.create_connection((host, int(port)), timeout=30)
        self.socket.sendall(_GREETING)
        self._receive(len(_GREETING))
        body = b"\x05READY" + _property(b"Socket-Type", kind) + _property(b"Identity", b"")
        self.socket.sendall(b"\x04" + bytes([len(body)]) + body)
        self.address = "{}:{}".format(*self.socket.getsockname())
        self.sent = 0

    def send(self, data: bytes) -> None:
        """All of it. Raises OSError once the connection is cut."""
        self.socket.sendall(data)
        self.sent += len(data)

    def send_until_cut(self, data: bytes, bytes_max: int) -> bool:
        """Again and again; was it cut?"""
        try:
            while self.sent < bytes_max:
                self.send(data)
        except OSError:
            return True
        return self.wait_cut()

    def wait_cut(self, seconds: float = 5.0) -> bool:
        """Is it cut, now or so soon?"""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(1_024):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def _receive(self, count: int) -> None:
        while count:
            got = self.socket.recv(count)
            if not got:
                raise ConnectionResetError("the port closed the connection in its handshake")
            count -= len(got)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
