"""What --help says of every command and option."""

from collections.abc import Iterator

import pytest
import typer.main
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from cli.app import app


def texts(command: TyperCommand | TyperGroup, name: str) -> Iterator[tuple[str, str]]:
    """Each help text with whose it is, of a command and of all below it."""
    yield name, command.help or ""
    for parameter in command.params:
        yield f"{name} {parameter.opts[0]}", getattr(parameter, "help", None) or ""
    if isinstance(command, TyperGroup):
        for word, inner in command.commands.items():
            assert isinstance(inner, TyperCommand | TyperGroup)
            yield from texts(inner, f"{name} {word}")


ROOT = typer.main.get_command(app)
assert isinstance(ROOT, TyperGroup)
TEXTS = dict(texts(ROOT, "ringcast"))


def test_all_commands_are_looked_at() -> None:
    assert {"ringcast up --detach", "ringcast market buyer login", "ringcast products import file"} <= TEXTS.keys()


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_a_help_text_is_there_and_is_shown_whole(name: str) -> None:
    """In brackets a text is markup to rich, which drops what it does not know: `[default: ...]` was never seen."""
    text = TEXTS[name]
    assert text, f"{name} has no help"
    assert Text.from_markup(text).plain == text
    assert "\n" not in text.replace("\n\n", ""), "the terminal breaks lines, not the source"
