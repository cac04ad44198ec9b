"""The dashboard as a process: where it listens, and that it ends in order."""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import NamedTuple

import uvicorn

from replicas.bus.addresses import blame
from replicas.dashboard.app import make_app
from replicas.dashboard.sources import Sources
from replicas.local.files import LocalClusterError
from replicas.settings import ConfigError

CONNECTIONS_MAX = 64
GRACE_S = 2


class AddressTaken(LocalClusterError):
    """The page cannot listen there; the text says who does, and what to do."""


class Place(NamedTuple):
    """Where the page is."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """For a browser."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    @property
    def private(self) -> bool:
        """Only this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def names(self) -> tuple[str, ...]:
        """What a browser on this machine may call it; empty: whoever reaches it may call it anything."""
        return ("localhost", self.host) if self.private else ()


def listen(host: str, port: int) -> tuple[socket.socket, Place]:
    """Bind. Raises ConfigError (what is no address), AddressTaken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ConfigError(
            f"--host {host!r} is no address: {error.strerror}; use 127.0.0.1, or one of this machine's"
        ) from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(CONNECTIONS_MAX)
    except OSError as error:
        listener.close()
        why = os.strerror(error.errno) if error.errno else str(error)
        next_step = f"{blame(f'{host}:{port}')} (--port 0 takes any free one)"
        raise AddressTaken(f"the dashboard cannot listen at {host}:{port}: {why}; {next_step}") from None
    found = listener.getsockname()
    return listener, Place(found[0], found[1])


async def serve(cluster: str, host: str, port: int, timeout_s: float, announce: Callable[[Place], None]) -> None:
    """Show the cluster until SIGINT or SIGTERM. `announce`: called once, when the page can be opened.

    Raises ConfigError, AddressTaken, and of a cluster that cannot be reached at the start what `connect` raises; later
    the page goes on, and says so.
    """
    listener, place = listen(host, port)
    try:
        async with Sources(cluster, timeout_s) as sources:
            server = _Server(
                uvicorn.Config(
                    make_app(sources.board, place.names),
                    log_config=None,
                    log_level="critical",
                    access_log=False,
                    server_header=False,
                    lifespan="off",
                    ws="none",
                    limit_concurrency=CONNECTIONS_MAX,
                    timeout_graceful_shutdown=GRACE_S,
                )
            )
            loop = asyncio.get_running_loop()

            def stop() -> None:
                server.should_exit = True
                sources.board.close()  # or its readers would hold the server up

            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stop)
            sources.on_failure = stop
            announce(place)
            await server.serve(sockets=[listener])
            if sources.failure is not None:
                raise sources.failure
    finally:
        listener.close()


class _Server(uvicorn.Server):
    """Signals are ours: uvicorn would raise them once more when it has ended."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
