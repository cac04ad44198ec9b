"""Publishes that are refused for good beside healthy ones: outbox, intake and state machine together (K1, K2, A9).

What is refused for good leaves a hole in its client's numbers, and everything sent behind the hole comes back as a gap.
A healthy publish is never hurt by that, and `AlreadyApplied` is only said of what was applied.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.intake import Account, Intake, IntakeLimits
from replicas.bus.topics import Delivery, TopicBounds, Topics
from ringcast import wire
from ringcast.bus.batch import pack
from ringcast.bus.cursors import RESET, CursorOperation, encode_operation
from ringcast.bus.outbox import Action, Outbox, Pending
from ringcast.errors import AlreadyApplied, NotAllowed, PublishUnknown, RingcastError, TooLarge
from tests.client.doubles import LIMITS
from tests.replicas.log_maker import Log, batch, raw_request

BOUNDS = TopicBounds(topics_max=2, cursors_max=1)
#: Kind -> topic; what it is refused with, if it is.
TOPICS = {"healthy": "known", "new topic": "new", "denied": "secret", "new cursor": "_cursors"}
ERRORS = {"new topic": TooLarge, "denied": NotAllowed, "new cursor": TooLarge}
OUTSTANDING = 64
#: Pass, gap, pass with fillers, and one more where a window ended within it.
SENDS_MAX = 4


class Gateway:
    """An intake, the requests that wait to be ordered, and how far this replica has delivered."""

    def __init__(self) -> None:
        self.intake = Intake(IntakeLimits(outstanding_max=OUTSTANDING))
        self.requests: deque[tuple[bytes, ...]] = deque()
        self.delivered = 0


class World:
    """One client, some gateways, one log. Frames between them take their time, in order."""

    def __init__(self, chance: Random, gateways: int) -> None:
        self.chance = chance
        self.gateways = [Gateway() for _ in range(gateways)]
        self.log, self.topics = Log(), Topics(BOUNDS)
        first = batch("known", 99, 1), batch("_cursors", 99, 2, [operation("kept")])
        self.deliveries: list[Delivery] = [self.topics.deliver([self.log.batches(*first)])]
        self.outbox = Outbox()
        self.failovers = 0
        self.connect(0)

    # ---- the client ----

    def connect(self, number: int) -> None:
        """To a gateway; what was on the way is lost, what was submitted is not."""
        self.at = self.gateways[number]
        self.sender = number
        self.account = Account(b"", self.outbox.client, self.at.intake.grant(0, 1))
        self.asked: deque[tuple[wire.Publish, bytes]] = deque()
        self.answers: deque[wire.Receipt | wire.Refused] = deque()
        limits = LIMITS._replace(outstanding_max=OUTSTANDING)
        opened = self.topics.applied
        self.outbox.connected(wire.Welcome(1, (1, 1), (1, 1), opened, self.account.credit, limits, "", 0, ()))
        self.pump()

    def fail_over(self) -> None:
        """The connection is gone."""
        self.failovers += 1
        self.at.intake.close(self.account)
        self.connect(self.chance.randrange(len(self.gateways)))

    def pump(self) -> None:
        if self.outbox.opened is not None:
            self.asked.extend(self.outbox.take())

    def hear(self) -> None:
        """The client takes one answer."""
        answer = self.answers.popleft()
        if isinstance(answer, wire.Receipt):
            self.outbox.on_receipt(answer)
        elif self.outbox.on_refused(answer)[0] is not Action.SEND:
            self.fail_over()
        self.pump()

    # ---- the replicas ----

    def arrive(self) -> None:
        """A publish reaches its gateway."""
        publish, packed = self.asked.popleft()
        error: RingcastError | None = None
        if publish.topic == TOPICS["denied"]:
            error = NotAllowed(what="to publish")
        error = error or self.at.intake.accept(self.account, publish, packed)
        if error is not None:
            self.answers.append(wire.refusal(publish.client, publish.sequence, error))

    def submit(self) -> None:
        for gateway in self.gateways:
            gateway.requests.extend(gateway.intake.take_requests(1 << 20))

    def order(self) -> None:
        """The requests of a gateway get a slot."""
        number = self.chance.choice([number for number, one in enumerate(self.gateways) if one.requests])
        request = raw_request(self.gateways[number].requests.popleft(), sender=number)
        self.deliveries.append(self.topics.deliver([self.log.slot(request)]))

    def deliver(self) -> None:
        """A replica delivers its next slot."""
        number = self.chance.choice([number for number, one in enumerate(self.gateways) if self.is_behind(one)])
        gateway = self.gateways[number]
        delivery = self.deliveries[gateway.delivered]
        gateway.delivered += 1
        for one in delivery.receipts:
            if gateway.intake.finish(one.client, one.sequence) is self.account:
                verdict = (one.client, one.sequence, one.first_offset, one.messages, one.slot, one.time_us)
                self.answers.append(wire.Receipt(*verdict, self.account.credit))
        for who, client, sequence, error, last in delivery.refusals:
            if who == number and gateway.intake.finish(client, sequence) is self.account:
                self.answers.append(wire.refusal(client, sequence, error, last))

    def is_behind(self, gateway: Gateway) -> bool:
        return gateway.delivered < len(self.deliveries)

    # ---- all of it ----

    def step(self) -> None:
        """Something that can happen happens."""
        can = []
        if self.asked:
            can.append(self.arrive)
        if any(one.intake.queued for one in self.gateways):
            can.append(self.submit)
        if any(one.requests for one in self.gateways):
            can.append(self.order)
        if any(map(self.is_behind, self.gateways)):
            can.append(self.deliver)
        if self.answers:
            can.append(self.hear)
        assert can, "nothing is on its way, and batches are pending"
        self.chance.choice(can)()

    def applied(self) -> Iterator[bytes]:
        """The packed batches of the order, but fillers and those of others."""
        for delivery in self.deliveries[1:]:
            for entry in delivery.feed:
                if entry.info.topic != "_cursors" or len(entry.packed) > 20:
                    yield entry.packed


def operation(name: str) -> bytes:
    return encode_operation(CursorOperation(RESET, name, ">", 0))


def publish(world: World, kind: str, number: int) -> Pending:
    """The content is the batch's own; the number of messages is one or two."""
    payload = operation(f"cursor-{number}") if kind == "new cursor" else b"%d" % number
    payloads = [payload] * (1 + number % 2)
    topic = f"new-{number}" if kind == "new topic" else TOPICS[kind]
    return world.outbox.add(topic, pack(payloads), len(payloads))


async def run(seed: int, kinds: list[str], gateways: int, failovers: float) -> World:
    """Publish a batch of each kind, in order, until all are answered; check what they were answered."""
    world = World(Random(seed), gateways)
    contents, batches = [], []
    for number, kind in enumerate(kinds):
        batches.append(publish(world, kind, number))
        contents.append(batches[-1].packed)
    world.pump()
    steps = 0
    while len(world.outbox):
        steps += 1
        assert steps < 400 * len(kinds) + 4_000, "no end"
        if world.chance.random() < failovers and steps < 500:
            world.fail_over()
        world.step()
    order = list(world.applied())
    for kind, content, one in zip(kinds, contents, batches, strict=True):
        judge(world, kind, order.count(content), one)
    healthy = [content for kind, content in zip(kinds, contents, strict=True) if kind == "healthy"]
    assert [content for content in order if content in healthy] == [one for one in healthy if one in order]
    return world


def judge(world: World, kind: str, applied: int, one: Pending) -> None:
    """What the caller of this publish was told is true."""
    assert applied <= 1
    error = one.receipt.exception()
    if error is None:
        assert applied == 1
        return
    if isinstance(error, AlreadyApplied):
        assert applied == 1, "it was never applied"
        return
    if isinstance(error, PublishUnknown):
        assert world.failovers, "nothing failed"
        return
    assert isinstance(error, ERRORS.get(kind, ())), f"{kind}: {error!r}"
    assert not applied, "refused, and applied"


@given(
    st.integers(0, 1 << 32),
    st.lists(st.sampled_from(["healthy", "healthy", "new topic", "denied", "new cursor"]), min_size=1, max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_a_healthy_publish_is_not_hurt_by_refused_ones(seed: int, kinds: list[str]) -> None:
    world = asyncio.run(run(seed, kinds, gateways=1, failovers=0.0))
    assert not world.failovers


@given(
    st.integers(0, 1 << 32),
    st.lists(st.sampled_from(["healthy", "healthy", "new topic", "denied", "new cursor"]), min_size=1, max_size=30),
)
@settings(max_examples=200, deadline=None)
def test_what_is_said_is_true_through_failovers(seed: int, kinds: list[str]) -> None:
    asyncio.run(run(seed, kinds, gateways=3, failovers=0.02))


@pytest.mark.parametrize("kind", ["new topic", "denied"])
@pytest.mark.parametrize("count", [10, 50, 200, 1_000])
async def test_progress_takes_few_passes(kind: str, count: int) -> None:
    """Every second one is refused: a batch is sent a bounded number of times, whatever their number."""
    world = World(Random(count), 1)
    batches = [publish(world, ("healthy", kind)[number % 2], number) for number in range(count)]
    world.pump()
    most = 0
    while len(world.outbox):
        world.step()
        most = max(most, *(one.attempts for one in batches))
    assert all(one.receipt.exception() is None for one in batches[::2])
    assert all(isinstance(one.receipt.exception(), ERRORS[kind]) for one in batches[1::2])
    assert most <= SENDS_MAX
