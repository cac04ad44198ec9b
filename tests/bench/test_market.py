"""The marketplace's table: what a window is summed up to, what stands in it, and that runs add up in one file."""

import copy
from pathlib import Path
from typing import Any

import pytest

from bench.market_load import FUNCTIONS, HASHED, READS, Samples, mean_hash_s
from bench.market_report import JSON_NAME, MARKDOWN_NAME, markdown, merged, tables, write
from bench.market_run import SCENARIOS, MarketOptions, _summary, good
from ringcast.errors import OutOfStock
from ringcast.market.functions import FUNCTIONS as CONTRACT


def window(seconds: float = 0.002) -> dict[str, Any]:
    samples = Samples()
    for name in FUNCTIONS:
        samples.seconds[name] = [seconds] * 3 + [4 * seconds]
    samples.ended = [0.0, 0.1, 0.4, 0.45]
    cpu = {"bus": 1.0, "products": 0.5, "sellers": 0.25, "buyers": 0.25, "clients": 0.5}
    return {**_summary(samples, 0.001), "cpu_ms_per_call": cpu, "seconds": 1.0, "rounds": 4, "killed": []}


def document(*scenarios: str) -> dict[str, Any]:
    return {
        "format": 1,
        "machine": {"cores": 2, "processor": "a", "kernel": "6.1", "python": "3.11.7", "packages": {"pyzmq": "26"}},
        "deployment": {"bus": 3, "products": 3, "sellers": 4, "buyers": 4},
        "scenarios": {
            name: {"title": SCENARIOS[name], "clients": {"1": window(), "10": window()}} for name in scenarios
        },
        "audit": {"clean": True},
    }


def test_the_table_has_every_function_of_the_contract_and_every_scenario_of_the_design() -> None:
    assert len(FUNCTIONS) == len(set(FUNCTIONS)) == sum(map(len, CONTRACT.values())) == 20
    assert MarketOptions().scenarios == tuple(SCENARIOS)
    assert len(SCENARIOS) == 6
    assert len(HASHED) == 4
    assert len(READS) == 6
    assert not HASHED & READS


def test_a_window_is_summed_up() -> None:
    found = window()
    assert found["functions"]["buyer: display the cart"] == {
        "samples": 4, "mean": 3.5, "p50": 2.0, "p99": 8.0, "max": 8.0,
    }  # fmt: skip
    assert found["functions"]["buyer: login"]["mean_without_hash"] == 2.5
    assert found["longest_gap_ms"] == 300.0


def test_the_hashes_of_a_window_are_those_that_were_made_in_it() -> None:
    before = {("seller", 1): (10, 1.0), ("buyer", 1): (50, 5.0)}
    after = {("seller", 1): (20, 3.0), ("buyer", 1): (5, 1.0)}  # the second was killed, and counts anew
    assert mean_hash_s(before, after) == 0.2
    assert mean_hash_s(before, before) is None


async def test_errors_and_what_is_lost_are_kept() -> None:
    samples = Samples()

    async def fails() -> None:
        raise OutOfStock(item="lamp", wanted=1, left=0)

    with pytest.raises(OutOfStock):
        await samples.timed("buyer: make purchase", fails())
    samples.expect("the cart", 2, 3)
    found = _summary(samples, None)
    assert (found["errors"], found["lost"], len(found["what"])) == (1, 1, 2)


def test_the_exit_code_is_that_of_what_users_would_mind() -> None:
    assert good(document("normal"))
    for key in ("errors", "lost"):
        bad = copy.deepcopy(document("normal"))
        bad["scenarios"]["normal"]["clients"]["1"][key] = 1
        assert not good(bad)
    assert not good({**document("normal"), "audit": {"clean": False}})


def test_runs_of_single_scenarios_add_up_in_the_order_of_the_design(tmp_path: Path) -> None:
    write(document("token_holder"), tmp_path)
    found = write(document("normal"), tmp_path)
    assert list(found["scenarios"]) == ["normal", "token_holder"]
    assert (tmp_path / "marketplace.svg").stat().st_size > 1_000
    other = {**document("interfaces"), "deployment": {"bus": 5, "products": 5, "sellers": 4, "buyers": 4}}
    assert list(merged(other, tmp_path / JSON_NAME)["scenarios"]) == ["interfaces"]
    text = (tmp_path / MARKDOWN_NAME).read_text()
    assert text == markdown(found)
    assert text.count("buyer: make purchase") == 2
    assert "Audit after everything: clean" in " ".join(text.split())
    *_, hops = tables(found)
    assert hops.rows[0] == ["1, every function", "1", "0.5", "0.25", "0.25", "0.5", "2.5"]
    assert len(list(tables(found))) == 3
