"""The product store's bench: goals and tables of a document made by hand, parts that are merged, and a quick run."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.options import Options
from bench.products import PARTS, merged
from bench.products_report import GOALS, tables
from bench.report import document_of, markdown
from bench.results import Results, SystemResult
from cli.app import app
from tests.bench.documents import gap, sample


def _results() -> Results:
    ours = SystemResult("Ringcast products, 3 replicas", "synced", peaks_mb=[100.0])
    ours.samples = {name: [sample(name, 20_000)] for name in ("pipelined", "batched", "read", "local")}
    ours.samples |= {"one": [sample("one", 500)]}
    ours.gap = gap(120.0, 1_200.0)
    etcd = SystemResult("etcd, 3 members", "synced", peaks_mb=[300.0])
    etcd.samples = {"pipelined": [sample("pipelined", 5_000)], "read": [sample("read", 30_000)]}
    extras = {"million": {"items": 1_000_000, "peak_mb": 900.0, "search": {"p50_ms": 2.0, "p99_ms": 4.0, "entries": 9}}}
    return Results(Options(), systems={"products": ours, "etcd": etcd}, floors=[{"lmdb_commit_ms": 0.3}], extras=extras)


def test_goals_are_ratios_of_the_same_run() -> None:
    found = {one["name"]: (one["reached"], one["met"]) for one in document_of(_results(), GOALS)["goals"]}
    assert found["single writes, pipelined : etcd's single puts"] == (4.0, True)
    assert found["linearizable reads : etcd's"] == (0.667, False)
    assert found["gap, kill -9 of the leader, median"] == (120.0, True)
    assert found["gap, kill -9 of the leader, worst"] == (1_200.0, False)
    assert found["import : etcd in transactions of 128"] == (None, None)
    assert len(found) == 9


def test_tables_say_everything() -> None:
    text = markdown(document_of(_results(), GOALS), tables)
    for words in ("| 4 | yes |", "not measured", "Ringcast products, 3 replicas: write", "1,000,000 items, 3 keywords"):
        assert words in text
    assert "peak memory of the largest replica" in text


def test_what_was_measured_before_is_kept(tmp_path: Path) -> None:
    whole = document_of(_results(), GOALS)
    assert merged(tmp_path, whole, GOALS) == whole
    (tmp_path / "results.json").write_text(json.dumps(whole))
    part = Results(Options(), systems={"products": SystemResult("Ringcast products, 3 replicas", "synced")})
    part.extras = {"catch_up": {"seconds": 1.5}}
    found = merged(tmp_path, document_of(part, GOALS), GOALS)
    assert found["systems"] == json.loads(json.dumps(whole["systems"]))
    assert (found["million"], found["catch_up"]) == (whole["million"], {"seconds": 1.5})
    assert found["goals"] == whole["goals"]
    assert found["floors"] == {"lmdb_commit_ms": 0.3}
    quick = document_of(Results(Options(), quick=True), GOALS)
    assert merged(tmp_path, quick, GOALS) == quick, "a quick run is no part of a real one"


def test_a_part_that_is_none_is_refused() -> None:
    result = CliRunner().invoke(app, ["bench", "products", "--parts", "compare,nothing"])
    assert result.exit_code == 2
    assert "parts nothing: they are compare, gaps, search, catch_up, million" in result.stderr


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_a_quick_run_of_the_product_store_alone(tmp_path: Path) -> None:
    command = ["bench", "products", "--quick", "--against", "", "--kills", "1", "--json", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, (result.output, result.exception)
    document: dict[str, Any] = json.loads(result.stdout)
    products = document["systems"]["products"]
    assert products["not_measured"] == {}
    assert len(products["workloads"]) == 8
    assert products["gap"]["times"] == 1
    assert {"search", "catch_up", "million"} <= document.keys()
    assert document["million"]["anonymous_mb"] > 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["results.json", "results.md", "results.svg"]
    assert PARTS == ("compare", "gaps", "search", "catch_up", "million")
