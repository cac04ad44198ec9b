"""A name server of a test's own: names, their numbers, and some for which it never answers."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import SimpleNamespace

import pytest

Row = tuple[int, int, int, str, tuple[str, int]]


class NameServer:
    """`numbers`: what is known, one number or more with spaces between them.

    `silent`: who asks for one of these waits until the end of the test.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, str] = {}
        self.silent: set[str] = set()
        self.asked: list[str] = []
        self.end = Event()

    def look_up(self, host: str, *_: object) -> list[Row]:
        """In the place of socket.getaddrinfo."""
        self.asked.append(host)
        if host in self.silent:
            self.end.wait()
        if host not in self.numbers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        numbers = self.numbers[host].split()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, 0)) for number in numbers]


@contextmanager
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """Who looks a name up (ringcast/names.py) asks this one."""
    server = NameServer()
    ours = SimpleNamespace(getaddrinfo=server.look_up, AF_INET=socket.AF_INET, SOCK_STREAM=socket.SOCK_STREAM)
    monkeypatch.setattr("ringcast.names.socket", ours)
    try:
        yield server
    finally:
        server.end.set()
