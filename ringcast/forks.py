"""A fork takes neither threads nor connections along: what was opened before it refuses to work in the child, at once.

Nothing is closed there either. The child shares the parent's epoll and its loop's pipe: to unregister a descriptor in
the child would unregister the parent's, and stop its loop.
"""

import os

from ringcast.errors import Forked


class Origin:
    """The process that a client was opened in."""

    __slots__ = ("_pid", "_what")

    def __init__(self, what: str) -> None:
        self._pid = os.getpid()
        self._what = what

    @property
    def here(self) -> bool:
        """Is this still that process?"""
        return self._pid == os.getpid()

    def check(self) -> None:
        """Raise Forked in a child of that process."""
        if not self.here:
            raise Forked(what=self._what, opened=self._pid, used=os.getpid())
