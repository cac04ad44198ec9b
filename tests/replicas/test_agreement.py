"""Replicas tell each other the digest of their state, in the order itself, and say where they differ."""

from collections import Counter
from typing import Any

import pytest

from broker.gateway import Standing
from replicas.bus.agreement import Agreement
from replicas.bus.topics import CHECKPOINT_SLOTS, Topics
from ringcast.bus.request import decode_batch_headers
from ringcast.bus.topics import DIGESTS_TOPIC
from ringcast.errors import NotReady, RingcastError
from tests.replicas.log_maker import Log, batch, raw_request, request


class Member:
    """One replica of a ring without a network: what it submits is kept until `order`."""

    def __init__(self, number: int, log: Log) -> None:
        self.number = number
        self.counters: Counter[str] = Counter()
        self.log: Any = self
        self.said: list[dict[str, Any]] = []
        self.topics = Topics()
        self.submitted: list[tuple[bytes, ...]] = []
        self.trouble: RingcastError | None = None
        self.committed: int | None = None
        self._shared = log
        self.agreement = Agreement(number, self)

    def critical(self, event: str, **fields: Any) -> None:
        self.said.append({"event": event, **fields})

    def submit(self, frames: tuple[bytes, ...]) -> None:
        self.submitted.append(frames)

    def unready(self) -> RingcastError | None:
        return self.trouble

    def standing(self) -> Standing:
        return Standing((1, 1), (1, 1), self.committed or self.topics.applied, 0)

    def catch_up(self) -> None:
        while self.topics.applied < len(self._shared.records):
            before = self.topics.applied
            delivery = self.topics.deliver([self._shared.records[before]])
            self.agreement.delivered(self.topics, before, delivery.feed)


class Ring:
    def __init__(self) -> None:
        self.log = Log()
        self.members = [Member(number, self.log) for number in (1, 2, 3)]
        self._sent = 0

    def go_on(self, slots: int) -> None:
        """Order so many slots of one message, and whatever the members submit meanwhile."""
        for _ in range(slots):
            self._sent += 1
            requests = [raw_request(frames, member.number) for member in self.members for frames in member.submitted]
            for member in self.members:
                member.submitted.clear()
            self.log.slot(raw_request(_frames(self._sent), 9), *requests)
            for member in self.members:
                member.catch_up()


def _frames(sequence: int) -> tuple[bytes, ...]:
    return request([batch("a", 1, sequence)]).frames


@pytest.fixture(scope="module")
def ring() -> Ring:
    made = Ring()
    made.go_on(CHECKPOINT_SLOTS + 1)
    return made


def test_all_compare_every_checkpoint_and_agree(ring: Ring) -> None:
    for member in ring.members:
        assert member.counters["states_compared"] == 3
        assert not member.said
        row = member.topics.topic(DIGESTS_TOPIC)
        assert row is not None
        assert row.messages == 3


def test_a_state_that_differs_is_said_by_all_with_the_place_and_once(ring: Ring) -> None:
    liar = ring.members[2]
    ring.go_on(CHECKPOINT_SLOTS - 2)
    liar.topics._digest = bytes(16)  # memory that lied, say
    ring.go_on(2)
    for member in ring.members[:2]:
        (said,) = member.said
        assert (said["event"], said["peer"]) == ("states_differ", 3)
        assert said["first_differing_slots"] == (CHECKPOINT_SLOTS, 2 * CHECKPOINT_SLOTS)
    assert {one["peer"] for one in liar.said} == {1, 2}
    ring.go_on(CHECKPOINT_SLOTS)
    assert [len(member.said) for member in ring.members] == [1, 1, 2]


def test_nobody_tells_while_it_replays_or_cannot_order() -> None:
    log = Log()
    for number in range(CHECKPOINT_SLOTS):
        log.slot(raw_request(_frames(number + 1), 9))
    for trouble, committed in ((NotReady(replica=1, state="x"), None), (None, 9 * CHECKPOINT_SLOTS)):
        member = Member(1, log)
        member.trouble, member.committed = trouble, committed
        member.catch_up()
        assert not member.submitted


def test_a_number_that_was_lost_is_followed_by_a_new_client() -> None:
    log = Log()
    member = Member(1, log)
    clients = []
    for number in range(3 * CHECKPOINT_SLOTS):
        log.slot(raw_request(_frames(number + 1), 9))
        member.catch_up()
        for frames in member.submitted:
            (header,) = decode_batch_headers(frames[0])
            clients.append((header.client, header.sequence))
        member.submitted.clear()  # lost on its way
    assert len({client for client, _ in clients}) == 3
    assert [sequence for _, sequence in clients] == [1, 1, 1]
