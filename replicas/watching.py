"""Some settings of a running replica may change in its file: what they bound is looked at again, nothing is restarted.

The file is looked at each second. It is read when it has stood still for a second, as at the start: the environment and
the flags still come before it. A file that is not valid changes nothing, and is refused in the log and in the metrics.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from replicas.settings import ConfigError, ReplicaConfig

Config = TypeVar("Config", bound=ReplicaConfig)
LOOK_INTERVAL_S = 1.0

_Stamp = tuple[int, int, int] | None


class SettingsWatch(Generic[Config]):
    """`read()` gives the configuration as a start would find it; `use(config)` takes what changed of `keys`."""

    def __init__(
        self,
        config: Config,
        path: Path,
        keys: Collection[str],
        *,
        read: Callable[[], Config],
        use: Callable[[Config], None],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._config = config
        self._path = path
        self._keys = keys
        self._read = read
        self._use = use
        self._log = structlog.get_logger().bind(member=config.id)
        self._taken = self._seen = self._stamp()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            self.look()

    def look(self) -> None:
        """Take the file if it changed and stood still since the last look: one half written must not count."""
        before, self._seen = self._seen, self._stamp()
        if self._seen == self._taken or self._seen != before:
            return
        self._taken = self._seen
        try:
            found = self._read()
        except ConfigError as error:
            self.counters["settings_refused"] += 1
            why, file = str(error), str(self._path)
            self._log.error("settings_refused", file=file, why=why, next="correct the file; nothing changed")
            return
        self._take(found)

    def _take(self, found: Config) -> None:
        changed = {
            name: value
            for name in type(found).model_fields
            if (value := getattr(found, name)) != getattr(self._config, name)
        }
        at_once = {name: value for name, value in changed.items() if name in self._keys}
        if later := sorted(changed.keys() - at_once.keys()):
            self._log.warning("settings_need_a_restart", file=str(self._path), keys=later)
        if at_once:
            self._config = self._config.model_copy(update=at_once)
            self._use(self._config)
            self.counters["settings_taken"] += 1
            self._log.info("settings_taken", file=str(self._path), **at_once)

    def _stamp(self) -> _Stamp:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns
