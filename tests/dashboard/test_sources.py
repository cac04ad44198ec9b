"""Where the dashboard gets what it shows: addresses from cluster.json, /metrics, and patience with who is late."""

import asyncio
import json
from pathlib import Path

from replicas.dashboard.sources import LOST_AFTER_S, METRICS_BYTES_MAX, Patience, Sources, replicas_of, scrape


def test_addresses_are_read_anew_and_a_file_that_is_gone_names_nobody(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    entries = [{"role": "bus", "id": 1, "http": "http://127.0.0.1:1"}, {"id": 2}, {"role": "products", "id": 1}]
    file.write_text(json.dumps({"replicas": entries}))
    assert replicas_of(file, "bus") == {1: "http://127.0.0.1:1", 2: ""}
    assert replicas_of(file, "products") == {1: ""}
    for text in ("", "[]", '{"replicas": 1}', '{"replicas": [1]}', '{"replicas": [{"id": "x"}]}'):
        file.write_text(text)
        assert replicas_of(file, "bus") == {}
    file.unlink()
    assert replicas_of(file, "bus") == {}
    assert replicas_of(None, "bus") == {}


def test_one_late_answer_is_no_loss() -> None:
    patience = Patience()
    assert patience.believes(1, 10.0, failed=False)
    assert not patience.believes(1, 11.0, failed=True)
    assert patience.believes(1, 10.0 + LOST_AFTER_S, failed=True)
    assert patience.believes(1, 13.0, failed=False)
    assert not patience.believes(1, 13.5, failed=True)


def test_who_never_answered_is_lost_after_the_same_time() -> None:
    patience = Patience()
    assert not patience.believes(1, 10.0, failed=True)
    assert patience.believes(1, 10.0 + LOST_AFTER_S, failed=True)


async def test_a_bug_ends_the_dashboard_and_does_not_stop_the_picture() -> None:
    sources = Sources("tcp://127.0.0.1:1")

    async def broken() -> None:
        raise ZeroDivisionError

    await asyncio.wait([sources._begin(broken())])
    assert isinstance(sources.failure, ZeroDivisionError)
    assert sources.board.closed


async def answering(answer: bytes) -> tuple[asyncio.Server, str]:
    """A server that says one thing to everybody."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_metrics_are_asked_for_and_whoever_cannot_answer_says_nothing() -> None:
    huge = b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * (METRICS_BYTES_MAX + 1)
    for answer, expected in (
        (b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nsome 1\n", "some 1\n"),
        (b"HTTP/1.0 503 No\r\n\r\n", None),
        (b"", None),
        (huge, None),
    ):
        server, place = await answering(answer)
        async with server:
            assert await scrape(place) == expected
    assert await scrape(place) is None, "nobody listens there any more"
    assert await scrape("http://127.0.0.1:nonsense") is None
