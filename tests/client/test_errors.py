"""The tree: a code and a sentence for each class, the same on both sides of the wire."""

import pickle  # noqa: TID251 - users send exceptions between processes

import pytest

from ringcast import errors
from ringcast.errors import ERRORS, RingcastError, from_wire
from ringcast.market import errors as market_errors


def tree(kind: type[RingcastError]) -> list[type[RingcastError]]:
    return [kind, *(child for direct in kind.__subclasses__() for child in tree(direct))]


def test_each_class_has_a_code_of_its_own_and_is_in_the_docstring() -> None:
    classes = tree(RingcastError)
    assert len(ERRORS) == len(classes) == len({kind.code for kind in classes})
    drawn = [
        line.strip("│├└─ ").split()[0]
        for module in (errors, market_errors)
        for line in (module.__doc__ or "").splitlines()
        if "─" in line
    ]
    assert sorted(drawn) == sorted(kind.__name__ for kind in classes[1:])


@pytest.mark.parametrize("kind", tree(RingcastError))
def test_each_survives_the_wire_and_pickle(kind: type[RingcastError]) -> None:
    error = kind(topic="a", limit=3, reason="because")
    again = from_wire(error.code, error.details)
    assert type(again) is kind
    assert str(again) == str(error)
    assert str(again).endswith("(because)")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.details) == (kind, str(error), error.details)


@pytest.mark.parametrize("kind", tree(RingcastError))
def test_a_frame_without_details_still_makes_a_sentence(kind: type[RingcastError]) -> None:
    assert len(str(kind())) > 20


def test_an_unknown_code_keeps_its_name() -> None:
    error = from_wire("quota_exceeded", {"limit": 5})
    assert type(error) is errors.Refused
    assert "quota_exceeded" in str(error)
    assert error.details["limit"] == 5


def test_braces_in_details_are_text() -> None:
    assert "{x}" in str(errors.IllegalTopic(topic="{x}", limit=255))


def test_timeout_is_a_timeout_error() -> None:
    with pytest.raises(TimeoutError):
        raise errors.Timeout(what="x", seconds=1.5)
