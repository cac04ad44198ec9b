"""The documents and the code say the same: every rule is written down, and the code cites no rule that is not."""

import re
from pathlib import Path

import pytest

from tests.project.sources import PACKAGES, ROOT, named, python_files

RULES = [
    *(f"A{number}" for number in range(1, 11)),
    *(f"D{number}" for number in range(1, 8)),
    *(f"V{number}" for number in range(13)),
    "C1", "C2", "C3", "K1", "K2", "K3",
]  # fmt: skip
CITATION = re.compile(r"\b([ADVCK])(\d{1,2})\b")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")

protocol = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_written_down(rule: str) -> None:
    assert re.findall(rf"^- \*\*{rule}\b", protocol, re.MULTILINE) == [f"- **{rule}"]


def test_no_rule_is_missing_from_the_list_here() -> None:
    assert set(re.findall(r"^- \*\*([A-Z]\d+)\b", protocol, re.MULTILINE)) == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_cited_where_it_is_kept(rule: str) -> None:
    citing = [
        named(path) for path in python_files(*PACKAGES) if re.search(rf"\b{rule}\b", path.read_text(encoding="utf-8"))
    ]
    assert citing, f"no module cites {rule}: who keeps it?"


def test_the_core_cites_no_rule_that_does_not_exist() -> None:
    unknown = {
        f"{named(path)} {match[0]}"
        for path in python_files("sequencer")
        for match in CITATION.finditer(path.read_text(encoding="utf-8"))
        if match[0] not in RULES
    }
    assert not unknown


@pytest.mark.parametrize("document", [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))], ids=named)
def test_links_between_files_lead_somewhere(document: Path) -> None:
    broken = [
        target
        for target in LINK.findall(document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert not broken


@pytest.mark.parametrize(
    "word", ["request queue", "sequence queue", "broadcaster", "accept-request", "consensus", "ReplDict", "gRPC"]
)
def test_older_words_are_explained(word: str) -> None:
    assert word in protocol.partition("## From the older system's words")[2]


@pytest.mark.parametrize("row", range(34, 50))
def test_each_row_on_input_names_tests_that_exist(row: int) -> None:
    table = (ROOT / "docs/faults.md").read_text(encoding="utf-8").partition("### Where the rows on input are tested")[2]
    (line,) = re.findall(rf"^\| {row} \| (.*) \|$", table, re.MULTILINE)
    named_tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line)
    assert named_tests
    for file, test in named_tests:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"row {row} names {file}::{test}"
