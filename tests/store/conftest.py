"""One suite for both backends and for the journal: `store` is each in turn, `another` makes one more of its kind."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.contract import LogStore
from store.log import LmdbStore
from store.memory import MemoryStore
from tests.store.helpers import JournalingStore


@pytest.fixture(params=["memory", "lmdb", "journal"])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], LogStore]]:
    made: list[LogStore] = []

    def make() -> LogStore:
        store: LogStore
        path, member = tmp_path / f"member-{len(made)}", len(made)
        match request.param:
            case "memory":
                store = MemoryStore()
            case "lmdb":
                store = LmdbStore(path, member)
            case _:
                store = JournalingStore(path, member)
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
