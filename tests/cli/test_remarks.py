"""What `status` says below its table of damage (D6, R24)."""

import pytest

from cli import render


def test_damage_and_folders_that_were_set_aside_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    whole = {"damaged": (), "damaged_count": 0}
    bad = {"damaged": ("row 6c of table 'items'",), "damaged_count": 12}
    aside = {"folder": "/data/replica-2.damaged-1", "why": "data.mdb is missing"}
    render.remarks(
        [
            {"replica": 1, "scrub": {"rows": whole, "log": whole}},
            {"replica": 2, "scrub": {"rows": bad, "log": whole}, "set_aside": (aside,)},
        ]
    )
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "replica 2: a damaged folder was set aside: /data/replica-2.damaged-1 (data.mdb is missing)" in said[0]
    assert "replica 2: 12 damaged in its rows, not repaired yet: row 6c of table 'items'" in said[1]
