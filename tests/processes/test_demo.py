"""The demo, as `make demo` runs it: the keys of its JSON, and that what it shows is good."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from replicas.demo.run import DemoError, read_lines
from replicas.local.cluster import LocalCluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]

COMMAND = [sys.executable, "-P", "-m", "cli", "demo"]
KEYS = [
    "replicas", "published", "delivered", "digests", "identical", "lost", "duplicated", "view_changes",
    "failover_gap_ms", "messages_per_second", "latency_ms", "market",
]  # fmt: skip


def test_json_says_that_nothing_was_lost(tmp_path: Path) -> None:
    text = tmp_path / "input.txt"
    text.write_text("".join(f"line {number}\n" for number in range(500)))
    found = subprocess.run([*COMMAND, "--json", "--input", text], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    result = json.loads(found.stdout)
    assert list(result) == KEYS
    assert (result["replicas"], result["identical"], result["lost"], result["duplicated"]) == (3, True, 0, 0)
    assert result["published"] >= 500
    assert result["delivered"] == dict.fromkeys("123", result["published"])
    assert len(set(result["digests"].values())) == 1
    assert result["view_changes"] >= 2  # the kill, and the return
    assert 0 < result["failover_gap_ms"] < 5_000
    assert list(result["latency_ms"]) == ["p50", "p99", "max"]
    sold = result["market"]
    assert (sold["audit_clean"], sold["recorded"], len(sold["killed"])) == (True, sold["purchases"], 2)


def test_on_a_terminal_it_is_live_and_ends_with_the_verdict() -> None:
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    shown = b""
    with subprocess.Popen(
        [*COMMAND, "--replicas", "1", "--no-market"], stdout=terminal, stderr=terminal, env=environment
    ) as demo:
        os.close(terminal)
        try:
            while data := os.read(controller, 65_536):
                shown += data
        except OSError:
            pass  # the other end is closed: this is how a terminal ends
        assert demo.wait(60) == 0
    os.close(controller)
    assert b"The same order on all 1 replicas" in shown
    assert b"\x1b[" in shown
    assert b"serving" in shown


def test_a_sigterm_leaves_no_process_and_no_folder_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True, env=environment) as demo:
        assert demo.stdout is not None
        assert any("ready;" in line for line in demo.stdout)
        (folder,) = tmp_path.glob("ringcast-demo-*")
        replicas = LocalCluster.open(folder).replicas.values()
        assert all(replica.running for replica in replicas)
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(30) == 143
    assert not any(replica.running for replica in replicas)
    assert not folder.exists()


@pytest.mark.parametrize("content", [None, b""])
def test_an_input_that_cannot_be_published_is_named(tmp_path: Path, content: bytes | None) -> None:
    text = tmp_path / "input.txt"
    if content is not None:
        text.write_bytes(content)
    with pytest.raises(DemoError, match=rf"{text}.*name a text file"):
        read_lines(text)
