"""/livez /readyz /startupz /metrics of each role, over real HTTP."""

import asyncio
import json
from pathlib import Path

import pytest
import zmq

import ringcast
from ringcast.market import Buyer
from tests.replicas.alone import DATABASES, ROLES, get, ready, running

BY_ROLE = pytest.mark.parametrize("role", sorted(ROLES))
BY_DATABASE = pytest.mark.parametrize("role", DATABASES)


@BY_DATABASE
async def test_a_replica_says_that_it_lives_started_and_serves(role: str, tmp_path: Path) -> None:
    async with running(role, tmp_path / "data") as replica:
        assert json.loads(await ready(replica.http))["ready"] is True
        assert await get(replica.http, "/livez") == (200, "live\n")
        assert await get(replica.http, "/startupz") == (200, "started\n")
        status, body = await get(replica.http, "/readyz?verbose")
        assert status == 200
        assert body.endswith("readyz check passed\n")
        assert "[+] serving ok" in body
        assert "[-]" not in body
        for path in ("livez", "startupz"):
            status, body = await get(replica.http, f"/{path}?verbose")
            assert (status, body.splitlines()[-1]) == (200, f"{path} check passed")
        status, body = await get(replica.http, "/")
        assert status == 404
        assert "/startupz" in body


async def test_a_check_that_fails_is_named_with_its_reason(tmp_path: Path) -> None:
    async with running("bus", tmp_path / "data") as replica:
        await ready(replica.http)
        replica.shell.leave()
        async with asyncio.timeout(10):
            while (await get(replica.http, "/readyz"))[0] == 200:  # noqa: ASYNC110 - as a probe does it
                await asyncio.sleep(0.01)
        status, body = await get(replica.http, "/readyz?verbose")
        assert status == 503
        assert "[-] staying: leaving (V11)" in body
        assert body.endswith("readyz check failed\n")
        assert (await get(replica.http, "/livez?verbose"))[0] == 200


@BY_ROLE
async def test_metrics_tell_the_build_and_the_process(role: str, tmp_path: Path) -> None:
    async with running(role, tmp_path / "data") as replica:
        status, text = await get(replica.http, "/metrics")
    assert status == 200
    assert f'ringcast_build_info{{role="{role}",version="' in text
    assert "process_resident_memory_bytes" in text
    assert "ringcast_ready{" in text


@BY_DATABASE
async def test_metrics_tell_of_the_disk(role: str, tmp_path: Path) -> None:
    async with running(role, tmp_path / "data") as replica:
        _, text = await get(replica.http, "/metrics")
    free = next(line for line in text.splitlines() if line.startswith("ringcast_disk_free_bytes{"))
    assert float(free.split()[-1]) > 0


async def test_an_interface_waits_for_its_databases_longer_than_a_call_does(tmp_path: Path) -> None:
    async with running("buyers", tmp_path / "data", call_timeout_ms=100) as replica:
        connecting = replica._tasks[-1]
        async with asyncio.timeout(10):
            while not isinstance(replica._probe_trouble, ringcast.Unreachable):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        assert not connecting.done()


async def test_an_interface_without_databases_lives_and_does_not_serve(tmp_path: Path) -> None:
    async with running("buyers", tmp_path / "data") as replica:
        assert (await get(replica.http, "/livez"))[0] == 200
        assert (await get(replica.http, "/startupz"))[0] == 200
        status, body = await get(replica.http, "/readyz?verbose")
        endpoint = replica.gateway._socket.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        for _ in range(2):
            with pytest.raises(ringcast.Unreachable, match="does not serve now"):
                await Buyer([endpoint], timeout=1).__aenter__()
            await replica.products.close()  # as it is before it was entered, and when entering it took too long
    assert status == 503
    assert "[-] serving:" in body
