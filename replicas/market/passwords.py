"""Passwords: scrypt in a few threads, never on the loop, and never more of it than the machine can do."""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Final

from replicas.customers.commands import KEY_BYTES, SALT_BYTES
from ringcast.errors import Overloaded
from ringcast.market.limits import password_bytes

#: RFC 7914; about 50 ms and 16 MiB for each hash.
N, R, P = 1 << 14, 8, 1
MEMORY_BYTES_MAX: Final = 64 << 20
THREADS: Final = 2
#: Hashes that wait or are being made; beyond it a client is told to come again.
WAITING_MAX: Final = 64


def scrypt(password: str, salt: bytes) -> bytes:
    """The key of a password. Any thread; lets the interpreter go while it works."""
    return hashlib.scrypt(password_bytes(password), salt=salt, n=N, r=R, p=P, maxmem=MEMORY_BYTES_MAX, dklen=KEY_BYTES)


def salt_of(client: bytes, sequence: int) -> bytes:
    """Of an account that this call creates: no other has it, and whoever repeats the call finds the same."""
    return hashlib.blake2b(
        client + sequence.to_bytes(8, "big"), digest_size=SALT_BYTES, person=b"ringcast-salt"
    ).digest()


class Hasher:
    """Hashes for one process; `close()` it."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "ringcast-passwords")
        self._waiting = 0
        #: Made so far, and their time in all, in the queue too.
        self.made = 0
        self.seconds = 0.0

    async def key(self, password: str, salt: bytes) -> bytes:
        """scrypt. Raises Overloaded."""
        if self._waiting >= WAITING_MAX:
            what = "the number of passwords that wait to be hashed"
            raise Overloaded(what=what, size=self._waiting + 1, limit=WAITING_MAX, unit="passwords")
        self._waiting += 1
        started = perf_counter()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, scrypt, password, salt)
        finally:
            self._waiting -= 1
            self.made += 1
            self.seconds += perf_counter() - started

    def close(self) -> None:
        """What has not begun is never made."""
        self._threads.shutdown(wait=False, cancel_futures=True)
