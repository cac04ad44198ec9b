"""Answers that somebody may have stopped waiting for."""

from asyncio import Future
from typing import Any


def fail(future: Future[Any], error: BaseException) -> None:
    """Fail it, unless it is done; nobody needs to look."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # looked at: a caller that has gone is no error
