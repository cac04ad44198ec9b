"""A backup of one bus replica's data folder, and a folder made of it that has no vote until it is readmitted (V0).

The file is a tar of the folder as it is on the disk of a stopped replica, with `MANIFEST.json` at its end: whose it is,
and each file's size and SHA-256. A restored disk is old by nature: what its member promised and acknowledged since is
not on it. So `restore` marks it wiped, with a new storage id and new bits in its incarnation, exactly as a member does
that finds its disk gone back in time; its log saves the way over the network, and its word counts when a view of a
quorum of the others takes it in.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

from replicas.bus.config import BusConfig
from replicas.bus.record_codec import ForeignState, decode_state, encode_state
from replicas.clocks import wall_us
from ringcast.errors import BadFrame
from sequencer.types import Incarnation
from store.aside import MEMORY_NAME, WITHIN
from store.contract import SaveStable
from store.errors import BackupDamaged, WrongFolder
from store.folder import FolderLock, check_identity, drop_copy
from store.log import LmdbStore
from store.snapshot import sync_folder

MANIFEST: Final = "MANIFEST.json"
FORMAT: Final = 1
#: Nothing of the state: who has the folder open, and what was set aside.
_LEFT_OUT: Final = frozenset({"LOCK", "lock.mdb", MEMORY_NAME})
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `files`: path in the folder -> (bytes, SHA-256 in hex)."""

    member: int
    made_us: int
    files: dict[str, tuple[int, str]]
    format: int = FORMAT


def backup(config: BusConfig, target: Path) -> Manifest:
    """Write the folder of a stopped replica to a file, whole or not at all.

    Raises FolderInUse while the replica runs, WrongFolder, StoreDamaged, FileNotFoundError, OSError.
    """
    folder = config.data
    if not check_identity(folder, config.id):
        raise FileNotFoundError(f"{folder} is no data folder of a replica: name the one of replica {config.id}")
    lock = FolderLock(folder)
    half = target.with_name(f"{target.name}.part")
    try:
        drop_copy(folder)
        manifest = _write(folder, config.id, half)
        half.replace(target)
        sync_folder(target.absolute().parent)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
    finally:
        lock.release()
    return manifest


def _write(folder: Path, member: int, half: Path) -> Manifest:
    files: dict[str, tuple[int, str]] = {}
    with half.open("wb") as out, tarfile.open(fileobj=out, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if not path.is_file() or name in _LEFT_OUT or name.startswith(WITHIN):
                continue
            with path.open("rb") as content:
                tar.addfile(_entry(name, os.fstat(content.fileno()).st_size), content)
            with path.open("rb") as content:
                files[name] = (os.fstat(content.fileno()).st_size, hashlib.file_digest(content, "sha256").hexdigest())
        manifest = Manifest(member, wall_us(), files)
        packed = json.dumps(asdict(manifest)).encode()
        tar.addfile(_entry(MANIFEST, len(packed)), io.BytesIO(packed))
        tar.close()
        out.flush()
        os.fsync(out.fileno())
    return manifest


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry


def restore(config: BusConfig, source: Path) -> Manifest:
    """Make the replica's data folder of a backup, marked as wiped (V0); it must not be there, or be empty.

    Raises BackupDamaged, WrongFolder, FileExistsError, OSError. On an error nothing is left.
    """
    folder = config.data
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: move it away first, nothing is ever overwritten")
    making = folder.with_name(f"{folder.name}.restoring")
    shutil.rmtree(making, ignore_errors=True)
    try:
        making.mkdir(parents=True)
        manifest = _read(source, making)
        if manifest.member != config.id:
            raise WrongFolder(source, "the data of member", manifest.member, config.id)
        _mark_wiped(making, config.id, source)
        if folder.exists():
            folder.rmdir()
        making.rename(folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return manifest


def _read(source: Path, folder: Path) -> Manifest:
    """Unpack and check everything. Raises BackupDamaged."""
    found: dict[str, tuple[int, str]] = {}
    manifest: Manifest | None = None
    try:
        with tarfile.open(source, mode="r:") as tar:
            for entry in tar:
                content = tar.extractfile(entry) if entry.isreg() else None
                if content is None or manifest is not None:
                    raise BackupDamaged(source, f"{entry.name} has no place in a backup")
                if entry.name == MANIFEST:
                    manifest = _manifest(source, content.read(_PIECE))
                    continue
                found[entry.name] = _unpack(source, folder, entry.name, content)
    except (tarfile.TarError, EOFError) as error:
        raise BackupDamaged(source, f"it cannot be read to its end ({error})") from error
    if manifest is None:
        raise BackupDamaged(source, "its end is missing")
    if found != manifest.files:
        names = sorted(found.keys() | manifest.files.keys())
        differs = next(name for name in names if found.get(name) != manifest.files.get(name))
        raise BackupDamaged(source, f"{differs} is not what was written")
    return manifest


def _unpack(source: Path, folder: Path, name: str, content: Any) -> tuple[int, str]:
    """One file; its size and digest. Raises BackupDamaged for a name that leads out of the folder."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BackupDamaged(source, f"{name!r} leads out of the folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        while piece := content.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


def _manifest(source: Path, packed: bytes) -> Manifest:
    try:
        fields = json.loads(packed)
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in fields["files"].items()}
        manifest = Manifest(int(fields["member"]), int(fields["made_us"]), files, int(fields["format"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupDamaged(source, f"its manifest cannot be read ({error!r})") from error
    if manifest.format != FORMAT:
        raise BackupDamaged(source, f"it is of format {manifest.format}, this version reads {FORMAT}")
    return manifest


def _mark_wiped(folder: Path, member: int, source: Path) -> None:
    """V0: what it promised and acknowledged since is not known here. Raises BackupDamaged, StoreError."""
    store = LmdbStore(folder, member)
    try:
        found = store.recover()
        if found.stable is None:
            return  # it never installed a view: blank, which counts for nothing already
        try:
            state, commit = decode_state(found.stable)
        except (BadFrame, ForeignState) as error:
            raise BackupDamaged(source, f"its state cannot be read ({error})") from error
        draw = SystemRandom()
        marked = replace(
            state,
            wiped=state.cluster != 0,
            storage=draw.getrandbits(63) + 1,
            incarnation=Incarnation(state.incarnation.counter, draw.getrandbits(64)),
        )
        store.commit([SaveStable(encode_state(marked, commit))])
    finally:
        store.close()
