"""Bad input to real replicas of the product store: a typed answer, nothing changed, and every replica lives on."""

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
import zmq

import ringcast
from replicas.local.cluster import LocalCluster
from replicas.local.files import HOST
from ringcast import wire
from ringcast.product_store.operations import ChangePrice, Put, decode_outcome, decode_outcomes, encode_operation
from ringcast.product_store.wire import Ask, Operate, Outcomes
from ringcast.strict import dumps
from tests.processes.conftest import Start
from tests.processes.products_load import leader_of

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]

CLIENT = bytes(range(16))
LAMP = Put("lamp", "ann", "Lamp", "home", ("light",), "new", 100, 3)
#: Operations that are none, and one that is: they are in the log of every replica.
OPERATIONS = (
    encode_operation(LAMP),
    b"",
    b"\xc1",
    dumps((99, "of a newer version")),
    dumps((1, "lamp")),
    dumps((2, "lamp", "ann", -1)),
    dumps((2, "lamp", "ann", 1 << 63)),
    dumps((3, "lamp", "ann", True)),
    dumps((1, "x" * 37, *LAMP[1:])),
    dumps((1, "many", *LAMP[1:4], tuple("abcdef"), *LAMP[5:])),
    encode_operation(ChangePrice("nothing", "ann", 1)),
    encode_operation(ChangePrice("lamp", "bob", 1)),
    b"\x91" * 15_000,
)
ERRORS = [
    "", *["bad_frame"] * 4, *["illegal_value"] * 5, "unknown_item", "not_the_seller", "bad_frame",
]  # fmt: skip


def _ask(endpoint: str, *messages: wire.Message) -> list[wire.Message]:
    """Say HELLO, then these; their answers."""
    with zmq.Context() as context, closing(context.socket(zmq.DEALER)) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(endpoint)
        answers = []
        for message in (wire.Hello(CLIENT), *messages):
            dealer.send(wire.encode(wire.ANY_CLUSTER, 0, message))
            assert dealer.poll(10_000), f"no answer to {message}"
            answers.append(wire.decode(dealer.recv()).message)
    return answers[1:]


async def _digest_is_the_same(cluster: LocalCluster, item: str) -> None:
    async with ringcast.products(cluster.path, timeout=10) as store:
        found = await store.get(item)
        assert found is not None
        wanted = int(str((await store.status(consistency="linearizable"))["applied"]))
    for replica in cluster.replicas.values():
        async with ringcast.products(replica.client, timeout=10) as store:
            async with asyncio.timeout(10):
                while int(str((await store.status())["visible"])) < wanted:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.01)
            assert await store.get(item, consistency="local") == found
            assert (await store.items(consistency="local")).entries == (found,)


async def test_operations_that_are_none_are_answered_and_applied_alike_everywhere(start_products: Start) -> None:
    cluster = start_products(3)
    leader = cluster.replicas[await leader_of(cluster)].client
    (answer,) = await asyncio.to_thread(_ask, leader, Operate(CLIENT, 1, 0, 0, OPERATIONS))
    assert isinstance(answer, Outcomes)
    codes = []
    for outcome in decode_outcomes(answer.outcomes, len(OPERATIONS)):
        try:
            decode_outcome(outcome)
        except ringcast.RingcastError as error:
            codes.append(error.code)
        else:
            codes.append("")
    assert codes == ERRORS
    questions = (dumps((35, "home", tuple("abcdef"), "", 10)), dumps((32, "lamp", "more")), b"", dumps((64, 1, 99)))
    answers = await asyncio.to_thread(
        _ask, leader, *(Ask(number, 1, (one,)) for number, one in enumerate(questions, 1))
    )
    assert [type(one).__name__ for one in answers] == ["Found"] * 4
    assert cluster.running() == [1, 2, 3]
    await _digest_is_the_same(cluster, "lamp")


async def test_random_bytes_on_every_port(start_products: Start) -> None:
    cluster = start_products(3)
    async with ringcast.products(cluster.path, timeout=10) as store:
        await store.put_item(LAMP)
    random = Random(4)
    ports = [
        int(endpoint.rpartition(":")[2])
        for replica in cluster.replicas.values()
        for endpoint in (replica.peer, replica.client, replica.http)
    ]
    await asyncio.to_thread(_throw, ports, random)
    async with ringcast.products(cluster.path, timeout=10) as store:
        await store.change_price("lamp", "ann", 7)
    assert cluster.running() == [1, 2, 3]
    await _digest_is_the_same(cluster, "lamp")


def _throw(ports: list[int], random: Random) -> None:
    """Bytes of no protocol, then multipart messages of ZeroMQ that are no frames."""
    for port in ports:
        for size in (1, 64, 5_000):
            with closing(socket.create_connection((HOST, port), timeout=5)) as raw:
                raw.sendall(random.randbytes(size))
    with zmq.Context() as context:
        for port in ports[0::3] + ports[1::3]:
            with closing(context.socket(zmq.DEALER)) as dealer:
                dealer.setsockopt(zmq.LINGER, 500)
                dealer.connect(f"tcp://{HOST}:{port}")
                for parts in (1, 2, 40):
                    dealer.send_multipart([random.randbytes(random.randrange(300)) for _ in range(parts)])


def test_without_raftos_the_other_roles_run_and_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['raftos'] = None; from cli.app import main; main()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGCAST_")}

    def ringcast_(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-c", hidden, *arguments, "--data", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)

    try:
        found = ringcast_("up", "--detach", "--replicas", "1")
        assert found.returncode == 0, found.stderr
        assert "pip install --no-deps raftos==0.2.6" in found.stderr
        assert len([line for line in found.stderr.splitlines() if "raftos" in line]) == 1
        assert "Traceback" not in found.stderr
        assert "is ready" in found.stdout
        assert LocalCluster.open(tmp_path).running() == [1]
    finally:
        ringcast_("down")
