"""A bound that is lowered in the file of a running replica; a file that is not valid changes nothing."""

from pathlib import Path

import pytest

from replicas.bus.config import RETENTION_KEYS, BusConfig, load
from replicas.watching import SettingsWatch

BASE = 'id = 1\ndata = "/tmp/data"\npeers = "1=127.0.0.1:7101"\n'


def logged(capsys: pytest.CaptureFixture[str], event: str) -> list[str]:
    """The lines of the log that tell of an event."""
    return [line for line in capsys.readouterr().out.splitlines() if event in line]


class Watched:
    """A file of settings and what was taken of it."""

    def __init__(self, folder: Path, text: str = "retention_bytes = 50_000_000\n") -> None:
        self.path = folder / "replica.toml"
        self.taken: list[BusConfig] = []
        self.write(text)
        config = load(self.path).config
        self.watch = SettingsWatch(
            config, self.path, RETENTION_KEYS, read=lambda: load(self.path).config, use=self.taken.append
        )

    def write(self, text: str) -> None:
        """As an editor does: a new file in the place of the old one."""
        half = self.path.with_suffix(".half")
        half.write_text(text + BASE, encoding="utf-8")
        half.replace(self.path)

    def look_twice(self) -> None:
        """It stood still in between."""
        self.watch.look()
        self.watch.look()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_bound_is_taken_once_the_file_stands_still(watched: Watched) -> None:
    watched.look_twice()
    watched.write("retention_bytes = 20_000_000\nretention_age = 60\n")
    watched.watch.look()
    assert watched.taken == []
    watched.look_twice()
    (config,) = watched.taken
    assert (config.retention_bytes, config.retention_age) == (20_000_000, 60)
    assert watched.watch.counters == {"settings_taken": 1}
    watched.write("")
    watched.look_twice()
    assert watched.taken[-1].retention_bytes == BusConfig.model_fields["retention_bytes"].default


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("retention_bytes = 1\n", "retention_bytes = 1: Input should be greater than or equal to 1048576"),
        ("retention_byte = 20_000_000\n", "unknown key"),
        ("retention_bytes = \n", "is not TOML"),
    ],
)
def test_a_file_that_is_not_valid_changes_nothing(
    watched: Watched, text: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watched.write(text)
    for _ in range(3):
        watched.look_twice()
    assert watched.taken == []
    assert watched.watch.counters == {"settings_refused": 1}
    (line,) = logged(capsys, "settings_refused")
    assert why in line
    watched.write("retention_bytes = 20_000_000\n")
    watched.look_twice()
    assert watched.taken[-1].retention_bytes == 20_000_000


def test_a_file_that_is_gone_changes_nothing(watched: Watched) -> None:
    watched.path.unlink()
    watched.look_twice()
    assert watched.watch.counters == {"settings_refused": 1}


def test_another_key_needs_a_restart(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    watched.write('retention_bytes = 50_000_000\nlog_level = "debug"\n')
    watched.look_twice()
    assert watched.taken == []
    (line,) = logged(capsys, "settings_need_a_restart")
    assert "log_level" in line


def test_the_environment_still_comes_before_the_file(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGCAST_RETENTION_BYTES", "30000000")
    watched.write("retention_bytes = 20_000_000\n")
    watched.look_twice()
    assert watched.taken[-1].retention_bytes == 30_000_000
