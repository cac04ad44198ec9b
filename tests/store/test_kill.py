"""kill -9 of a process that writes: everything it reported durable is there, whole (D1, D2)."""

import subprocess
import sys
from pathlib import Path

import pytest

from store.log import LmdbStore
from tests.store.helpers import body, link

# Prints each ticket as the writer reports it, while the main thread goes on submitting.
WRITE = """
import os, sys
from pathlib import Path
from store.contract import SaveStable
from store.log import LmdbStore
from store.writer import Writer
from tests.store.helpers import append, applied

store = LmdbStore(Path(sys.argv[1]), 1, map_bytes=1 << 20)
slot = store.recover().end
writer = Writer(store, lambda ticket: os.write(1, b"%d\\n" % ticket), lambda error: os._exit(3))
writer.start()
while True:
    if writer.backlog_bytes < 200_000:
        slot += 1
        writer.submit(slot, [append(slot - 1, size=2000), SaveStable(b"%d" % slot), applied(slot)])
"""


# Prints each slot that the journal has taken, while the writer's thread goes on bringing them to LMDB with their rows.
JOURNAL = """
import os, sys
from pathlib import Path
from store.log import LmdbStore
from store.writer import Writer
from tests.store.helpers import append, applied

store = LmdbStore(Path(sys.argv[1]), 1, map_bytes=1 << 20)
slot = store.recover().end
writer = Writer(store, lambda ticket: None, lambda error: os._exit(3))
writer.start()
while True:
    if store.journal([append(slot, size=500)]):
        slot += 1
        os.write(1, b"%d\\n" % slot)
        if slot % 30 == 0:
            writer.submit(slot, [applied(slot)])
"""


def killed(code: str, folder: Path, reports: int) -> int:
    """Run `code` on a folder, kill it after so many reports; returns the newest one."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert child.stdout is not None
    try:
        newest = max(int(child.stdout.readline()) for _ in range(reports))
    finally:
        child.kill()
        rest, _ = child.communicate()
    return max([newest, *map(int, rest.split(b"\n")[:-1])])  # a last line may be cut off


@pytest.mark.parametrize("reports", [1, 20])
def test_what_was_reported_durable_survives_kill_9(folder: Path, reports: int) -> None:
    """Three lives of one folder, each killed in the middle of its writing."""
    for _ in range(3):
        durable = killed(WRITE, folder, reports)
        store = LmdbStore(folder, 1)
        recovered = store.recover()
        assert recovered.end >= durable >= reports
        assert (recovered.damaged, recovered.clean_stop) == ((), False)
        assert recovered.stable == b"%d" % recovered.end
        assert store.row("meta", b"applied") == recovered.end.to_bytes(8, "big")
        for slot in range(recovered.end):
            assert store.read(slot) == (body(slot, 2000), link(slot))
        store.close()


@pytest.mark.parametrize("reports", [1, 100])
def test_what_was_journaled_survives_kill_9(folder: Path, reports: int) -> None:
    """Three lives of one folder, each killed while the journal is written and carried over to LMDB."""
    for _ in range(3):
        durable = killed(JOURNAL, folder, reports)
        store = LmdbStore(folder, 1)
        recovered = store.recover()
        assert recovered.end >= durable >= reports
        assert recovered.damaged == ()
        for slot in range(recovered.end):
            assert store.read(slot) == (body(slot, 500), link(slot))
        store.close()
