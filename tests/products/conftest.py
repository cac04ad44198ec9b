"""Fixtures of the product store's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.products.store import Store, opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "store") as found:
        yield found
