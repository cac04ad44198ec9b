"""Habit 22: each module of the core has a test file of its own, or a reason."""

from pathlib import Path

HERE = Path(__file__).parent
WITHOUT = {
    "__init__": "says what the package is",
    "messages": "values without a method",
    "output": "values without a method",
    "rules": "tests/rules: one predicate for each rule, and mutants of them all",
    "types": "values; their few methods are used by every test",
}


def test_each_module_has_a_test_file() -> None:
    modules = {path.stem for path in (HERE.parent.parent / "sequencer").glob("*.py")}
    tested = {path.stem.removeprefix("test_") for path in HERE.glob("test_*.py")}
    assert modules - tested == WITHOUT.keys()
