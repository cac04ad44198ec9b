"""Tables, Markdown, files and the plot of a document made by hand."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from bench.errors import PeerMissing
from bench.report import document_of, markdown, number, tables, write
from tests.bench.documents import results

document = document_of(results())


def test_the_document_holds_medians_beside_their_repetitions() -> None:
    pipelined = document["systems"]["ringcast"]["workloads"]["pipelined"]
    assert pipelined["messages_per_second"] == 200_000
    assert [one["messages_per_second"] for one in pipelined["repetitions"]] == [300_000, 100_000, 200_000]
    assert pipelined["cpu_s_per_100k"] == 0.3
    assert document["systems"]["ringcast"]["peak_memory_mb_per_replica"] == 65
    assert document["floors"] == {"lmdb_commit_ms": 0.3}
    assert json.loads(json.dumps(document)) == json.loads(json.dumps(document_of(results())))


def test_the_tables_say_what_was_and_what_was_not_measured() -> None:
    found = {table.title: table for table in tables(document)}
    rows = {row[0]: row for table in found.values() for row in table.rows}
    assert rows["NATS JetStream R3"][1] in {"1", "20,000 (w 256)"}
    assert rows["send, pipelined : NATS single, sync always"][1:] == (">= 10 x", "10", "yes")
    assert rows["etcd"] == ("etcd", "etcd is not installed")
    assert rows["NATS JetStream R3: batched"][1] == "this nats-server has no atomic batch publish"
    assert rows["NATS JetStream R3: kill -9 of the leader"][1:] == ("2", "4,000", "7,000", "4,000, 7,000")
    for table in found.values():
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.title


def test_the_machine_is_kinds_and_versions_and_nothing_else() -> None:
    machine = document["machine"]
    assert re.fullmatch(r"[0-9.]+", machine["kernel"])
    versions = [*machine["packages"].values(), *machine["servers"].values()]
    assert all(one is None or re.fullmatch(r"[0-9][0-9a-z.+]*", one) for one in versions)


def test_markdown_is_tables_that_github_shows() -> None:
    lines = markdown(document).splitlines()
    header = next(index for index, line in enumerate(lines) if line.startswith("| system | pipelined/s"))
    assert lines[header + 1].count("|") == lines[header].count("|") == lines[header + 2].count("|")
    assert "its numbers mean nothing" not in markdown(document)
    assert "its numbers mean nothing" in markdown({**document, "quick": True})


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.1234, "0.123"), (1.0, "1"), (99.96, "100"), (1_234.5, "1,234"), (2e6, "2,000,000")],
)
def test_numbers_have_the_digits_that_mean_something(value: float | None, text: str) -> None:
    assert number(value) == text


def test_out_writes_three_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    written = write(document, tmp_path / "results", name="bus")
    assert [path.name for path in written] == ["bus.json", "bus.md", "bus.svg"]
    assert json.loads(written[0].read_text(encoding="utf-8"))["format"] == 1
    assert written[1].read_text(encoding="utf-8") == markdown(document)
    assert "<svg" in written[2].read_text(encoding="utf-8")


def test_without_matplotlib_the_numbers_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(PeerMissing, match="matplotlib"):
        write(document, tmp_path, name="bus")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bus.json", "bus.md"]
