"""Errors of the core.

SequencerError
├── ConfigError       a limit or timer is out of bounds (the operator's)
└── InvariantError    the core broke its own rule (ours: stop, keep the disk, report the seed)
"""


class SequencerError(Exception):
    """Base of all errors that the core raises."""


class ConfigError(SequencerError, ValueError):
    """A configuration value is out of bounds."""


class InvariantError(SequencerError):
    """Something that must always hold does not. Raised, never asserted: `python -O` strips asserts."""


def require(condition: bool, sentence: str, *facts: object) -> None:
    """Raise InvariantError with the sentence and the facts unless the condition holds."""
    if not condition:
        raise InvariantError(f"{sentence}: {', '.join(map(repr, facts))}" if facts else sentence)
