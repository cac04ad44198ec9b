"""Changes of members at a replica (V12): who asked is answered, what is delivered is told, rows remember it."""

from pathlib import Path

import pytest

from replicas import rows
from replicas.members import MembersChanges
from replicas.standing import state_of
from replicas.topics import Topics
from sequencer.messages import Join
from sequencer.output import ChangeMembersAsked, Fact, Received
from sequencer.types import FOUNDERS, NO_VIEW, Configuration, Incarnation, MembersChange, Request
from tests.replicas.log_maker import Log
from tests.replicas.test_shell import Opener, until
from tests.replicas.test_topics import BOUNDS, Tables, loaded, put
from tests.sequencer.group import Group

WHERE = b"addresses"


def changing(old: tuple[int, ...], new: tuple[int, ...], since: int, lsn: int) -> Request:
    """A request that asks for other members."""
    return Request(1, Incarnation(1, 7), lsn, (), lsn.to_bytes(16), MembersChange(old, new, since, WHERE))


def test_the_configuration_stands_in_the_rows_and_travels_with_a_snapshot() -> None:
    log, topics, tables = Log(), Topics(BOUNDS), Tables()
    assert topics.configuration == FOUNDERS
    for number, (new, since) in enumerate([((1, 2, 3, 4), -1), ((1, 2), -1), ((1, 2, 4), 0)], start=1):
        topics.deliver([log.slot(changing((1, 2, 3) if since < 0 else (1, 2, 3, 4), new, since, number))])
    assert topics.configuration == Configuration((1, 2, 4), 2, WHERE)  # the second was asked of what the first changed
    put(tables, topics.take_rows())
    again = loaded(tables, BOUNDS)
    assert again.configuration == topics.configuration
    assert again.state_digest() == topics.state_digest()
    assert again.digest != Topics(BOUNDS).digest


@pytest.mark.parametrize("value", [b"\xc0", b"\x93\x01\x02\xc4\x00", b"\xc1"])
def test_a_row_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(rows.RowError):
        rows.read_members(value)


async def test_who_asks_is_answered_in_order() -> None:
    asked: list[ChangeMembersAsked] = []
    changes = MembersChanges(asked.append)
    first, second, third = [changes.ask((1, number), WHERE) for number in (2, 3, 4)]
    assert [event.new for event in asked] == [(1, 2), (1, 3), (1, 4)]
    first.cancel()
    changes.tell(Fact("change_asked", {}))
    changes.tell(Fact("change_refused", {"why": "because"}))
    changes.abandon()
    assert (await second, await third) == ("because", "restarting")


async def test_a_shell_tells_the_configuration_that_is_delivered(tmp_path: Path) -> None:
    opener = Opener(tmp_path / "data")
    shell = opener.open()
    told: list[Configuration] = []
    shell.on_configuration = told.append
    await until(shell.core.in_quorum)
    assert await shell.members.ask((1, 2), WHERE) == "the new member is not heard"
    shell.received([Received(shell.cluster(), 2, Incarnation(1, 9), Join(5, True, 0, NO_VIEW, 0))])
    assert await shell.members.ask((1, 2), WHERE) == ""
    await until(lambda: bool(told))
    assert told == [Configuration((1, 2), 0, WHERE)] == [shell.configuration]
    await until(lambda: shell.core.members == (1, 2))
    shell.close(5.0)
    again = opener.open()
    assert again.configuration == again.core.window.configuration == told[0]
    again.close(5.0)


def test_a_removed_member_says_so() -> None:
    group = Group().begin()
    group.wish(1, 1, 2)
    group.run_until(lambda: group[3].running.removed)
    assert state_of(group[3].running, leaving=False) == "removed"
    assert state_of(group[1].running, leaving=False) == "serving"
