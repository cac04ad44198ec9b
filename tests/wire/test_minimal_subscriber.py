"""A subscriber of at most 80 lines, from the page alone, is ordered and gapless."""

import ast
import asyncio
import sys
from pathlib import Path

import ringcast
from tests.client.doubles import Order, Replica

SCRIPT = Path(__file__).with_name("minimal_subscriber.py")


def test_it_is_short_and_imports_nothing_of_ours() -> None:
    source = SCRIPT.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 80
    tree = ast.walk(ast.parse(source))
    imported = {name.name for node in tree if isinstance(node, ast.Import) for name in node.names}
    assert imported == {"msgpack", "struct", "zmq"}
    assert "from " not in {line[:5] for line in source.splitlines()}


RUN = """
import sys
from minimal_subscriber import subscribe
received = subscribe(sys.argv[1], "orders")
for _ in range(60):
    print(*next(received), flush=True)
"""


async def test_it_receives_everything_though_the_feed_loses_some() -> None:
    order = Order()
    with Replica(order) as replica:
        replica.drop_feed = lambda info: info.first_offset % 3 == 0
        async with ringcast.connect(replica.endpoint) as bus:
            for number in range(20):
                await bus.publish("orders", b"%d" % number)
                await bus.publish("orders2", b"no")
            reader = await asyncio.create_subprocess_exec(
                sys.executable, "-c", RUN, replica.endpoint, cwd=SCRIPT.parent, stdout=asyncio.subprocess.PIPE
            )
            assert reader.stdout is not None
            lines = [await reader.stdout.readline() for _ in range(20)]
            for number in range(20, 60):
                await bus.publish("orders", b"%d" % number)
                await bus.publish("orders2", b"no")
            lines += [await reader.stdout.readline() for _ in range(40)]
            assert await reader.wait() == 0
    assert lines == [b"%d b'%d'\n" % (2 * number, number) for number in range(60)]
