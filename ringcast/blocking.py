"""What waiting objects are made of: an event loop in a thread, and methods that wait for their asynchronous twins."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from ringcast.errors import Closed
from ringcast.forks import Origin

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)


class Client(Protocol):
    """What is entered and closed."""

    @property
    def replica(self) -> int: ...

    async def __aenter__(self) -> object: ...

    async def close(self) -> None: ...


C = TypeVar("C", bound=Client)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._origin = Origin("client")
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._lock = threading.Lock()
        self._closed = False
        self._calls: set[Future[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ringcast", daemon=True)
        self._thread.start()

    @property
    def here(self) -> bool:
        """False in a forked child, which has no such thread."""
        return self._origin.here

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The coroutine's outcome; an exception that hits the waiting thread cancels it. Raises Closed, Forked."""
        if not self._origin.here:  # before the lock: another thread may have held it when the fork came
            coroutine.close()
            self._origin.check()
        with self._lock:
            if self._closed:
                coroutine.close()
                raise Closed(what="bus")
            future: Future[R] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._calls.add(future)
        try:
            return future.result()
        except CancelledError:
            raise Closed(what="bus") from None
        except BaseException:
            future.cancel()
            raise
        finally:
            self._calls.discard(future)

    def close(self) -> None:
        """Stop the thread; calls that still wait in other threads raise Closed. Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for future in tuple(self._calls):
            future.cancel()
        self._runner.close()


class Wrapper(Protocol[A_co]):
    """A synchronous object around an asynchronous one."""

    @property
    def loop(self) -> Loop: ...

    @property
    def inner(self) -> A_co: ...


def blocking(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Wrapper[A], P], R]:
    """The same method with the same arguments and documentation; it returns when the coroutine would."""

    @functools.wraps(method)
    def call(self: Wrapper[A], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.loop.run(method(self.inner, *args, **kwargs))

    return call


class BlockingClient(Generic[C]):
    """A client and its loop, from `with` to its end."""

    def __init__(self, inner: C) -> None:
        self.inner = inner
        self._loop: Loop | None = None

    @property
    def loop(self) -> Loop:
        if self._loop is None:
            raise Closed(what=type(self).__name__.lower())
        return self._loop

    @property
    def replica(self) -> int:
        """The id of the replica that we are connected to, or were last."""
        return self.inner.replica

    def __enter__(self) -> Self:
        self._loop = Loop()
        try:
            self._loop.run(self._enter())
        except BaseException:
            self.close()
            raise
        return self

    async def _enter(self) -> None:
        await self.inner.__aenter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything, the thread too; calls that wait raise. Safe to call twice."""
        loop, self._loop = self._loop, None
        if loop is not None and loop.here:
            try:
                loop.run(self.inner.close())
            finally:
                loop.close()
