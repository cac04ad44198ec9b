"""A little space that is kept for a full disk: deleting from a full file takes new pages, and a snapshot takes a file.

Whoever frees space on a full disk gives it back first (C2, D5); it is made again when there is plenty.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

RESERVE_NAME: Final = "reserve"
RESERVE_BYTES: Final = 4 << 20
#: It is not made when less than this many times its size is free.
_PLENTY: Final = 8


class Reserve:
    """A file of zeros in a member's folder. It may be missing: it only helps."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RESERVE_NAME

    def make(self) -> None:
        """Take the space, if there is plenty."""
        if self._path.exists():
            return
        with suppress(OSError):
            room = os.statvfs(self._path.parent)
            if room.f_bavail * room.f_frsize < _PLENTY * RESERVE_BYTES:
                return
            try:
                with self._path.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
            except OSError:
                self._path.unlink(missing_ok=True)
                raise

    def release(self) -> None:
        """Give the space back."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
