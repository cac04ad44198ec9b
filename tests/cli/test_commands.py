"""The command on a running cluster: what a newcomer types, each with --json, and what goes wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from replicas.local.cluster import LocalCluster
from tests.cli.conftest import Ringcast, document

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


def test_publish_one_then_read_it(on: Ringcast) -> None:
    offset = int(on("publish", "one.word", "42 apples").stdout)
    assert on("get", str(offset)).stdout == "42 apples\n"
    found = document(on("get", str(offset), "--json"))
    assert (found["topic"], found["payload"], found["offset"]) == ("one.word", "42 apples", offset)
    assert on("subscribe", "one.word", "--count", "1").stdout == f"{offset}\t42 apples\n"
    line = json.loads(on("subscribe", "one.>", "--count", "1", "--json").stdout)
    assert (line["topic"], line["offset"]) == ("one.word", offset)


def test_publish_stdin_and_files(on: Ringcast, tmp_path: Path) -> None:
    whole = document(on("publish", "whole", "--json", stdin="a\nb\n"))
    assert document(on("get", str(whole["offset"]), "--json"))["payload"] == "a\nb\n"
    path = tmp_path / "lines.txt"
    path.write_bytes(b"first\nsecond\r\n\xff\n")
    offsets = [int(line) for line in on("publish", "lines", "--lines", "--file", str(path)).stdout.split()]
    assert offsets == list(range(offsets[0], offsets[0] + 3))
    text = on("subscribe", "lines", "--count", "3", "--from", str(offsets[0])).stdout
    assert [line.split("\t")[1] for line in text.splitlines()] == ["first", "second", "0xff"]
    summary = document(on("publish", "lines", "--lines", "--json", stdin="x\ny\n"))
    assert (summary["published"], summary["last_offset"] - summary["first_offset"]) == (2, 1)


def test_subscribe_with_a_cursor_goes_on(on: Ringcast) -> None:
    on("publish", "queue", "--lines", stdin="1\n2\n3\n")
    command = ("subscribe", "queue", "--cursor", "reader", "--count", "1")
    assert [on(*command).stdout.split("\t")[1].strip() for _ in range(3)] == ["1", "2", "3"]
    assert [one["name"] for one in document(on("cursors", "list", "--json"))] == ["reader"]
    after = document(on("cursors", "show", "reader", "--json"))["offset"]
    assert document(on("cursors", "reset", "reader", str(after - 1), "--json"))["offset"] == after - 1
    assert on(*command).stdout.split("\t")[1].strip() == "3"
    on("cursors", "delete", "reader")
    on("cursors", "show", "reader", code=1)
    on("cursors", "reset", "reader", "0", code=1)


def test_topics_status_health_verify(on: Ringcast) -> None:
    on("publish", "listed", "x")
    assert {"name": "listed", "messages": 1} in [
        {"name": one["name"], "messages": one["messages"]} for one in document(on("topics", "list", "--json"))
    ]
    assert "listed" in on("topics", "list").stdout
    assert document(on("topics", "show", "listed", "--json"))["messages"] == 1
    (replica,) = document(on("status", "--json"))["replicas"]
    assert (replica["state"], replica["ring"], replica["in_quorum"]) == ("serving", [1], True)
    assert "serving" in on("status").stdout
    assert replica["log_bytes"] <= replica["log_bytes_max"]
    assert replica["file_bytes"] >= replica["log_bytes"]
    shown = on("status", "--disk").stdout
    assert "unused MB" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert document(on("health", "--json"))["health"] == "healthy"
    assert document(on("verify", "--json"))["identical"] is True
    assert "hold the same order" in on("verify").stdout


def test_members(on: Ringcast, cluster: LocalCluster) -> None:
    """Tests of changes are in tests/processes: here is what it says when there is nothing to do."""
    found = document(on("members", "list", "--json"))
    assert (found["members"], found["next_members"], found["waiting"]) == ([1], [1], [])
    assert found["addresses"]["1"]["client"] == cluster.replicas[1].client
    assert "takes turns" in on("members", "list").stdout
    assert on("members", "add", "1").stdout == "1 is a member already: the members are 1\n"
    assert document(on("members", "remove", "9", "--json")) == {"changed": False, "members": [1], "ring": [1]}
    error = on("members", "add", "2", "--start", "--cluster", cluster.replicas[1].client, code=7).output
    assert "is no cluster of this machine" in error


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (("get", "999999"), 1, "no message at offset 999999"),
        (("publish", "not a topic", "x"), 4, "'not a topic' is not a topic"),
        (("publish", "_reserved", "x"), 4, "_reserved"),
        (("topics", "show", "unheard.of"), 4, "unheard.of"),
        (("subscribe", "a", "--from", "yesterday"), 2, "earliest"),
        (("publish", "a", "x", "--file", "y"), 2, "not both"),
        (("publish", "a", "--file", "missing.txt"), 2, "No such file"),
        (("recover",), 2, "--accept-loss"),
        (("members", "remove", "1"), 4, "the last one goes with the cluster: end its process"),
        (("members", "add", "64"), 2, "63"),
    ],
)
def test_what_is_refused(on: Ringcast, command: tuple[str, ...], code: int, text: str) -> None:
    assert text in " ".join(on(*command, code=code).output.replace("│", " ").split())


def test_where_the_cluster_is(ringcast: Ringcast, cluster: LocalCluster, tmp_path: Path) -> None:
    folder, endpoint = str(cluster.folder), cluster.replicas[1].client
    for place in (folder, str(cluster.path), endpoint):
        assert document(ringcast("status", "--json", "--cluster", place))["cluster"] == cluster.cluster
        assert document(ringcast("--cluster", place, "status", "--json"))["cluster"] == cluster.cluster
    (tmp_path / "ringcast-data").symlink_to(cluster.folder)
    assert document(ringcast("status", "--json"))["cluster"] == cluster.cluster


def test_no_cluster_and_an_unreachable_one(ringcast: Ringcast) -> None:
    assert "ringcast up" in ringcast("status", code=2).output
    started = time.monotonic()
    ringcast("status", "--cluster", "tcp://127.0.0.1:9", "--timeout", "0.5", code=3)
    assert time.monotonic() - started < 5
    ringcast("status", "--cluster", "nowhere.json", code=4)
    assert "ringcast up" in ringcast("down", code=2).output
    assert "folder" in ringcast("down", "--cluster", "tcp://127.0.0.1:1", code=7).output


def test_serve_refuses_a_wrong_configuration(ringcast: Ringcast, tmp_path: Path) -> None:
    path = tmp_path / "replica.toml"
    path.write_text('id = 1\ndata = "x"\ncolour = 1\n[peers]\n1 = "a:1"\n')
    assert "colour = 1: unknown key" in ringcast("serve", "bus", "--config", str(path), code=2).output


def test_version(ringcast: Ringcast) -> None:
    assert ringcast("version").stdout == ringcast("--version").stdout
    assert document(ringcast("version", "--json"))["version"] == ringcast("version").stdout.strip()


def test_up_and_down(ringcast: Ringcast, tmp_path: Path) -> None:
    """Issue point 8: what `up` writes, one replica by itself, and only our processes are ended."""
    data = tmp_path / "cluster"
    where = ("--data", str(data))
    small = ("--replicas", "3", "--products", "1", "--sellers", "1", "--buyers", "1")
    try:
        made = document(ringcast("up", "--detach", "--json", *small, *where))
        assert (made["started"], made["products_started"]) == ([1, 2, 3], [1])
        assert (made["sellers_started"], made["buyers_started"]) == ([1], [1])
        written = json.loads((data / "cluster.json").read_text())
        assert written["cluster"] == made["cluster"] != "0"
        keys = {"role", "id", "pid", "started", "config", "peer", "client", "feed", "http", "data"}
        assert [set(one) for one in written["replicas"]] == [keys] * 6
        assert [one["role"] for one in written["replicas"]] == ["bus"] * 3 + ["products", "sellers", "buyers"]
        assert written["products_cluster"] not in {"0", written["cluster"]}
        again = document(ringcast("up", "--detach", "--json", *where))
        assert (again["started"], again["products_started"]) == ([], [])
        ringcast("up", "--detach", "--replicas", "5", *where, code=7)
        ringcast("up", "--detach", "--products", "3", *where, code=7)
        ringcast("up", "--detach", "--buyers", "3", *where, code=7)
        ringcast("up", "--detach", "--only", "9", *where, code=7)
        file = str(data / "cluster.json")
        assert document(ringcast("down", "--only", "2", "--json", "--cluster", file))["stopped"] == [2]
        ringcast("health", "--cluster", str(data), code=1)
        assert document(ringcast("up", "--detach", "--only", "2", "--json", *where))["started"] == [2]
        ringcast("health", "--cluster", str(data))
    finally:
        stopped = document(ringcast("down", "--json", *where))
    others = {"products_stopped": [1], "sellers_stopped": [1], "buyers_stopped": [1]}
    assert stopped == {"stopped": [1, 2, 3], **others}
    assert "nothing was running" in ringcast("down", *where).stdout


@pytest.mark.parametrize("json_", [(), ("--json",)])
def test_up_detached_stays_when_nobody_reads_what_it_says(
    ringcast: Ringcast, tmp_path: Path, json_: tuple[str, ...]
) -> None:
    """As in `ringcast up --detach | head -1`: it took the cluster down again."""
    where = ("--data", str(tmp_path / "cluster"))
    small = ("--replicas", "1", "--products", "0", "--sellers", "0", "--buyers", "0")
    reads, writes = os.pipe()
    os.close(reads)
    try:
        command = [sys.executable, "-P", "-m", "cli", "up", "--detach", *small, *where, *json_]
        assert subprocess.run(command, stdout=writes, check=False, timeout=60).returncode == 0
        ringcast("health", "--cluster", str(tmp_path / "cluster"))
    finally:
        os.close(writes)
        stopped = document(ringcast("down", "--json", *where))
    assert stopped["stopped"] == [1]


def test_down_leaves_a_process_that_took_the_pid(ringcast: Ringcast, tmp_path: Path) -> None:
    cluster = LocalCluster.create(tmp_path / "data", 1)
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        document_ = json.loads(cluster.path.read_text())
        document_["replicas"][0] |= {"pid": stranger.pid, "started": "1"}
        cluster.path.write_text(json.dumps(document_))
        assert document(ringcast("down", "--json", "--data", str(cluster.folder)))["stopped"] == []
        assert stranger.poll() is None
    finally:
        stranger.send_signal(signal.SIGKILL)
        stranger.communicate()


def test_simulate_raft(ringcast: Ringcast) -> None:
    report = document(ringcast("simulate", "--raft", "--seeds", "1..2", "--members", "3", "--jobs", "1", "--json"))
    assert (report["seeds"], report["violations"], report["failing"]) == (2, 0, [])
    assert report["applied"] > 0


def test_simulate(ringcast: Ringcast) -> None:
    report = document(ringcast("simulate", "--seeds", "1..2", "--members", "3", "--jobs", "1", "--json"))
    assert (report["seeds"], report["violations"]) == (2, 0)


def test_simulate_that_is_told_to_end_leaves_no_process_behind() -> None:
    command = [sys.executable, "-P", "-m", "cli", "simulate", "--seeds", "0..1000000", "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until = time.monotonic() + 30
        while len(found := children.read_text().split()) < 3 and time.monotonic() < until:  # and a resource tracker
            time.sleep(0.05)
        process.terminate()
        assert process.wait(20) != 0
    assert found
    while any(map(_runs, found)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_runs, found))


def _runs(pid: str) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty: it ended, and nobody has asked how
    except FileNotFoundError:
        return False


def test_up_in_the_foreground_ends_with_its_signal_and_ends_what_was_added(ringcast: Ringcast, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cli",
        "up",
        "--replicas",
        "1",
        "--products",
        "1",
        "--data",
        str(tmp_path / "data"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "is ready" in line:
                    break
            cluster = LocalCluster.open(tmp_path / "data")
            assert cluster.running() == [1]
            added = ringcast("members", "add", "2", "--start", "--cluster", str(cluster.folder))
            assert added.stdout == "member 2 was added and takes turns: the members are 1 2\n"
            cluster.reload()
            assert cluster.running() == [1, 2]
            # A shell that starts the tests in the background has made SIGINT ignored, here and in every child.
            ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            process.send_signal(signal.SIGTERM if ignored else signal.SIGINT)
            assert process.wait(30) == 0
            assert cluster.running() == []
        finally:
            process.kill()


def test_compact_offline_takes_its_configuration_as_serve_does(
    on: Ringcast, cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica in a container has no file."""
    config = cluster.replicas[1].config
    assert "is in use by process" in on("compact", "--config", config, code=7).output
    monkeypatch.setenv("RINGCAST_ID", "1")
    monkeypatch.setenv("RINGCAST_PEERS", "1=127.0.0.1:7101")
    monkeypatch.setenv("RINGCAST_DATA", str(tmp_path / "nothing"))
    assert "is no data folder of replica 1" in on("compact", "--offline", code=7).output
