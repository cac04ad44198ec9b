"""What was set aside is remembered, before anything moves and until the member is back in a cluster (D6)."""

import json
import os
from pathlib import Path

import pytest

from store import aside
from store.aside import asides, lost, memory_of, present, remember_and_set_aside, settle, told
from store.contract import SaveStable
from store.folder import IDENTITY_NAME, cluster_in, write_identity
from store.log import LmdbStore

CLUSTER = 77


def filled(folder: Path) -> None:
    store = LmdbStore(folder, 1)
    store.recover()
    store.commit([SaveStable(b"kept")])
    store.close()
    write_identity(folder, 1, CLUSTER)


def fixed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == folder)


@pytest.mark.parametrize("mounted", [False, True])
def test_a_folder_moves_and_its_cluster_is_remembered(
    folder: Path, mounted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that a volume is mounted at cannot be renamed."""
    if mounted:
        fixed(folder, monkeypatch)
    for number in (1, 2):
        filled(folder)
        done = remember_and_set_aside(folder, f"why {number}", number)
        assert done.folder == (folder / f"damaged-{number}" if mounted else folder.with_name(f"data.damaged-{number}"))
        assert (done.folder / "data.mdb").exists()
        assert not (folder / "data.mdb").exists()
        assert lost(folder) == CLUSTER
    store = LmdbStore(folder, 1)
    assert store.recover().stable is None
    store.close()
    assert told(present(folder)).count("why") == 2
    settle(folder)
    assert lost(folder) is None
    assert len(present(folder)) == 2  # until somebody has looked at them
    for one in asides(folder):
        one.folder.rename(folder.parent / f"looked-at-{one.at_us}")
    assert present(folder) == ()


def test_the_memory_is_durable_before_anything_moves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(folder)

    def crash(path: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(aside, "set_aside", crash)
    with pytest.raises(KeyboardInterrupt):
        remember_and_set_aside(folder, "why", 1)
    assert lost(folder) == CLUSTER
    monkeypatch.undo()
    assert remember_and_set_aside(folder, "why", 2).folder.exists()
    assert lost(folder) == CLUSTER


def test_a_crash_while_the_content_moves_is_found_at_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed(folder, monkeypatch)
    filled(folder)
    moved = 0
    rename = Path.rename

    def crash(self: Path, target: Path) -> Path:
        nonlocal moved
        moved += target.parent.name.startswith("damaged-")
        if moved == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        remember_and_set_aside(folder, "why", 1)
    assert lost(folder) == CLUSTER


def test_a_memory_that_cannot_be_read_counts(folder: Path) -> None:
    filled(folder)
    for text in ("", "[{}]", '{"a": 1}', "\x00"):
        memory_of(folder).write_text(text)
        assert lost(folder) == 0
    settle(folder)
    assert lost(folder) is None


def test_an_identity_without_a_cluster_or_none(folder: Path) -> None:
    assert cluster_in(folder) == 0
    filled(folder)
    assert cluster_in(folder) == CLUSTER
    (folder / IDENTITY_NAME).write_text("[]")
    assert cluster_in(folder) == 0
    write_identity(folder, 1)
    assert "cluster" not in json.loads((folder / IDENTITY_NAME).read_text())
