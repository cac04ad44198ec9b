"""Records and the stable state on disk: what was written is read, and nothing else is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.bus.record_codec import (
    STATE_FIELDS,
    ForeignState,
    decode_record,
    decode_state,
    encode_record,
    encode_state,
)
from ringcast.errors import BadFrame
from ringcast.strict import loads
from sequencer.chain import digest
from sequencer.types import Entry, Incarnation, Request, Sequence, SlotRecord, StableState, ViewNumber
from tests.replicas.nouns import records, states, u63

INCARNATION = Incarnation(1, 2)


def _record(*frames: bytes) -> SlotRecord:
    request = Request(1, INCARNATION, 1, frames, digest(frames))
    entry = Entry(1, INCARNATION, 1, 1, (request.digest,))
    return SlotRecord(Sequence(ViewNumber(1, 1), 0, 5, (entry,), bytes(16)), (request,))


@given(records(), st.booleans())
def test_record_round_trip(record: SlotRecord, hashed: bool) -> None:
    assert decode_record(b"".join(encode_record(record)), hashed=hashed) == record


def test_payloads_are_not_copied_on_the_way_to_the_store() -> None:
    payload = b"x" * 1_000
    assert any(part is payload for part in encode_record(_record(b"", payload)))


def test_a_changed_payload_passes_only_behind_the_stores_checksum() -> None:
    """A10: over a wire the digest that the entry names decides."""
    body = b"".join(encode_record(_record(b"abc")))
    changed = body[:-1] + b"X"
    assert decode_record(changed).requests[0].frames == (b"abX",)
    with pytest.raises(BadFrame, match="A10"):
        decode_record(changed, hashed=False)


@pytest.mark.parametrize("cut", [0, 3, 4, 10, -1])
def test_short_records(cut: int) -> None:
    with pytest.raises(BadFrame):
        decode_record(b"".join(encode_record(_record(b"abc")))[:cut])


def test_requests_that_the_entries_do_not_name() -> None:
    record = _record(b"abc")
    other = replace(record.requests[0], lsn=2)
    for requests in ((), (other,), (*record.requests, other)):
        with pytest.raises(BadFrame):
            decode_record(b"".join(encode_record(replace(record, requests=requests))))


@given(st.binary(max_size=300))
def test_fuzz_records(body: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_record(body)


@given(states(), u63)
def test_state_round_trip(state: StableState, commit: int) -> None:
    found, point = decode_state(encode_state(state, commit))
    assert (found, point) == (state, commit)


@given(states(), st.data())
def test_a_damaged_state_raises_nothing_else(state: StableState, data: st.DataObject) -> None:
    damaged = bytearray(encode_state(state, 0))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decode_state(bytes(damaged))
    except (BadFrame, ForeignState):
        return


def test_a_whole_member_writes_what_older_versions_read() -> None:
    """C3: what an older version wrote is whole, and it can read what a whole member writes: there is no word more."""
    state = StableState(1, 1, INCARNATION)
    assert len(loads(encode_state(state, 0), 1 << 20)) == STATE_FIELDS
    assert decode_state(encode_state(replace(state, whole=False), 7)) == (replace(state, whole=False), 7)


def test_a_state_of_another_version() -> None:
    encoded = bytearray(encode_state(StableState(1, 1, INCARNATION), 0))
    encoded[1] = 9
    with pytest.raises(ForeignState, match="version 9"):
        decode_state(bytes(encoded))
