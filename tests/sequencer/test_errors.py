"""The tree of errors."""

import pytest

from sequencer.errors import ConfigError, InvariantError, SequencerError, require


def test_require_names_the_sentence_and_the_facts() -> None:
    """Habit 12: errors tell a story."""
    require(True, "what must hold")
    with pytest.raises(InvariantError, match=r"^what must hold: 1, 'two'$"):
        require(False, "what must hold", 1, "two")
    with pytest.raises(SequencerError, match=r"^what must hold$"):
        require(False, "what must hold")


def test_a_wrong_configuration_is_a_wrong_value() -> None:
    """What the operator did: not an invariant of ours."""
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, SequencerError)
    assert not issubclass(ConfigError, InvariantError)
