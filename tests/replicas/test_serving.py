"""What peers fetch: the log's own bytes, in parts, one answer at a time for each asker."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from replicas.bus import serving
from replicas.bus.backfill_codec import StoredRecords, StoredRetransmit
from replicas.bus.peer_codec import Envelope, PeerCodec, encode
from replicas.bus.record_codec import encode_record
from replicas.bus.serving import Served, Serving
from sequencer import messages as m
from sequencer import output as o
from sequencer.types import GENESIS_CHAIN, Incarnation, SlotRecord, ViewNumber
from store.contract import Append, TrimLog
from store.log import LmdbStore
from tests.sequencer.builders import log

VIEW = ViewNumber(3, 1)
RECORDS = log(6)
CODEC = PeerCodec(ring=0, member=2)


def body(record: SlotRecord) -> bytes:
    """As the log holds it."""
    return b"".join(encode_record(record))


SIZE = len(body(RECORDS[1]))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = LmdbStore(tmp_path, 1)
    made.recover()
    previous = GENESIS_CHAIN
    for record in RECORDS:
        made.commit([Append(record.slot, record.sequence.chain, previous, encode_record(record))])
        previous = record.sequence.chain
    yield made
    made.close()


def served(store: LmdbStore, *serves: o.Serve) -> list[Served]:
    """Everything that is sent for these, asked for in one turn of the loop."""
    sent: list[Served] = []

    async def work() -> None:
        shell = Serving(asyncio.get_running_loop(), store, lambda _, message: sent.append(message))
        for serve in serves:
            shell.serve(serve)
        await done(shell)
        for serve in serves[:1]:  # whoever has its answer may ask again
            shell.serve(serve)
        await done(shell)

    async def done(shell: Serving) -> None:
        await asyncio.gather(*shell._tasks.values())
        await asyncio.sleep(0)  # the tasks' own last callbacks

    _run(work())
    return sent


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10.0))


def fetch(first: int = 0, end: int = 6, **fields: Any) -> o.ServeRecords:
    """What the core asks of the shell for a FETCH with the right chain."""
    if "chain" not in fields:
        fields["chain"] = RECORDS[first - 1].sequence.chain if first else GENESIS_CHAIN
    return o.ServeRecords(3, VIEW, first, end, **fields)


def test_an_answer_comes_in_parts_and_says_when_it_ends(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PART_BYTES_MAX", 2 * SIZE)
    monkeypatch.setattr(serving, "SERVE_BYTES_MAX", 4 * SIZE)
    parts = served(store, fetch(end=5))[:3]
    assert [type(part) for part in parts] == [StoredRecords] * 3
    assert [(part.first, len(part.bodies), part.more) for part in parts if isinstance(part, StoredRecords)] == [
        (0, 2, True),
        (2, 2, False),  # so much for one FETCH
        (0, 2, True),  # asked again
    ]
    (whole,) = served(store, fetch(4))[1:]
    assert whole == StoredRecords(VIEW, 4, tuple(map(body, RECORDS[4:])), repair=False, more=False, committed=6)


def test_the_asker_reads_the_records_that_were_stored(store: LmdbStore) -> None:
    for serve, wanted in (
        (fetch(1, 4), m.Records(VIEW, 1, RECORDS[1:4], committed=4)),
        (fetch(1, 4, repair=True), m.Records(VIEW, 1, RECORDS[1:4], repair=True)),
        (fetch(1, 4, retransmit=True), m.Retransmit(VIEW, (), RECORDS[1:4])),
    ):
        message, *_ = served(store, serve)
        received = CODEC.decode(encode(Envelope(0, 1, Incarnation(4, 99)), 7, message))
        assert isinstance(received, o.Received)
        assert received.message == wanted


def test_who_asks_again_before_its_answer_came_gets_one(store: LmdbStore) -> None:
    sent = served(store, fetch(), fetch(), fetch(chain=None, retransmit=True))
    assert sorted(type(message).__name__ for message in sent) == [
        "StoredRecords",  # then once more, after the first answer
        "StoredRecords",
        "StoredRetransmit",
    ]


def test_another_chain_is_told_and_nothing_is_sent_of_what_is_not_there(store: LmdbStore) -> None:
    chains, *_ = served(store, fetch(4, chain=b"another"))
    assert chains == m.Chains(VIEW, 0, tuple(record.sequence.chain for record in RECORDS[:4]))
    store.commit([TrimLog(3)])
    assert not served(store, fetch(1))
    assert not served(store, fetch(7, chain=None))
    assert not served(store, fetch(2, chain=b"another"))
    assert not served(store, fetch(6, 9, chain=None, retransmit=True))
    assert not served(store, o.ServeChunk(3, VIEW, "gone", 3, bytes(16), 0, 1))
    left, *_ = served(store, fetch(4, chain=None, retransmit=True))
    assert left == StoredRetransmit(VIEW, tuple(map(body, RECORDS[4:])))
