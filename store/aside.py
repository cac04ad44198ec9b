"""Folders that could not be trusted (D6): moved aside, never deleted, and remembered.

The memory is durable before anything moves. So whatever crashes then, a member never takes the empty folder that
follows for a first day: it is lost (D6 of docs/protocol.md), and takes part in no new cluster before its peers have let
it in or an operator has decided.

Where the data folder can be renamed, it is: to `<data>.damaged-1`, and the memory is `<data>.set-aside.json`. A folder
that a volume is mounted at cannot: its content moves into `damaged-1` within, beside `set-aside.json`.
"""

import json
import os
from pathlib import Path
from typing import Final, NamedTuple

from store.folder import LOCK_NAME, FolderLock, cluster_in, set_aside
from store.snapshot import sync_folder

MEMORY_NAME: Final = "set-aside.json"
WITHIN: Final = "damaged-"
_ASIDES_MAX: Final = 100
_STAYS: Final = frozenset({LOCK_NAME, MEMORY_NAME, "lost+found"})


class Aside(NamedTuple):
    """One folder. `pending`: the member has not come back into a cluster since. `cluster`: what it was of, or 0."""

    folder: Path
    why: str
    at_us: int
    pending: bool
    cluster: int = 0


def is_fixed(data: Path) -> bool:
    """Whether the folder itself cannot be renamed."""
    return data.exists() and (os.path.ismount(data) or not os.access(data.absolute().parent, os.W_OK))


def memory_of(data: Path) -> Path:
    """The file that remembers what was set aside of a data folder."""
    return data / MEMORY_NAME if is_fixed(data) else data.with_name(f"{data.name}.{MEMORY_NAME}")


def asides(data: Path) -> tuple[Aside, ...]:
    """What was set aside, oldest first. A memory that cannot be read counts as a pending one."""
    path = memory_of(data)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return ()
    try:
        return tuple(
            Aside(Path(one["folder"]), str(one["why"]), int(one["at_us"]), bool(one["pending"]), int(one["cluster"]))
            for one in json.loads(text)
        )
    except (ValueError, KeyError, TypeError) as error:
        return (Aside(path, f"{path.name} cannot be read ({error!r})", 0, pending=True),)


def present(data: Path) -> tuple[Aside, ...]:
    """Those that an operator still has to look at: pending, or their folder is there."""
    return tuple(one for one in asides(data) if one.pending or one.folder.exists())


def lost(data: Path) -> int | None:
    """The cluster that an empty folder here was of, 0 if nothing says it; None: it is a first day."""
    pending = [one.cluster for one in asides(data) if one.pending]
    return next((cluster for cluster in reversed(pending) if cluster), 0) if pending else None


def remember_and_set_aside(data: Path, why: str, at_us: int) -> Aside:
    """Move the folder aside, or its content. Raises FolderInUse, OSError."""
    before = asides(data)
    planned = Aside(data, why, at_us, pending=True, cluster=cluster_in(data))
    _write(data, (*before, planned))
    done = planned._replace(folder=_empty(data) if is_fixed(data) else set_aside(data))
    _write(data, (*before, done))
    return done


def _empty(data: Path) -> Path:
    """Move what is in the folder into one within; a crash in between leaves what is found damaged again."""
    lock = FolderLock(data)
    try:
        number = 1
        while (aside := data / f"{WITHIN}{number}").exists():
            number += 1
        aside.mkdir()
        for path in sorted(data.iterdir()):
            if path.name not in _STAYS and not path.name.startswith(WITHIN):
                path.rename(aside / path.name)
        sync_folder(aside)
        sync_folder(data)
    finally:
        lock.release()
    return aside


def settle(data: Path) -> None:
    """The member is back in a cluster, or an operator has restored another one."""
    found = asides(data)
    if any(one.pending for one in found):
        _write(data, tuple(one._replace(pending=False) for one in found if one.folder != memory_of(data)))


def told(found: tuple[Aside, ...]) -> str:
    """For people: each folder and why."""
    return "; ".join(f"{one.folder} ({one.why})" for one in found)


def _write(data: Path, found: tuple[Aside, ...]) -> None:
    path = memory_of(data)
    half = path.with_name(f"{path.name}.tmp")
    rows = [{**one._asdict(), "folder": str(one.folder)} for one in found[-_ASIDES_MAX:]]
    with half.open("w", encoding="utf-8") as file:
        json.dump(rows, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    half.rename(path)
    sync_folder(path.parent)
