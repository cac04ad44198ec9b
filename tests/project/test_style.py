"""docs/style.md, habit 23: what of the style a machine can hold, a test holds."""

import ast
import re
from pathlib import Path

import pytest

from tests.project.sources import PACKAGES, ROOT, Function, named, python_files, text_files, tree

FUNCTION_LINES_MAX = 80
FILE_LINES_MAX = 450
CODE = (*PACKAGES, "tests", "bench")
# Written in pieces, so that this file does not find itself.
LEFTOVER = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
MACHINE_PATH = re.compile(r"\.\./sha" + r"red|(?<![\w.])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me)/")


def test_files_have_one_subject() -> None:
    long = {named(path): lines for path in python_files(*CODE) if (lines := len(_lines(path))) > FILE_LINES_MAX}
    assert not long, f"longer than {FILE_LINES_MAX} lines, so a noun is missing: {long}"


def test_functions_fit_a_screen() -> None:
    long = {
        f"{named(path, node.lineno)} {node.name}": lines
        for path in python_files(*CODE)
        for node in ast.walk(tree(path))
        if isinstance(node, Function)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert not long, f"longer than {FUNCTION_LINES_MAX} lines: {long}"


def test_nothing_is_left_for_later() -> None:
    found = [
        named(path, number)
        for path in (*python_files(*CODE), ROOT / "Makefile")
        for number, line in enumerate(_lines(path), 1)
        if LEFTOVER.search(line)
    ]
    assert not found, f"finish it or file it: {found}"


def test_no_file_names_a_place_on_one_machine() -> None:
    found = [
        named(path, number)
        for path in text_files()
        for number, line in enumerate(_lines(path), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, f"absolute paths of one machine, or files outside the project: {found}"


@pytest.mark.parametrize("package", ["sequencer", "store"])
def test_safety_code_raises_instead_of_asserting(package: str) -> None:
    """Habit 8: `python -O` strips asserts, so what safety needs raises InvariantError."""
    found = [
        named(path, node.lineno)
        for path in python_files(package)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assert)
    ]
    assert not found, f"raise InvariantError (sequencer/errors.py has `require`): {found}"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_modules_say_what_they_are(package: str) -> None:
    silent = [named(path) for path in python_files(package) if ast.get_docstring(tree(path)) is None]
    assert not silent, f"modules without a docstring: {silent}"


def test_no_function_is_a_stub() -> None:
    found = [
        f"{named(path, node.lineno)} {node.name}"
        for path in python_files(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, Function) and _raises_not_implemented(node)
    ]
    assert not found, f"functions that only raise NotImplementedError: {found}"


def _raises_not_implemented(node: Function) -> bool:
    last = node.body[-1]
    if not isinstance(last, ast.Raise) or last.exc is None:
        return False
    error = last.exc.func if isinstance(last.exc, ast.Call) else last.exc
    return isinstance(error, ast.Name) and error.id == "NotImplementedError"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
