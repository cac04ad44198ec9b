"""requirements.lock can be installed anywhere: every line hashed, no place of one machine in it."""

import re
import tomllib

from tests.project.sources import ROOT

lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
# A name may have two pins, each for some versions of Python.
pinned = re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", lock, re.MULTILINE)
pins = dict(pinned)


def test_every_requirement_is_pinned_and_hashed() -> None:
    requirements = re.split(r"\n(?=[a-z0-9])", re.sub(r"(?m)^ *#.*\n", "", lock).strip())
    assert len(requirements) == len(pinned)
    assert [text for text in requirements if "--hash=sha256:" not in text] == []


def test_no_index_and_no_folder_is_named() -> None:
    assert re.search(r"--(extra-)?index-url|--find-links|-f |://|@ file", lock) is None


def test_it_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    asked = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["server"]]
    asked += [*groups["dev"], *groups["raft"], *groups["bench"]]
    names = {re.split(r"[^A-Za-z0-9_.-]", text)[0].lower() for text in asked}
    assert names <= pins.keys()


def test_raftos_comes_without_its_dead_pins() -> None:
    assert pins["raftos"] == "0.2.6"
    assert not {"cryptography", "msgpack-python"} & pins.keys()
