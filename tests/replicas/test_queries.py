"""replicas/bus: queries, recent and log_index: a fetch finds what a plain scan finds, wherever the batches lie."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicas.bus.queries import Queries
from replicas.bus.recent import Recent
from replicas.bus.topics import FeedEntry, TopicBounds, Topics
from ringcast.bus.cursors import COMMIT, CursorOperation
from ringcast.bus.topics import matches
from ringcast.errors import Compacted, IllegalTopic, Refused, UnknownQuery
from ringcast.strict import U63_MAX, Plain
from ringcast.wire import BACKWARD, FORWARD, LOCAL, NO_OFFSET, Fetch, Fetched, Query
from sequencer.types import SlotRecord
from store.contract import TrimLog
from store.memory import MemoryStore
from tests.replicas.log_maker import Log, batch, client_id, cursor_batch, decode_record, request, stored
from tests.store.helpers import hand_over

ALL_TOPICS = ["a", "a.b", "a.c", "b"]
PATTERNS = [">", "a", "a.>", "a.b", "b", "none"]


class Replica:
    """A state machine, its memory and its store; rows go to the store only when told."""

    def __init__(self, log: Log, memory_bytes: int = 0) -> None:
        self.store: MemoryStore = stored(log)
        self.topics = Topics()
        self.recent = Recent(0, memory_bytes)
        self.queries = Queries(self.topics, self.recent, self.store, decode_record, dict)
        self.entries: list[FeedEntry] = []

    def deliver(self, records: list[SlotRecord]) -> None:
        """Apply slots; their rows stay in memory."""
        delivery = self.topics.deliver(records)
        self.entries += delivery.feed
        self.recent.add(delivery.feed)

    def save(self) -> None:
        """The rows become durable, and memory may forget what they describe."""
        self.store.commit(self.topics.take_rows())
        self.recent.durable(self.topics.next_offset)
        self.recent.check_invariants()

    def trim(self, slot: int) -> None:
        """Retention."""
        self.store.commit([*self.queries.trim(slot), TrimLog(slot)])

    async def fetch(
        self, pattern: str, offset: int, direction: int = FORWARD, messages_max: int = 1 << 16, bytes_max: int = 1 << 20
    ) -> tuple[Fetched, list[bytes]]:
        """One FETCH."""
        return await self.queries.fetch(Fetch(1, pattern, offset, direction, messages_max, bytes_max, LOCAL))

    def ask(self, name: str, /, **arguments: Plain) -> dict[str, Plain]:
        """One QUERY."""
        return self.queries.query(Query(1, name, arguments)).result


def drawn(log: Log, slots: list[list[tuple[str, int, bool]]]) -> None:
    """Slots of batches (topic, messages, refused)."""
    sequence = 0
    for slot in slots:
        requests = []
        for topic, count, refused in slot:
            sequence += not refused
            number = sequence + 5 if refused else sequence
            requests.append(request([batch(topic, 1, number, [b"%d" % sequence] * count)]))
        log.slot(*requests)


slots_of_batches = st.lists(
    st.lists(st.tuples(st.sampled_from(ALL_TOPICS), st.integers(1, 3), st.booleans()), max_size=3),
    min_size=1,
    max_size=10,
)


async def walked(replica: Replica, pattern: str, offset: int, direction: int, messages_max: int) -> list[FeedEntry]:
    """All that fetches from `offset` on find, each going on where the one before stopped."""
    found: list[FeedEntry] = []
    while True:
        answer, payloads = await replica.fetch(pattern, offset, direction, messages_max)
        found += map(FeedEntry, answer.batches, payloads)
        if direction == BACKWARD:
            if answer.next_offset == NO_OFFSET:
                return found
            assert answer.next_offset < offset or not answer.batches
        elif answer.next_offset == answer.end:
            return found
        assert answer.batches, "at least one batch if there is one"
        assert answer.next_offset != offset
        offset = answer.next_offset


@given(slots_of_batches, st.data())
async def test_a_fetch_finds_what_a_scan_finds(slots: list[list[tuple[str, int, bool]]], data: st.DataObject) -> None:
    """From memory, from the log, and across the border; forward and backward; any pattern, offset and limit."""
    log = Log()
    drawn(log, slots)
    replica = Replica(log, memory_bytes=data.draw(st.sampled_from([0, 900, 1 << 20])))
    saved = data.draw(st.integers(0, len(slots)))
    replica.deliver(log.records[:saved])
    replica.save()
    replica.deliver(log.records[saved:])
    pattern = data.draw(st.sampled_from(PATTERNS))
    offset = data.draw(st.integers(0, replica.topics.next_offset + 1))
    limit = data.draw(st.integers(1, 5))
    matching = [entry for entry in replica.entries if matches(pattern, entry.info.topic)]
    forward = [entry for entry in matching if entry.info.first_offset + entry.info.messages > offset]
    assert await walked(replica, pattern, offset, FORWARD, limit) == forward
    backward = [entry for entry in reversed(matching) if entry.info.first_offset <= offset]
    assert await walked(replica, pattern, offset, BACKWARD, limit) == backward


@given(slots_of_batches, st.data())
async def test_below_the_trim_everything_is_compacted_and_above_nothing_is_lost(
    slots: list[list[tuple[str, int, bool]]], data: st.DataObject
) -> None:
    log = Log()
    drawn(log, slots)
    replica = Replica(log, memory_bytes=data.draw(st.sampled_from([0, 900, 1 << 20])))
    replica.deliver(log.records)
    replica.save()
    first = data.draw(st.integers(0, len(slots)))
    kept = [entry for entry in replica.entries if entry.info.slot >= first]
    floor = kept[0].info.first_offset if kept else replica.topics.next_offset
    replica.trim(first)
    assert replica.queries.compacted_below == floor
    assert await walked(replica, ">", floor, FORWARD, 2) == kept
    assert await walked(replica, ">", U63_MAX, BACKWARD, 2) == kept[::-1]
    if floor:
        with pytest.raises(Compacted) as caught:
            await replica.fetch("a", floor - 1)
        assert caught.value.details == {"offset": floor - 1, "below": floor}
    again = Queries(replica.topics, Recent(replica.topics.next_offset), replica.store, decode_record, dict)
    assert again.compacted_below == floor


@pytest.fixture
def replica() -> Iterator[Replica]:
    """Slots: 0 = a(2) b(1), 1 = nothing applied, 2 = a(1), 3 = a cursor, 4 = a.b(1); times 1000, 1010 ..."""
    log = Log()
    log.slot(request([batch("a", 1, 1, [b"one", b"two"])]), request([batch("b", 2, 1)], sender=2))
    log.batches(batch("a", 1, 1, [b"one", b"two"]))
    log.batches(batch("a", 1, 2))
    log.batches(cursor_batch(3, 1, CursorOperation(COMMIT, "billing", "a", 2)))
    log.batches(batch("a.b", 1, 3))
    made = Replica(log)
    made.deliver(log.records[:3])
    made.save()
    made.deliver(log.records[3:])
    yield made
    made.store.close()


async def test_limits_of_an_answer_and_at_least_one_batch(replica: Replica) -> None:
    answer, _ = await replica.fetch(">", 0, bytes_max=1)
    assert [info.first_offset for info in answer.batches] == [0]
    assert (answer.next_offset, answer.end) == (2, 6)
    answer, _ = await replica.fetch(">", 1, messages_max=1)
    assert (answer.batches[0].first_offset, answer.next_offset) == (0, 2)
    answer, _ = await replica.fetch(">", 99)
    assert (answer.batches, answer.next_offset, answer.end) == ((), 6, 6)
    with pytest.raises(IllegalTopic):
        await replica.fetch("a..b", 0)


def test_where_a_repeated_batch_was_applied(replica: Replica) -> None:
    assert replica.queries.origin(1) == (0, 1_000)
    assert replica.queries.origin(3) == (2, 1_020)
    assert replica.queries.origin(5) == (4, 1_040)


@pytest.mark.parametrize(
    ("time_us", "offset"), [(0, 0), (1_000, 0), (1_001, 3), (1_020, 3), (1_021, 4), (1_040, 5), (1_041, 6), (-5, 0)]
)
def test_the_offset_at_a_time(replica: Replica, time_us: int, offset: int) -> None:
    assert replica.ask("offset_at", time_us=time_us) == {"offset": offset}


def test_topics_and_cursors_are_listed(replica: Replica) -> None:
    assert replica.ask("topics", pattern=">") == {
        "topics": [("a", 3, 3), ("a.b", 1, 5), ("b", 1, 2)],
        "complete": True,
    }
    assert replica.ask("topics", pattern="a.>")["topics"] == [("a.b", 1, 5)]
    assert replica.ask("topics", after="a.b")["topics"] == [("b", 1, 2)]
    assert replica.ask("topic", name="a")["batches"] == 2
    assert replica.ask("cursors")["cursors"] == [("billing", "a", 2)]
    assert replica.ask("cursor", name="billing")["offset"] == 2
    assert replica.ask("cursor", name="nobody") == {}


@pytest.mark.parametrize("offset", range(6))
def test_who_sent_a_message_and_where_it_stands(replica: Replica, offset: int) -> None:
    found = replica.ask("record", offset=offset)
    topic, slot, sender, client, first = [
        ("a", 0, 1, 1, 0),
        ("a", 0, 1, 1, 0),
        ("b", 0, 2, 2, 2),
        ("a", 2, 1, 1, 3),
        ("_cursors", 3, 1, 3, 4),
        ("a.b", 4, 1, 1, 5),
    ][offset]
    assert (found["topic"], found["slot"], found["sender"]) == (topic, slot, sender)
    assert (found["client"], found["first_offset"], found["view"]) == (client_id(client), first, (1, 1))


def test_chains_and_digests_for_comparing_members(replica: Replica) -> None:
    log = replica.store
    expected = b"".join(log.chain(slot) or b"" for slot in range(1, 4))
    shown = {"first": 1, "end": 5, "chains": expected, "log_first": 0, "next": 4, "damaged": ()}
    assert replica.ask("chains", first=1, count=3) == shown
    log.damage(2)
    met: list[int] = []
    replica.queries.watch(lambda: False, met.append)
    assert replica.ask("chains", first=1, count=3) == shown
    assert replica.ask("chains", first=1, count=3, read=True) == {**shown, "damaged": (2,)}
    assert met == [2]
    replica.save()
    replica.trim(2)
    assert replica.ask("chains", first=0, count=1)["first"] == 2
    digests = replica.ask("digests", whole=True)
    assert digests["running"] == replica.topics.digest
    assert digests["whole"] == replica.topics.state_digest()


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("nonsense", {}, UnknownQuery),
        ("topic", {"name": "none"}, UnknownQuery),
        ("topic", {"name": 5}, Refused),
        ("topics", {"pattern": "a..b"}, IllegalTopic),
        ("cursor", {"name": "_x"}, IllegalTopic),
        ("offset_at", {"time_us": "soon"}, Refused),
        ("record", {"offset": 6}, UnknownQuery),
        ("record", {"offset": True}, Refused),
        ("chains", {"first": -1, "count": 1}, Refused),
    ],
)
def test_a_bad_question_is_a_typed_error(
    replica: Replica, name: str, arguments: dict[str, Plain], error: type[Exception]
) -> None:
    with pytest.raises(error):
        replica.queries.query(Query(1, name, arguments))


async def test_c1_a_snapshot_carries_the_state_and_the_log_goes_on_from_there(replica: Replica) -> None:
    replica.save()
    receiver = MemoryStore()
    receiver.recover()
    receiver.commit([hand_over(replica.store, receiver)])
    topics = Topics.load(TopicBounds(), receiver.rows)
    assert (topics.applied, topics.state_digest()) == (5, replica.topics.state_digest())
    queries = Queries(topics, Recent(topics.next_offset), receiver, decode_record, dict)
    assert queries.compacted_below == 6
    with pytest.raises(Compacted):
        await queries.fetch(Fetch(1, "a", 5, FORWARD, 1, 1, LOCAL))
    assert (await queries.fetch(Fetch(1, "a", 6, FORWARD, 1, 1, LOCAL)))[0].batches == ()
    assert queries.query(Query(1, "cursor", {"name": "billing"})).result["offset"] == 2


def test_memory_is_bounded_but_never_drops_what_is_not_durable() -> None:
    log = Log()
    drawn(log, [[("a", 1, False)]] * 200)
    replica = Replica(log, memory_bytes=10_000)
    replica.deliver(log.records)
    assert (replica.recent.start, len(replica.recent)) == (0, 200)
    replica.save()
    assert 0 < len(replica.recent) < 30
    assert replica.recent.next_offset == 200


@pytest.mark.parametrize("saves", [(), (3,), (3, 5, 6), (6,), (7,)])
def test_after_a_reset_of_the_rings_time_each_time_leads_to_the_right_offset(saves: tuple[int, ...]) -> None:
    """D7: what was ordered with a wrong time is found from any time between its neighbours; `saves`: rows' writes."""
    log = Log()
    for slot, time_us in enumerate((100, 200, 300, 90_000, 90_010, 90_020, 400, 500)):
        log.slot(request([batch("a", 1, slot + 1)]), time_us=time_us)
    replica = Replica(log)
    for at, record in enumerate(log.records):
        replica.deliver([record])
        if at in saves:
            replica.save()

    def found(*times: int) -> list[Plain]:
        return [replica.ask("offset_at", time_us=time)["offset"] for time in times]

    for _ in range(2):
        if saves != (3,):  # there the index holds slots of a wrong time, and the rows of the reset are on their way
            assert found(401, 500, 501, 90_000) == [7, 7, 8, 8]
        if max(saves, default=0) >= 6:
            assert found(0, 150, 200, 300, 400) == [0, 1, 1, 2, 3]
        replica.save()
        saves = (7,)
    replica.trim(4)
    assert found(0, 250, 400, 450) == [4, 4, 4, 7]
    replica.trim(7)
    assert found(0, 450, 501) == [7, 7, 8]
