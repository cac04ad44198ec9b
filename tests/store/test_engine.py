"""Folders are of one LMDB engine, whatever the environment says; one of another engine is refused by its name."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from store import engine
from store.contract import SaveStable
from store.engine import ENGINE, engine_of, open_engine
from store.errors import EngineMissing, StoreDamaged, WrongFolder
from store.folder import IDENTITY_NAME
from store.log import LmdbStore
from tests.store.helpers import DATA, appends

ROOT = Path(__file__).parents[2]
USE = """
import sys
from pathlib import Path
from store.contract import SaveStable
from store.log import LmdbStore
store = LmdbStore(Path(sys.argv[1]), 1)
print(store.recover().stable)
store.commit([SaveStable(b"kept")])
store.close()
"""


def filled(folder: Path) -> LmdbStore:
    store = LmdbStore(folder, 1)
    store.recover()
    store.commit([*appends(0, 3), SaveStable(b"kept")])
    store.close()
    return store


def foreign(folder: Path, lib_version: int) -> None:
    """A data file of that engine in the place of ours."""
    for name in (DATA, "lock.mdb"):
        (folder / name).unlink(missing_ok=True)
    with lmdb.open(str(folder), max_dbs=1, lib_version=lib_version) as environment:
        environment.open_db(b"log")


@pytest.mark.parametrize("default", ["0", "1"])
def test_the_environment_does_not_choose_the_engine(folder: Path, default: str) -> None:
    for said in ("None", "b'kept'"):
        found = subprocess.run(
            [sys.executable, "-c", USE, str(folder)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "LMDB_DEFAULT_LIB_VERSION": default},
        )
        assert found.stdout.strip() == said
    assert engine_of(folder / DATA) == ENGINE


def test_a_folder_says_its_engine_and_an_older_one_need_not(folder: Path) -> None:
    store = filled(folder)
    identity = json.loads((folder / IDENTITY_NAME).read_text())
    assert identity.pop("engine") == ENGINE
    (folder / IDENTITY_NAME).write_text(json.dumps(identity))
    assert store.recover().stable == b"kept"
    store.close()


@pytest.mark.parametrize("says_it", [True, False])
def test_a_data_file_of_the_other_engine_is_refused_by_its_name_and_left_alone(folder: Path, says_it: bool) -> None:
    """Not damage: a folder that is set aside begins a new disk."""
    store = filled(folder)
    foreign(folder, 1)
    if not says_it:
        (folder / IDENTITY_NAME).unlink()
    before = (folder / DATA).read_bytes()
    with pytest.raises(WrongFolder, match=r"storage engine LMDB 1\.0, this process wants LMDB 0\.9"):
        store.recover()
    assert (folder / DATA).read_bytes() == before


def test_a_folder_of_an_engine_of_the_future_is_refused_by_its_name(folder: Path) -> None:
    store = filled(folder)
    identity = json.loads((folder / IDENTITY_NAME).read_text())
    (folder / IDENTITY_NAME).write_text(json.dumps({**identity, "engine": "LMDB 2.0"}))
    with pytest.raises(WrongFolder, match=r"LMDB 2\.0"):
        store.recover()


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (bytes(12) + (0xBEEFC0DE).to_bytes(4, sys.byteorder), "LMDB 0.9 of a 32-bit machine"),
        (bytes(20) + (0xBEEFC0DE).to_bytes(4, sys.byteorder), "an LMDB whose page header has 20 bytes"),
        (
            bytes(16) + (0xBEEFC0DE).to_bytes(4, "big" if sys.byteorder == "little" else "little"),
            "LMDB 0.9 of a machine with the other byte order",
        ),
        (bytes(64), None),
        (b"", None),
    ],
)
def test_what_the_first_page_says(tmp_path: Path, head: bytes, name: str | None) -> None:
    (tmp_path / DATA).write_bytes(head)
    assert engine_of(tmp_path / DATA) == name


def test_a_flipped_version_number_is_damage_and_no_other_engine(folder: Path) -> None:
    """Data format 1 and 3 differ in one bit."""
    store = filled(folder)
    with (folder / DATA).open("r+b") as data:
        data.seek(20)
        assert data.read(4) == (1).to_bytes(4, sys.byteorder)
        data.seek(20)
        data.write((3).to_bytes(4, sys.byteorder))
    with pytest.raises(StoreDamaged):
        store.recover()


def test_a_build_without_the_engine_is_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """py-lmdb built against a system library has that one alone."""
    monkeypatch.setattr(engine, "_LIB_VERSION", 7)
    with pytest.raises(EngineMissing, match=r"LMDB_FORCE_SYSTEM"):
        LmdbStore(folder, 1).recover()


def test_the_engine_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    with open_engine(tmp_path) as environment:
        assert ".".join(map(str, environment.lib_version())) == engine.engine_version()


def test_every_environment_is_opened_with_an_engine() -> None:
    """An `lmdb.open` without one follows LMDB_DEFAULT_LIB_VERSION."""
    opens = re.compile(r"lmdb\.(?:open|Environment)\(([^)]*\)?[^)]*)\)", re.DOTALL)
    found = [
        str(path.relative_to(ROOT))
        for folder in ("ringcast", "store", "replicas", "broker", "cli", "bench", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if any("lib_version=" not in call for call in opens.findall(path.read_text(encoding="utf-8")))
    ]
    assert not found
