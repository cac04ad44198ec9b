"""One suite for both backends: `store` is each of them in turn, `another` makes a further one of the same kind."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.contract import LogStore
from store.log import LmdbStore
from store.memory import MemoryStore


@pytest.fixture(params=["memory", "lmdb"])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], LogStore]]:
    made: list[LogStore] = []

    def make() -> LogStore:
        store: LogStore
        store = MemoryStore() if request.param == "memory" else LmdbStore(tmp_path / f"member-{len(made)}", len(made))
        made.append(store)
        store.recover()
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(another: Callable[[], LogStore]) -> LogStore:
    return another()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def lmdb_store(folder: Path) -> Iterator[LmdbStore]:
    opened = LmdbStore(folder, 1)
    opened.recover()
    yield opened
    opened.close()
