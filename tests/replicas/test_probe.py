"""The health check of a container: it asks the replica that its environment names, and tells why not."""

import asyncio
from pathlib import Path

import pytest

from replicas import probe
from tests.replicas.alone import ready, running


async def test_it_says_what_the_replica_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running("bus", tmp_path / "data") as replica:
        await ready(replica.http)
        monkeypatch.setenv("RINGCAST_BIND_HTTP", f"0.0.0.0:{replica.http.rpartition(':')[2]}")
        assert await asyncio.to_thread(probe.main, "readyz") == 0
        assert '"ready": true' in capsys.readouterr().out
        assert await asyncio.to_thread(probe.main, "nothing") == 1
        assert "/startupz" in capsys.readouterr().out


def test_nobody_there_is_no(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RINGCAST_BIND_HTTP", "127.0.0.1:1")
    assert probe.main("readyz") == 1
    assert "127.0.0.1:1: " in capsys.readouterr().out
    monkeypatch.setenv("RINGCAST_BIND_HTTP", "127.0.0.1:*")
    assert probe.main("readyz") == 1
