"""What all tests of Raft share."""

from collections.abc import Iterator

import pytest

from tests.raft.harness import Peer


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    Peer.close_all()
