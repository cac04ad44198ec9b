"""A9: every limit is in one validated value."""

from dataclasses import fields
from typing import Any

import pytest

from sequencer.config import GroupConfig
from sequencer.errors import ConfigError

COUNTS = [field.name for field in fields(GroupConfig) if field.type == "int" or field.type is int]


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
    changed: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=rf"{name} = {value!r}: must be a whole number of at least 1"):
        GroupConfig((1, 2, 3), **changed)


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("suspect_timeout_ms", 224, 225),
        ("token_timeout_ms", 79, 80),
        ("view_timeout_ms", 39, 40),
        ("own_bytes_max", (16 << 20) - 1, 16 << 20),
    ],
)
def test_limits_fit_together(name: str, value: int, least: int) -> None:
    changed: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=f"{name} = {value}: must be at least {least}"):
        GroupConfig((1, 2, 3), **changed)
    changed[name] = least
    assert getattr(GroupConfig((1, 2, 3), **changed), name) == least
