"""Who imports whom (docs/architecture.md), and that the core is a pure value (docs/style.md, habits 1, 3 and 4)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.sources import PACKAGES, ROOT, named, python_files, tree

CORE = [path for path in python_files("sequencer") if "simulator" not in path.parts]


def test_import_contracts_hold() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    run = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=50)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


@pytest.mark.parametrize(("package", "allowed"), [("ringcast", {"zmq", "msgpack"}), ("sequencer", set[str]())])
def test_the_client_and_the_core_import_only_what_they_may(package: str, allowed: set[str]) -> None:
    may = sys.stdlib_module_names | allowed | {package}
    foreign = {
        f"{named(path, line)} {module}"
        for path in python_files(package)
        for module, line in _imports(path)
        if module.partition(".")[0] not in may
    }
    assert not foreign


@pytest.mark.parametrize("path", CORE, ids=named)
def test_the_core_neither_waits_nor_draws(path: Path) -> None:
    """No `async` in the core, and of `random` only the class: the object is given to it."""
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith), named(path)
        if isinstance(node, ast.Import):
            assert "random" not in {name.name for name in node.names}, named(path, node.lineno)
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            assert {name.name for name in node.names} == {"Random"}, named(path, node.lineno)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"Random", "open", "print", "input"}, named(path, node.lineno)


@pytest.mark.parametrize("path", list(python_files("sequencer/simulator")), ids=named)
def test_the_simulator_draws_from_its_seed_only(path: Path) -> None:
    """A failing seed replays bit for bit only if no draw comes from the module's own generator."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            assert "random" not in {name.name for name in node.names}, named(path, node.lineno)
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            assert {name.name for name in node.names} == {"Random"}, named(path, node.lineno)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Random":
            assert node.args, f"{named(path, node.lineno)}: a Random without a seed"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_code_is_a_package(package: str) -> None:
    """A folder without `__init__.py` would be left out of the checks that walk packages."""
    bare = {named(path.parent) for path in python_files(package) if not (path.parent / "__init__.py").exists()}
    assert not bare


def _imports(path: Path) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(name.name, node.lineno) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", node.lineno))
    return found
