"""A9: every limit is in one validated value."""

from dataclasses import fields
from typing import Any

import pytest

from sequencer.config import GroupConfig
from sequencer.errors import ConfigError

COUNTS = [field.name for field in fields(GroupConfig) if field.type == "int" or field.type is int]
OF_NONE = {"clock_wait_ms"}  # 0 is a value


@pytest.mark.parametrize("members", [(), tuple(range(1, 9))])
def test_one_to_seven_members(members: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=f"{len(members)} members named, the limit is 1 to 7"):
        GroupConfig(members)


@pytest.mark.parametrize("members", [(1, 1), (2, 1), (0, 1), (1, 64)])
def test_ids_are_distinct_ascending_and_small(members: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="ids must be distinct, ascending, from 1 to 63"):
        GroupConfig(members)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.5, "1"])
def test_every_limit_is_a_whole_number_of_at_least_one(name: str, value: object) -> None:
    if name in OF_NONE and value == 0:
        return
    changed: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=rf"{name} = {value!r}: must be a whole number of at least [01]"):
        GroupConfig((1, 2, 3), **changed)


def test_a_bound_of_clocks_is_an_hour_at_most() -> None:
    with pytest.raises(ConfigError, match="clock_bound_ms = 3600001: must be at most 3600000"):
        GroupConfig((1, 2, 3), clock_bound_ms=3_600_001)


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("suspect_timeout_ms", 224, 225),
        ("token_timeout_ms", 79, 80),
        ("view_timeout_ms", 39, 40),
        ("own_bytes_max", (16 << 20) - 1, 16 << 20),
        ("clock_bound_ms", 299, 300),
        ("clock_window_ms", 999, 1_000),
    ],
)
def test_limits_fit_together(name: str, value: int, least: int) -> None:
    changed: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=f"{name} = {value}: must be at least {least}"):
        GroupConfig((1, 2, 3), **changed)
    changed[name] = least
    assert getattr(GroupConfig((1, 2, 3), **changed), name) == least
