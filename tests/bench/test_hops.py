"""Marks of three replicas made by hand: which hop each interval belongs to."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from bench.hops import ELSEWHERE, HERE, HOPS, Marks, Message, path_of, read_trace, summary
from bench.traced_replica import ASKED, DELIVERED, ORDERED, REQUEST, SLOT, TAKEN, WRITES, WRITTEN

#: Member 1 has the client, 2 the token; 3 is slow and not waited for. Nanoseconds, one message from 1,000 to 10,000.
MESSAGE = Message(1_000, 10_000)
TRACES: Mapping[int, Marks] = {
    1: {
        TAKEN: [500, 1_100],
        ASKED: [510, 1_300],
        SLOT: [600, 3_100],
        WRITES: [3_700],
        WRITTEN: [5_200],
        DELIVERED: [9_000],
    },
    2: {REQUEST: [1_600], ORDERED: [2_000], WRITES: [2_100], WRITTEN: [4_000]},
    3: {SLOT: [3_000], WRITES: [8_000], WRITTEN: [8_500, 12_000]},
}
WANTED = (100, 200, 300, 400, 1_000, 700, 1_500, 3_800, 1_000)


def test_the_hops_of_a_message_add_up_to_its_time() -> None:
    path = path_of(1, MESSAGE, TRACES)
    assert path is not None
    holder, cuts = path
    assert holder == 2
    assert tuple(after - before for before, after in pairwise(cuts)) == WANTED
    assert sum(WANTED) == MESSAGE.ended - MESSAGE.began


def test_where_the_holder_has_the_client_there_is_no_request() -> None:
    holder = {
        1: {TAKEN: [1_100], ORDERED: [1_400], WRITES: [1_500], WRITTEN: [2_900], DELIVERED: [9_000]},
        2: {SLOT: [2_000], WRITES: [2_100], WRITTEN: [4_000]},
        3: TRACES[3],
    }
    path = path_of(1, MESSAGE, holder)
    assert path is not None
    assert path[1][1:5] == (1_100, 1_400, 1_400, 1_400)


@pytest.mark.parametrize(("member", "name"), [(1, TAKEN), (1, ASKED), (2, REQUEST), (2, ORDERED), (1, DELIVERED)])
def test_a_message_that_lacks_a_mark_is_left_out(member: int, name: str) -> None:
    less = {**TRACES, member: {other: times for other, times in TRACES[member].items() if other != name}}
    assert path_of(1, MESSAGE, less) is None


def test_medians_are_told_for_each_place_of_the_token() -> None:
    found = summary(1, [MESSAGE, Message(20_000, 30_000)], TRACES)
    assert (found["messages"], found["traced"]) == (2, 1)
    assert found[HERE] == {"messages": 0, "hops_us": {}}
    assert found[ELSEWHERE]["hops_us"] == dict(zip(HOPS, (time / 1_000 for time in WANTED), strict=True))


def test_a_trace_is_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("5 taken\n7 slot\n9 taken\n", encoding="ascii")
    assert read_trace(tmp_path / "trace") == {"taken": [5, 9], "slot": [7]}
