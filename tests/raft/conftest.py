"""What all tests of Raft share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from store.raft_contract import Write
from tests.raft.driver import GENESIS, HARD, Driver
from tests.raft.harness import Peer


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    Peer.close_all()


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[Driver]:
    one = Driver(tmp_path / "data")
    await one.write(Write(0, hard=HARD, found=GENESIS))
    yield one
    one.store.close()
