"""The publishing loops, the open loop's books, and etcd's requests."""

import asyncio
import time
from itertools import count, pairwise

import pytest

from bench.background import Acknowledged
from bench.clients.etcd import put_request, txn_request, varint
from bench.job import Job
from bench.loads import Load, in_tasks, keep_open, one_by_one


async def test_never_more_unanswered_than_the_window() -> None:
    unanswered, most = 0, 0

    async def answer() -> None:
        nonlocal unanswered
        await asyncio.sleep(0)
        unanswered -= 1

    async def send() -> "asyncio.Task[None]":
        nonlocal unanswered, most
        unanswered += 1
        most = max(most, unanswered)
        return asyncio.ensure_future(answer())

    assert await keep_open(Load(b"x", 1_000, 60.0, 10), send) == 1_000
    assert unanswered == 0
    assert 1 < most <= 10


async def test_batches_count_their_messages_and_fit_the_window() -> None:
    async def send() -> "asyncio.Future[None]":
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    assert await keep_open(Load(b"x", 1_000, 60.0, 64), send, 256) == 3 * 256
    assert await keep_open(Load(b"x", 10**9, 0.05, 1_024), send, 256) % 256 == 0


async def test_the_time_ends_a_load() -> None:
    async def publish(payload: bytes) -> None:
        await asyncio.sleep(0.001)

    began = time.monotonic()
    seconds = await one_by_one(Load(b"x", 10**9, 0.1, 1), publish)
    assert len(seconds) > 1
    assert await in_tasks(Load(b"x", 10**9, 0.1, 8), publish) > 1
    assert time.monotonic() - began < 5


async def test_tasks_share_the_count() -> None:
    numbers = count()

    async def publish(payload: bytes) -> None:
        next(numbers)
        await asyncio.sleep(0)

    assert await in_tasks(Load(b"x", 100, 60.0, 7), publish) == 100
    assert next(numbers) == 100


def test_the_gap_is_the_longest_time_between_receipts_since_the_mark() -> None:
    acknowledged = Acknowledged()
    acknowledged.times_s += [1.0]
    acknowledged._totals += [1]
    acknowledged.mark()
    assert acknowledged.gap_s()[1] == 0
    for at_s, messages in ((1.5, 256), (4.0, 256), (4.1, 1)):
        acknowledged.times_s.append(at_s)
        acknowledged._totals.append(acknowledged.total + messages)
    assert acknowledged.gap_s() == (2.5, 3)
    assert acknowledged.total == 514
    assert acknowledged.between(1.2, 4.05) == 512
    assert acknowledged.between(0, 100) == 514


def test_receipts_are_in_the_order_of_their_times() -> None:
    acknowledged = Acknowledged()
    for _ in range(10):
        acknowledged.add()
    assert all(before <= after for before, after in pairwise(acknowledged.times_s))


@pytest.mark.parametrize(("value", "encoded"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")])
def test_varint_as_protobuf_documents_it(value: int, encoded: bytes) -> None:
    assert varint(value) == encoded


def test_etcd_requests_are_what_its_proto_says() -> None:
    put = put_request(b"key", b"value")
    assert put == b"\x0a\x03key\x12\x05value"
    assert txn_request([put]) == b"\x12\x0e\x12\x0c" + put


def test_a_job_survives_the_command_line() -> None:
    job = Job("nats", ("a", "b"), 3, "pipelined", 100, 5, 1.5, 64, (1, 2), 500)
    assert Job.decoded(job.encoded()) == job
