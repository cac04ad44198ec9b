"""What a replica says of its data folders that were set aside (D6), the bus's and the product store's alike.

And what makes it possible to say it: the folder's identity file names the cluster, once there is one.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from store.aside import Aside, present, settle
from store.folder import IDENTITY_NAME, cluster_in, write_identity

LOOK_INTERVAL_S = 1.0


class Asides:
    """`found`: the folders that an operator still has to look at, as of the last look."""

    def __init__(self, data: Path, member: int) -> None:
        self._data = data
        self._member = member
        self.found: tuple[Aside, ...] = ()
        self.look(0)

    def look(self, cluster: int) -> None:
        """`cluster`: that in which this member takes part, 0 while in none. Then nothing is pending any more."""
        if cluster and any(one.pending for one in self.found):
            settle(self._data)
        if cluster and (self._data / IDENTITY_NAME).exists() and cluster_in(self._data) != cluster:
            write_identity(self._data, self._member, cluster)
        self.found = present(self._data)

    async def watch(self, cluster: Callable[[], int]) -> None:
        """Until cancelled: a folder that an operator moved away is forgotten.

        Without file descriptors or space it looks again later: what was found stands, and no replica ends for a look.
        """
        while True:
            with suppress(OSError):
                self.look(cluster())
            await asyncio.sleep(LOOK_INTERVAL_S)
