"""Topic names and patterns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringcast.bus.topics import check_pattern, check_topic, is_pattern, is_topic, matches
from ringcast.errors import IllegalTopic


@pytest.mark.parametrize("name", ["a", "a.b", "A-1_2.x", "x" * 255, "0"])
def test_good_names(name: str) -> None:
    assert check_topic(name) == name


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "a b", "a\x00", "a\n", "ä", "x" * 256, "a.>", ">", "_a"])
def test_bad_names(name: str) -> None:
    with pytest.raises(IllegalTopic):
        check_topic(name)


def test_reserved_names_are_for_the_bus() -> None:
    assert check_topic("_cursors", reserved=True) == "_cursors"
    assert is_topic("a._b")


@pytest.mark.parametrize("pattern", ["a", "a.>", "a.b.>", ">", "_cursors"])
def test_good_patterns(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize("pattern", ["", ".>", "a>", "a.>.b", "a.>.>", ">.a", "*", "a.*"])
def test_bad_patterns(pattern: str) -> None:
    assert not is_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("orders", "orders", True),
        ("orders", "orders2", False),
        ("orders", "orders.eu", False),
        ("orders.>", "orders", False),
        ("orders.>", "orders2.eu", False),
        ("orders.>", "orders.eu.de", True),
        (">", "x.y", True),
        (">", "_cursors", False),
        ("_cursors", "_cursors", True),
    ],
)
def test_matching(pattern: str, topic: str, expected: bool) -> None:
    assert matches(pattern, topic) is expected


@given(st.text(max_size=300))
def test_any_text_is_judged(text: str) -> None:
    assert is_pattern(text) or not is_topic(text)
