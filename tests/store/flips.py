"""A child process that opens a data folder again and again, each time with one bit of its data file flipped.

usage: flips.py FOLDER SEED ROUNDS. Every fourth flip hits one of the two meta pages, every fourth the entry of a table
in the main tree. A process of its own, since LMDB
would take the tests with it if it met a page that the structural check should have refused. Prints how often each
outcome was seen; exits 1 on wrong data.
"""

import json
import mmap
import sys
from collections import Counter
from pathlib import Path
from random import Random

from store.contract import TABLES, PutRow, SaveStable, TrimLog, Truncate
from store.environment import DATABASES
from store.errors import RecordDamaged, RowDamaged, StoreDamaged
from store.log import LmdbStore
from tests.store.helpers import DATA, append, appends, applied, body, link

FIRST, END = 10, 180
ROWS = 150
META_BYTES = 160
ENTRY_BYTES = 8 + 8 + 48
STABLE = b"stable" * 20


def build(folder: Path) -> None:
    """A log, its tables and a stable state, written over some commits so that free pages and old copies are there."""
    store = LmdbStore(folder, 1)
    store.recover()
    for first in range(0, END, 20):
        rows = [PutRow(table, b"%05d" % row, b"%d" % row * 9) for table in TABLES for row in range(ROWS)]
        store.commit([*appends(first, first + 20, 40 if first % 40 else 3000), *rows, applied(first)])
    store.commit([append(END), TrimLog(FIRST), SaveStable(b"older" * 20)])
    store.commit([Truncate(END), SaveStable(STABLE)])  # if this one is lost it shows
    store.close()


def outcome(folder: Path) -> str:
    """Open and read everything; raises AssertionError if something is given that was not written."""
    store = LmdbStore(folder, 1)
    try:
        recovered = store.recover()
        assert recovered.stable == STABLE or (recovered.stable is None and recovered.stable_damaged)
        assert (recovered.first, recovered.end, recovered.end_chain) == (FIRST, END, link(END - 1))
        damaged = {slot for run in recovered.damaged for slot in range(run.first, run.last + 1)}
        for run in recovered.damaged:
            assert (run.chain_before, run.chain_after) == (link(run.first - 1), link(run.last))
        for slot in range(FIRST, END):
            try:
                assert store.read(slot) == (body(slot, 40 if slot // 20 * 20 % 40 else 3000), link(slot))
                assert slot not in damaged
            except RecordDamaged:
                assert slot in damaged
        for table in TABLES:
            rows = [(b"%05d" % row, b"%d" % row * 9) for row in range(ROWS)]
            assert [row for row in store.rows(table) if row[0] != b"applied"] == rows
    except RowDamaged:
        return "row damaged"
    except StoreDamaged:
        return "store damaged"
    else:
        return "damaged runs" if damaged else "stable damaged" if recovered.stable_damaged else "whole"
    finally:
        store.close()


def main(folder: Path, seed: int, rounds: int) -> None:
    """Flip, look, flip back."""
    random = Random(seed)
    build(folder)
    data = folder / DATA
    seen: Counter[str] = Counter()
    whole = data.read_bytes()
    entries = [
        whole.rindex(name.encode()) - 8 for name in DATABASES
    ]  # in one copy of the main tree, with the node's head
    for number in range(rounds):
        at, bit = random.randrange(len(whole)), random.randrange(8)
        if number % 4 == 0:
            at = random.choice((0, mmap.PAGESIZE)) + random.randrange(META_BYTES)
        if number % 4 == 1:
            at = random.choice(entries) + random.randrange(ENTRY_BYTES)
        data.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
        try:
            seen[outcome(folder)] += 1
        except AssertionError as error:
            sys.exit(f"seed {seed} round {number}, bit {bit} of byte {at}: {error}")
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
