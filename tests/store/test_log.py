"""LmdbStore under two threads: the loop reads while the writer commits, trims and grows the map."""

from pathlib import Path
from threading import Thread

from store.contract import PutRow, TrimLog
from store.log import PAGE_ROWS, LmdbStore
from store.writer import Writer
from tests.store.helpers import append, applied, body, link

TICKETS = 1100
KEPT = 200
WAIT_SECONDS = 30


def test_reads_see_whole_batches_while_the_writer_works(folder: Path) -> None:
    """Every read is of one instant: contiguous, linked, never damaged, rows in step with the log."""
    store = LmdbStore(folder, 1, map_bytes=1 << 20)
    store.recover()
    failures: list[Exception] = []
    writer = Writer(store, lambda _: None, failures.append, group_bytes_max=50_000)
    writer.start()
    for ticket in range(1, TICKETS + 1):
        slot = ticket - 1
        rows = [PutRow("offsets", slot.to_bytes(8, "big"), body(slot)), applied(ticket)]
        writer.submit(ticket, [append(slot, size=3000), *rows, TrimLog(max(0, ticket - KEPT))])
    stopping = Thread(target=writer.stop, args=(WAIT_SECONDS,))
    stopping.start()
    seen = 0
    while stopping.is_alive():
        first, end = store.bounds()
        for slot, record, chain in store.read_range(first, end, 20_000):
            assert (record, chain) == (body(slot, 3000), link(slot))
        page = list(store.rows("offsets", reverse=True, limit=3))
        assert page == [(key, body(int.from_bytes(key, "big"))) for key, _ in page]
        found = store.row("meta", b"applied")
        applied_slot = int.from_bytes(found, "big") if found else 0
        assert applied_slot >= seen
        seen = applied_slot
        stopping.join(0.002)  # a reader that never waits keeps the interpreter from the writer: a put a switch interval
    stopping.join()
    assert not failures
    assert store.bounds() == (TICKETS - KEPT, TICKETS)
    assert [slot for slot, _, _ in store.read_range(TICKETS - KEPT, TICKETS, 1 << 30)] == [
        *range(TICKETS - KEPT, TICKETS)
    ]
    assert len(list(store.rows("offsets"))) == TICKETS > 2 * PAGE_ROWS
    store.close()
    assert store.recover().damaged == ()
    store.close()
