"""The client's side of durable cursors: commits are batches on `_cursors`, exactly once like any other (K2)."""

import asyncio

from ringcast.bus.batch import pack
from ringcast.bus.cursors import COMMIT, CursorOperation, encode_operation
from ringcast.bus.session import Session
from ringcast.bus.topics import CURSORS_TOPIC


async def put(session: Session, operation: CursorOperation) -> None:
    """Put a cursor operation into the order and wait until it is applied. Cancelled while waiting, it stays pending."""
    packed = pack([encode_operation(operation)])
    await session.room(len(packed))
    await asyncio.shield(session.publish(CURSORS_TOPIC, packed, 1).receipt)


class CursorCommits:
    """Moves one cursor: at most one commit is in flight, and all that ask meanwhile share the next one."""

    def __init__(self, session: Session, name: str, pattern: str, timeout_s: float) -> None:
        self.name = name
        self._session = session
        self._pattern = pattern
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        # 0 <= done <= wanted, both next offsets; done is durable.
        self._done = 0
        self._wanted = 0

    async def commit(self, offset: int, timeout_s: float | None = None) -> None:
        """Return when the durable position is at least `offset`. Raises Timeout; the position may still move then."""
        self._wanted = max(self._wanted, offset)
        seconds = self._timeout_s if timeout_s is None else timeout_s
        async with self._session.within(f"cursor {self.name}", seconds), self._lock:
            if self._done < offset:
                wanted = self._wanted
                await put(self._session, CursorOperation(COMMIT, self.name, self._pattern, wanted))
                self._done = max(self._done, wanted)
