"""Exactly once: who sent which request before, and what it was answered (Raft dissertation, 6.3).

A session begins with a client's first request and keeps the outcomes of its last WINDOW requests at most; what a client
says it has received is dropped. A session ends when it was idle for IDLE_US of the entries' time, or when there are
SESSIONS_MAX others used after it. A request of a session that ended must not look like the first of a new one, so each
carries `opened`, an index that was applied when its client said HELLO: all sessions that ended were opened below
`horizon`, and nothing opened below it is taken for new.
"""

from typing import Final, NamedTuple, Protocol

from ringcast.bus.batch import digest
from ringcast.errors import AlreadyApplied, IdReused, RingcastError, SessionExpired, TooLarge
from ringcast.product_store.wire import WINDOW, Operate
from store.products.tables import SessionRow, due_key, outcome_key, split_due_key

SESSIONS_MAX: Final = 10_000
IDLE_US: Final = 3_600 * 1_000_000
#: A session's last use is written so often at most: its end is exact to this.
USE_US: Final = 60 * 1_000_000
#: Sessions that one entry ends at most because they are idle.
ENDED_MAX: Final = 4


class SessionTables(Protocol):
    """The tables `sessions`, `outcomes` and `used` of whatever state machine; as `store.products.tables.Tables`."""

    def session(self, client: bytes) -> SessionRow | None: ...
    def put_session(self, client: bytes, row: SessionRow) -> None: ...
    def get(self, table: str, key: bytes) -> bytes | None: ...
    def put(self, table: str, key: bytes, value: bytes) -> None: ...
    def delete(self, table: str, key: bytes) -> None: ...
    def mark(self, table: str, key: bytes) -> None: ...
    def keys(self, table: str, begin: bytes, start: bytes = b"", limit: int | None = None) -> list[bytes]: ...


class SessionMeta(Protocol):
    """Where the state machine stands; as `store.products.tables.Meta`."""

    applied: int
    time_us: int
    horizon: int
    sessions: int


class Repeated(NamedTuple):
    """The request was applied before, with these outcomes."""

    outcomes: bytes


class Sessions:
    """The sessions as one entry meets them. `limit`: of sessions."""

    def __init__(self, tables: SessionTables, meta: SessionMeta, limit: int) -> None:
        self._tables = tables
        self._meta = meta
        self._limit = limit

    def judge(self, request: Operate, seal: bytes) -> Repeated | RingcastError | None:
        """None: apply it, then `remember` it. `seal`: `digest_of(request)`."""
        client, sequence, acknowledged, opened, _ = request
        meta = self._meta
        session = self._tables.session(client)
        if session is None:
            if not meta.horizon <= opened <= meta.applied:
                return SessionExpired(client=client.hex(), opened=opened, horizon=meta.horizon)
            session = self._begin(client, opened)
        if sequence <= session.acknowledged:
            return AlreadyApplied(sequence=sequence, remembered=WINDOW)
        stored = self._tables.get("outcomes", outcome_key(client, sequence))
        if stored is not None:
            if stored[: len(seal)] != seal:
                return IdReused(sequence=sequence, client=client.hex())
            return Repeated(stored[len(seal) :])
        floor = max(session.acknowledged, min(acknowledged, sequence - 1))
        if sequence > floor + WINDOW:
            what = "the number of unanswered requests"
            return TooLarge(what=what, size=sequence - floor, limit=WINDOW, unit="requests")
        self._use(client, session, floor)
        return None

    def recall(self, request: Operate, seal: bytes) -> bytes | None:
        """The outcomes of a request that was applied before, if they are remembered; changes nothing."""
        stored = self._tables.get("outcomes", outcome_key(request.client, request.sequence))
        return stored[len(seal) :] if stored is not None and stored[: len(seal)] == seal else None

    def remember(self, request: Operate, seal: bytes, outcomes: bytes) -> None:
        """The outcomes of a request that was applied now."""
        self._tables.put("outcomes", outcome_key(request.client, request.sequence), seal + outcomes)

    def end_idle(self) -> None:
        """End those that were idle for too long, ENDED_MAX of them."""
        for key in self._tables.keys("used", b"", limit=ENDED_MAX):
            used_us, client = split_due_key(key)
            if used_us + IDLE_US >= self._meta.time_us:
                return
            self._end(client)

    def set_back(self) -> None:
        """The time was set back (D7): what was used in the meantime was used now."""
        tables, now_us = self._tables, self._meta.time_us
        for key in tables.keys("used", b"", due_key(now_us + 1, b"")):
            client = split_due_key(key)[1]
            tables.delete("used", key)
            session = tables.session(client)
            if session is not None:
                tables.mark("used", due_key(now_us, client))
                tables.put_session(client, session._replace(used_us=now_us))

    def _begin(self, client: bytes, opened: int) -> SessionRow:
        while self._meta.sessions >= self._limit:
            (oldest,) = self._tables.keys("used", b"", limit=1)
            self._end(split_due_key(oldest)[1])
        session = SessionRow(opened, 0, self._meta.time_us)
        self._tables.put_session(client, session)
        self._tables.mark("used", due_key(session.used_us, client))
        self._meta.sessions += 1
        return session

    def _use(self, client: bytes, session: SessionRow, floor: int) -> None:
        """Forget what the client has received, and note that it lives."""
        tables, now_us = self._tables, self._meta.time_us
        # No outcome was kept beyond the window, however far a client says it is.
        for sequence in range(session.acknowledged + 1, min(floor, session.acknowledged + WINDOW) + 1):
            tables.delete("outcomes", outcome_key(client, sequence))
        used_us = session.used_us
        if now_us - used_us >= USE_US:
            tables.delete("used", due_key(used_us, client))
            tables.mark("used", due_key(now_us, client))
            used_us = now_us
        if floor > session.acknowledged or used_us != session.used_us:
            tables.put_session(client, session._replace(acknowledged=floor, used_us=used_us))

    def _end(self, client: bytes) -> None:
        tables = self._tables
        session = tables.session(client)
        if session is None:  # `used` and `sessions` have the same clients
            return
        for sequence in tables.keys("outcomes", client):
            tables.delete("outcomes", client + sequence)
        tables.delete("used", due_key(session.used_us, client))
        tables.delete("sessions", client)
        self._meta.sessions -= 1
        self._meta.horizon = max(self._meta.horizon, session.opened + 1)


def digest_of(request: Operate) -> bytes:
    """By which a request that is sent again is told from one that reuses its number."""
    return digest(b"".join(request.operations))
