"""Every rule of docs/protocol.md has a test of its own that quotes it, and a mutant which that test catches."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.rules.mutants import FAMILIES, MUTANTS

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
NAME = re.compile(r"\*\*([ACDKV]\d+)\b")
QUOTE_MIN = 20

# Rules that are tested elsewhere: where, and why not here.
ELSEWHERE = {
    "K1": ("tests/sequencer/test_clients.py", "a pure table beside the core: its own model decides"),
    "K2": ("tests/client/test_failover.py", "the client library keeps it, not the core"),
}
# Rules whose other half another layer keeps, and where that half is tested.
ALSO = {
    "A9": ("tests/broker", "credit, bounded queues, ROUTER_MANDATORY"),
    "D1": ("tests/store/test_contract.py", "one synced transaction per group commit, in one FIFO writer thread"),
    "D5": ("tests/store", "a failed sync or write is never retried in place"),
    "C1": ("tests/store/test_contract.py", "one durable switch to a snapshot"),
    "C2": ("tests/store/test_contract.py", "retention by bytes and age"),
}


class RuleTest(NamedTuple):
    """One decorated test: what it quotes, and its mutants."""

    place: str
    rules: tuple[str, ...]
    mutants: tuple[str, ...]
    quote: str


def rule_tests() -> Iterator[RuleTest]:
    """Every test under this folder that stands behind `@rule(...)`, read without running it."""
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "rule":
                    mutants = tuple(ast.literal_eval(argument) for argument in call.args)
                    rules = tuple(name.split()[0] for name in mutants)
                    yield RuleTest(f"{path.name}::{node.name}", rules, mutants, ast.get_docstring(node) or "")


TESTS = tuple(rule_tests())


def words(text: str) -> str:
    """A text without line breaks, emphasis and the marks of load-bearing rules: what a quote is compared in."""
    return re.sub(r"\s+", " ", text.replace("(!)", " ").replace("*", " ")).replace(" ,", ",").replace(" .", ".")


def protocol() -> str:
    """docs/protocol.md."""
    return (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_every_rule_is_tested_or_stands_in_a_list_with_the_reason() -> None:
    named = set(NAME.findall(protocol()))
    tested = {rule for test in TESTS for rule in test.rules}
    assert tested <= named, f"docs/protocol.md knows no {sorted(tested - named)}"
    assert named == tested | ELSEWHERE.keys()
    assert not tested & ELSEWHERE.keys(), "tested here after all: take it from the list"
    assert ALSO.keys() <= tested


@pytest.mark.parametrize("rule", sorted({*ELSEWHERE, *ALSO}))
def test_what_is_tested_elsewhere_is_there(rule: str) -> None:
    place, reason = (ELSEWHERE | ALSO)[rule]
    target = ROOT / place
    files = sorted(target.rglob("test_*.py")) if target.is_dir() else [target]
    assert files, f"{rule}: nothing in {place} ({reason})"
    assert all(path.exists() for path in files), f"{rule}: {place} is gone ({reason})"


def test_every_mutant_is_caught_by_a_test() -> None:
    used = {mutant for test in TESTS for mutant in test.mutants}
    assert used == MUTANTS.keys(), f"unused: {sorted(MUTANTS.keys() - used)}"
    assert len({double.__module__ for double in MUTANTS.values()}) == len(FAMILIES)


@pytest.mark.parametrize("test", TESTS, ids=[test.place for test in TESTS])
def test_a_rule_test_quotes_its_rule(test: RuleTest) -> None:
    """The docstring is '<rule>: <words of docs/protocol.md>', so that a changed rule is a changed test."""
    rule, _, quote = test.quote.partition(": ")
    assert {rule} == set(test.rules), f"{test.place} cites {rule} and names mutants of {test.rules}"
    assert len(quote) >= QUOTE_MIN, f"{test.place} quotes nothing"
    assert words(quote).strip() in words(protocol()), f"{test.place}: docs/protocol.md does not say: {quote}"
