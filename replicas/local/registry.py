"""cluster.json as a file: read it, change it one process at a time, and enter a worker that a supervisor started.

Few imports: a worker does this before it becomes a replica.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from replicas.local.processes import start_time

FILE_NAME = "cluster.json"
LOCK_NAME = "cluster.lock"
#: Set by `ringcast up` for what it starts: "ROLE ID FOLDER", the entry of cluster.json that is this process's.
VARIABLE = "RINGCAST_LISTED_AS"
#: The parents of supervised replicas in cluster.json: "ROLE-ID" -> pid and start time. An entry in `replicas` has no
#: more keys than in older versions, which refuse one that they do not know.
SUPERVISORS = "supervisors"


def read(folder: Path) -> dict[str, Any]:
    """cluster.json; empty if there is none. Raises OSError, ValueError."""
    try:
        document = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if not isinstance(document, dict):
        raise ValueError("no object")  # noqa: TRY004 - as of JSON that is none
    return document


def write(folder: Path, document: dict[str, Any]) -> None:
    """Replace cluster.json whole; within `locked`."""
    half = (folder / FILE_NAME).with_suffix(".tmp")
    half.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    half.replace(folder / FILE_NAME)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time changes the file."""
    with (folder / LOCK_NAME).open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def list_worker() -> None:
    """Write this process's pid into the entry that the environment names; nothing without one, or if it is gone."""
    entry = os.environ.get(VARIABLE)
    if not entry:
        return
    role, member, name = entry.split(" ", 2)
    folder = Path(name)
    with contextlib.suppress(OSError, ValueError), locked(folder):
        document = read(folder)
        for one in document.get("replicas", ()):
            if (one["role"], one["id"]) == (role, int(member)):
                one.update(_process(os.getpid()))
                document.setdefault(SUPERVISORS, {})[f"{role}-{member}"] = _process(os.getppid())
                write(folder, document)


def supervisor_of(document: Mapping[str, Any], role: str, member: int) -> tuple[int, str]:
    """The parent of a replica, by pid and start time; (0, "") if the file names none."""
    found = document.get(SUPERVISORS, {}).get(f"{role}-{member}", {})
    return int(found.get("pid", 0)), str(found.get("started", ""))


def _process(pid: int) -> dict[str, Any]:
    return {"pid": pid, "started": start_time(pid) or ""}
