"""replicas/bus/rows.py: what is written is read back, keys sort as numbers do, and a foreign row is a typed error."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.bus import rows
from replicas.bus.rows import BatchVerdict, CursorRow, Position, RowError, TopicRow
from ringcast.strict import U63_MAX
from sequencer.types import Incarnation, Ordered

u63 = st.integers(0, U63_MAX)
u64 = st.integers(0, (1 << 64) - 1)


@given(st.tuples(u63, u63, st.binary(max_size=60)), st.builds(TopicRow, u63, u63, u63, u63, u63, u63))
def test_clients_and_topics(client: tuple[int, int, bytes], topic: TopicRow) -> None:
    assert rows.read_client(b"k", rows.pack_client(client)) == client
    assert rows.read_topic(b"k", rows.pack_topic(topic)) == topic


@given(
    st.builds(CursorRow, st.text(max_size=20), u63, u63, u63),
    st.builds(Position, st.integers(-1, U63_MAX), u63, u63, st.binary(min_size=16, max_size=16), st.just(bytes(16))),
    st.dictionaries(st.integers(1, 7), st.builds(Ordered, st.builds(Incarnation, u63, u64), u63)),
)
def test_cursors_position_and_senders(cursor: CursorRow, position: Position, senders: dict[int, Ordered]) -> None:
    assert rows.read_cursor(b"k", rows.pack_cursor(cursor)) == cursor
    assert rows.read_position(rows.pack_position(position)) == position
    assert rows.read_senders(rows.pack_senders(senders)) == senders


@given(st.lists(st.builds(BatchVerdict, st.integers(1, 7), st.integers(-1, U63_MAX), st.integers(1, 1 << 16), u63)))
def test_verdicts_of_a_slot(verdicts: list[BatchVerdict]) -> None:
    assert rows.read_verdicts(b"".join(rows.pack_verdict(*one) for one in verdicts)) == verdicts


@given(st.lists(u63, min_size=2), st.sampled_from([rows.number_key, rows.time_key, lambda n: rows.topic_key("a", n)]))
def test_keys_sort_as_their_numbers_do(numbers: list[int], key: Callable[[int], bytes]) -> None:
    assert sorted(map(key, numbers)) == list(map(key, sorted(numbers)))


def test_the_keys_of_a_topic_stand_together() -> None:
    """`a` ends before `a.b` and `a-b` begin, whatever the offsets."""
    for other in ("a.b", "a-b", "a0", "aa"):
        assert rows.topic_key("a", U63_MAX) < rows.topic_key(other, 0)


@pytest.mark.parametrize(
    "read",
    [
        lambda value: rows.read_client(b"key", value),
        lambda value: rows.read_topic(b"key", value),
        lambda value: rows.read_cursor(b"key", value),
        rows.read_position,
        rows.read_senders,
    ],
)
@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x05", b"\x91\x91\x01", b"\x94\x01\x02\x03\x04"])
def test_a_row_of_another_version_names_its_table(read: Callable[[bytes], object], value: bytes) -> None:
    with pytest.raises(RowError, match=r"of table '(clients|topics|cursors|meta)' can't be read"):
        read(value)
