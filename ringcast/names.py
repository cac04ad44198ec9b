"""Names of machines become numbers here, in threads of their own.

libzmq would ask by itself at each connect and reconnect, in its one I/O thread. While a name server does not answer (a
dead machine took it along, or a dead container's name is asked for upstream), no other connection of the process would
move, for ten seconds with glibc's defaults: a ring that lost one member would lose them all. So libzmq gets numbers.
"""

import asyncio
import socket
from contextlib import suppress
from ipaddress import ip_address
from threading import Thread
from typing import TypeAlias
from weakref import WeakKeyDictionary

_Numbers: TypeAlias = tuple[str, ...] | OSError
#: Loop -> name -> who waits for its numbers. One thread for a name at a time: a lookup cannot be broken off.
_asked: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Future[_Numbers]]]" = WeakKeyDictionary()


def is_numeric(endpoint: str) -> bool:
    """Is there no name in it to be looked up? So it is with `ipc://` and the like too, and with no endpoint at all."""
    scheme, host, _ = _parts(endpoint)
    if scheme != "tcp":
        return True
    with suppress(ValueError):
        ip_address(host.strip("[]"))
        return True
    return False


async def numeric(endpoint: str) -> str:
    """The endpoint with a number in the place of its name, the first one that is told. Raises OSError."""
    return (await all_numeric(endpoint))[0]


async def all_numeric(endpoint: str) -> tuple[str, ...]:
    """With each number that its name has. Raises OSError."""
    if is_numeric(endpoint):
        return (endpoint,)
    scheme, host, port = _parts(endpoint)
    loop = asyncio.get_running_loop()
    asked = _asked.setdefault(loop, {})
    if host not in asked:
        asked[host] = loop.create_future()
        asked[host].add_done_callback(lambda _: asked.pop(host))
        # A daemon: the process need not wait for a name server when it ends.
        Thread(target=_look_up, args=(loop, host, asked[host]), name=f"name {host}", daemon=True).start()
    found = await asyncio.shield(asked[host])
    if isinstance(found, OSError):
        raise OSError(*found.args)
    return tuple(f"{scheme}://{number}:{port}" for number in found)


def _parts(endpoint: str) -> tuple[str, str, str]:
    scheme, _, rest = endpoint.partition("://")
    host, _, port = rest.rpartition(":")
    return scheme, host, port


def _look_up(loop: asyncio.AbstractEventLoop, host: str, answer: "asyncio.Future[_Numbers]") -> None:
    found: _Numbers
    try:
        # Our sockets speak IPv4 (ZMQ_IPV6 is off).
        rows = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
        found = tuple(str(address[0]) for *_, address in rows)
    except OSError as error:
        found = error
    except UnicodeError as error:  # no name at all: a label that is empty or too long
        found = OSError(0, str(error))
    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(_tell, answer, found)


def _tell(answer: "asyncio.Future[_Numbers]", found: _Numbers) -> None:
    if not answer.done():
        answer.set_result(found)
