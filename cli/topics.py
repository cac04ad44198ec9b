"""`ringcast publish`, `subscribe`, `get` and `topics`."""

import asyncio
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

import ringcast
from cli import render
from cli.common import NO, ClusterOption, JsonOption, TimeoutOption, cluster_of, reported, run

TopicArgument = Annotated[str, typer.Argument(metavar="TOPIC", help="Words joined by dots: orders.eu")]
PatternArgument = Annotated[str, typer.Argument(metavar="TOPIC", help="A topic, a.b.> or >")]

topics_app = typer.Typer(help="The topics there are.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("publish")(publish)
    app.command("subscribe")(subscribe)
    app.command("get")(get)
    app.add_typer(topics_app, name="topics")


# ------------------------------------------------------------------ publish


@reported
def publish(
    topic: TopicArgument,
    message: Annotated[str | None, typer.Argument(metavar="[MESSAGE]", help="One message, as text.")] = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="F|-", help="Read from a file; - is stdin.")] = None,
    lines: Annotated[bool, typer.Option("--lines", help="One message for each line.")] = False,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 30.0,
    json: JsonOption = False,
) -> None:
    """Publish stdin, a file or one MESSAGE; print the offset of each message, when a quorum has it on disk."""
    if message is not None and file is not None:
        raise typer.BadParameter("give MESSAGE or --file, not both")
    where = cluster_of(cluster)
    data: Iterator[bytes] = iter([message.encode()]) if message is not None else _read(file, lines)
    if lines and message is None:
        run(_publish_lines(where, topic, data, timeout, json))
    else:
        run(_publish_one(where, topic, b"".join(data), timeout, json))


def _read(file: Path | None, lines: bool) -> Iterator[bytes]:
    if file is None or str(file) == "-":
        if sys.stdin.isatty():
            render.note("reading from the terminal; end with Ctrl-D")
        yield from (line.rstrip(b"\r\n") for line in sys.stdin.buffer) if lines else [sys.stdin.buffer.read()]
        return
    try:
        with file.open("rb") as source:
            yield from (line.rstrip(b"\r\n") for line in source) if lines else [source.read()]
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--file") from None


async def _publish_one(where: str, topic: str, payload: bytes, timeout_s: float, json: bool) -> None:
    async with ringcast.connect(where, timeout=timeout_s) as bus:
        receipt = await bus.publish(topic, payload)
    if json:
        render.as_json({"topic": topic, "offset": receipt.offset, "slot": receipt.slot, "time": receipt.time})
    else:
        typer.echo(receipt.offset)


async def _publish_lines(where: str, topic: str, data: Iterator[bytes], timeout_s: float, json: bool) -> None:
    """Pipelined; offsets are printed in the order of the lines, as the receipts come."""
    printed = 0
    first = last = -1
    pending: asyncio.Queue[ringcast.Ticket | None] = asyncio.Queue(100_000)

    async def print_receipts(progress: Progress, task: Any) -> None:
        nonlocal printed, first, last
        while (ticket := await pending.get()) is not None:
            receipt = await ticket
            first = receipt.offset if first < 0 else first
            last = receipt.offset
            printed += 1
            if not json:
                typer.echo(receipt.offset)
            if printed % 100 == 0:
                progress.update(task, description=f"{printed:,} acknowledged")

    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    show = sys.stderr.isatty() and not sys.stdout.isatty()
    async with ringcast.connect(where, timeout=timeout_s) as bus:
        with Progress(*columns, console=_stderr(), transient=True, disable=not show) as progress:
            task = progress.add_task("publishing")
            async with asyncio.TaskGroup() as group:
                printer = group.create_task(print_receipts(progress, task))
                async with bus.publisher(topic) as publisher:
                    for line in data:
                        await pending.put(await publisher.send(line))
                    await publisher.flush()
                await pending.put(None)
                await printer
    if json:
        render.as_json({"topic": topic, "published": printed, "first_offset": first, "last_offset": last})


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


# ------------------------------------------------------------------ subscribe, get


def _start(text: str) -> Any:
    """'earliest', 'latest', an offset, or a time."""
    if text in {"earliest", "latest"}:
        return text
    if text.isdigit():
        return int(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: write earliest, latest, an offset (42) or a time (2026-01-31T12:00:00)", param_hint="--from"
        ) from None


@reported
def subscribe(
    topic: PatternArgument,
    start: Annotated[str, typer.Option("--from", metavar="WHERE", help="earliest, latest, an offset or a time.")] = (
        "earliest"
    ),
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many messages.")] = None,
    replica: Annotated[int | None, typer.Option("--replica", metavar="ID", help="Listen to this one alone.")] = None,
    cursor: Annotated[str | None, typer.Option("--cursor", metavar="NAME", help="Durable position, moved on.")] = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 30.0,
    json: JsonOption = False,
) -> None:
    """Print messages in the one order, from the beginning unless told otherwise, and then as they come."""
    run(_subscribe(cluster_of(cluster), topic, _start(start), count, replica, cursor, timeout, json))


async def _subscribe(
    where: str,
    topic: str,
    start: Any,
    count: int | None,
    replica: int | None,
    cursor: str | None,
    timeout_s: float,
    json: bool,
) -> None:
    many = topic.endswith(">")
    async with ringcast.connect(where, timeout=timeout_s) as bus:
        seen = 0
        last: ringcast.Message | None = None
        try:
            async with bus.subscribe(topic, start, cursor, replica) as messages:
                async for message in messages:
                    _print(message, many, json)
                    last = message
                    seen += 1
                    if cursor is not None and seen % 100 == 0:
                        await message.done()
                    if seen == count:
                        break
        finally:
            if cursor is not None and last is not None:
                await last.done()


def _print(message: ringcast.Message, many: bool, json: bool) -> None:
    if json:
        render.json_line(_message(message))
    else:
        topic = f"{message.topic}\t" if many else ""
        typer.echo(f"{message.offset}\t{topic}{render.payload(message.payload)}")


def _message(message: ringcast.Message) -> dict[str, Any]:
    found: dict[str, Any] = {"offset": message.offset, "topic": message.topic}
    found |= render.payload_fields(message.payload)
    if message.packed_headers:
        found["headers"] = message.headers
    return {**found, "time": message.time.isoformat(), "client": message.client.hex()}


@reported
def get(
    offset: Annotated[int, typer.Argument(min=0, help="The message's place in the order.")],
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Print the message at OFFSET. Exit code 1 if there is none yet."""

    async def fetch() -> ringcast.Message | None:
        async with ringcast.connect(cluster_of(cluster), timeout=timeout) as bus:
            return await bus.get(offset)

    message = run(fetch())
    if message is None:
        render.error(f"there is no message at offset {offset} yet: `ringcast status` shows the next offset")
        raise typer.Exit(NO)
    if json:
        render.as_json(_message(message))
    else:
        typer.echo(render.payload(message.payload))


# ------------------------------------------------------------------ topics


@topics_app.command("list")
@reported
def list_topics(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="a.b, a.b.> or >.")] = ">",
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Every topic, with its number of messages and its last offset."""

    async def ask() -> list[ringcast.TopicInfo]:
        async with ringcast.connect(cluster_of(cluster), timeout=timeout) as bus:
            return await bus.topics(pattern)

    found = run(ask())
    if json:
        render.as_json([{"name": one.name, "messages": one.messages, "last_offset": one.last_offset} for one in found])
    else:
        rows = [(one.name, one.messages, one.last_offset) for one in found]
        render.console().print(render.table(("topic", "messages", "last offset"), rows))


@topics_app.command("show")
@reported
def show_topic(
    topic: TopicArgument, cluster: ClusterOption = None, timeout: TimeoutOption = 10.0, json: JsonOption = False
) -> None:
    """What is kept of one topic."""

    async def ask() -> dict[str, Any]:
        async with ringcast.connect(cluster_of(cluster), timeout=timeout) as bus:
            return dict(await bus.query("topic", {"name": topic}))

    found = run(ask())
    if json:
        render.as_json(found)
    else:
        render.console().print(render.table(("what", "value"), found.items()))
