"""Changes of members at a replica (V12): who asked is answered, what is delivered is told, rows remember it."""

from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from replicas.bus import rows
from replicas.bus.directory import read_info
from replicas.bus.members import MembersChanges
from replicas.bus.shell import Shell
from replicas.bus.standing import state_of
from replicas.bus.topics import Topics
from ringcast.errors import ChangeRefused, NotInQuorum, NotReady, Refused
from ringcast.strict import Plain
from ringcast.wire import LINEARIZABLE, LOCAL, Answer, Query
from sequencer.messages import Join
from sequencer.output import ChangeMembersAsked, Fact, Received
from sequencer.types import FOUNDERS, NO_VIEW, Configuration, Incarnation, MembersChange, Request
from tests.replicas.log_maker import Log
from tests.replicas.test_directory import addresses
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


class Answers:
    """What a query was answered with."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def ask(self, name: str, arguments: dict[str, Plain], consistency: int = LINEARIZABLE) -> Any:
        """The answer, or the error."""
        found: list[Any] = []
        self._shell.answer(Query(1, name, arguments, consistency), lambda answer, _: found.append(answer))
        await until(lambda: bool(found))
        return found[0].result if isinstance(found[0], Answer) else found[0]


def hears(shell: Shell, member: int) -> None:
    """A newcomer that is bound to the cluster says JOIN."""
    shell.received([Received(shell.cluster(), member, Incarnation(1, 9), Join(5, True, 0, NO_VIEW, 0))])


async def test_the_queries_of_an_operator(tmp_path: Path) -> None:
    shell = Opener(tmp_path / "data").open()
    answers = Answers(shell)
    assert isinstance(await answers.ask("members", {}), NotReady)
    assert (await answers.ask("members", {}, LOCAL))["members"] == (1,)
    await until(shell.core.in_quorum)
    assert await answers.ask("change_members", {"add": 1}) == await answers.ask("change_members", {"remove": 2})
    refused = await answers.ask("change_members", {"add": 2})
    assert isinstance(refused, ChangeRefused)
    assert "start it first, on an empty folder and with [peers] that name members 1, 2 where they are" in str(refused)
    shell.directory.learn(2, addresses("elsewhere"))
    refused = await answers.ask("change_members", {"add": 2})
    assert "it says that it is at tcp://elsewhere:1, and is not heard there" in str(refused)
    refused = await answers.ask("change_members", {"remove": 1})
    assert str(refused) == (
        "removing member 1 is refused and nothing was changed: 1 to 7 members; the last one goes with the cluster: "
        "end its process"
    )
    assert not refused.details["passes"]
    hears(shell, 2)
    await until(lambda: shell.core.has_joined(2))
    listed = await answers.ask("members", {})
    assert (listed["members"], listed["waiting"], listed["ring"]) == ((1,), (2,), (1,))
    assert listed["addresses"]["2"] == astuple(addresses("elsewhere"))
    hears(shell, 2)
    assert await answers.ask("change_members", {"add": 2}) == {"asked": True}
    await until(lambda: shell.configuration.members == (1, 2))
    assert read_info(shell.configuration.info)[2] == addresses("elsewhere")
    refused = await answers.ask("change_members", {"add": 3})
    assert isinstance(refused, ChangeRefused | NotReady | NotInQuorum)
    shell.close(5.0)


@pytest.mark.parametrize(
    "arguments", [{}, {"add": 0}, {"add": 64}, {"add": "2"}, {"add": True}, {"add": 2, "remove": 3}, {"set": 2}]
)
async def test_a_wish_that_is_none_is_refused(arguments: dict[str, Plain], tmp_path: Path) -> None:
    shell = Opener(tmp_path / "data").open()
    refused = await Answers(shell).ask("change_members", arguments)
    assert isinstance(refused, Refused)
    assert "expected add or remove with an id of 1 to 63" in str(refused)
    shell.close(5.0)


async def test_a_shell_tells_the_configuration_that_is_delivered(tmp_path: Path) -> None:
    opener = Opener(tmp_path / "data")
    shell = opener.open()
    told: list[Configuration] = []
    shell.on_configuration = told.append
    await until(shell.core.in_quorum)
    assert await shell.operators.members.ask((1, 2), WHERE) == "the new member is not heard"
    hears(shell, 2)
    assert await shell.operators.members.ask((1, 2), WHERE) == ""
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
