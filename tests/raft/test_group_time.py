"""D7 in the product store: the time of a leader's entries is what the clocks of a quorum of voters say."""

from types import SimpleNamespace
from typing import Any

import pytest

from replicas.raft.group_time import SET_BACK_US, WAIT_S, WINDOW_S, GroupTime
from replicas.raft.messages import Clock
from replicas.raft.simulator.cluster import Options
from replicas.raft.simulator.run import run_seed
from store.raft_contract import Incarnation

SECOND = 1_000_000
DAY = 86_400 * SECOND
TRUE = 1_800_000_000 * SECOND


class Member:
    """Member 1 of three; the test moves its clocks and speaks for the others."""

    def __init__(self, voters: int = 3) -> None:
        self.now = 1_000.0
        self.off_us = 0
        self.sent: list[tuple[int, Any]] = []
        ids = tuple(range(1, voters + 1))
        loop = SimpleNamespace(time=lambda: self.now, call_later=lambda *_: SimpleNamespace(cancel=lambda: None))
        log = SimpleNamespace(members=SimpleNamespace(voters=ids))
        state = SimpleNamespace(
            id=1, cluster=7, peers=ids[1:], loop=loop, log=log, send=lambda *sent: self.sent.append(sent)
        )
        self.time = GroupTime(lambda: state, lambda: self.true + self.off_us)  # type: ignore[arg-type, return-value]
        self.time.start()

    @property
    def true(self) -> int:
        return TRUE + int(self.now * 1e6)

    def hear(self, member: int, off_us: int = 0, run: int = 1) -> None:
        mono_us = int(self.now * 1e6) + 77
        self.time.hear(member, Incarnation(run, run), Clock(self.true + off_us, mono_us))

    def off(self) -> int:
        """Of the time that it gives."""
        return self.time.time_us() - self.true


def test_it_tells_its_clocks_to_all_others() -> None:
    member = Member()
    assert [to for to, _ in member.sent] == [2, 3]
    assert member.sent[0][1] == Clock(member.true, 1_000 * SECOND)
    member.time.stop()


def test_one_wrong_clock_moves_no_time() -> None:
    member = Member()
    member.hear(2)
    member.hear(3)
    assert member.off() == 0
    member.off_us = DAY
    assert member.off() == 0
    member.off_us = -DAY
    member.now += 1
    assert member.off() == 0
    assert member.time.offset_us() == -DAY
    member.off_us = 0
    member.hear(3, DAY)
    assert member.off() == 0


def test_another_process_has_another_clock() -> None:
    member = Member()
    member.hear(2, DAY, run=1)
    member.hear(3, DAY, run=1)
    member.hear(3, 0, run=2)
    assert member.off() == 0


def test_without_other_clocks_its_own_counts_and_then_what_was_known() -> None:
    member = Member()
    settled = [member.time.settled]
    member.now += WAIT_S
    assert [*settled, member.time.settled] == [False, True]
    assert member.off() == 0
    member.hear(2)
    member.hear(3)
    assert member.off() == 0
    member.off_us = DAY
    member.now += WINDOW_S + 1
    assert member.time.quorum_us() is None
    assert member.off() == 0


def test_a_time_that_was_ahead_is_set_back_when_all_clocks_are_right() -> None:
    member = Member()
    for one in (2, 3):
        member.hear(one, DAY)
    member.off_us = DAY
    assert member.off() == DAY
    member.off_us = 0
    assert member.off() == DAY
    member.hear(2)  # it and the own clock are a quorum
    assert member.off() == 0
    member.hear(3)
    member.off_us = SET_BACK_US // 2
    member.hear(2, SET_BACK_US // 2)
    ahead = member.off()
    assert ahead == SET_BACK_US // 2
    member.off_us = 0
    member.hear(2)
    assert member.off() == ahead  # a little is waited for


class OwnClock(GroupTime):
    """A leader that trusts its own clock."""

    def time_us(self) -> int:
        assert self._wall_us is not None
        return self._wall_us()


def test_the_simulator_sees_a_leader_that_trusts_its_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(extra=frozenset({"clocks"}))
    assert not [seed for seed in range(1, 9) if run_seed(seed, options).violation]
    monkeypatch.setattr("replicas.raft.node.GroupTime", OwnClock)
    assert [seed for seed in range(1, 9) if "group time" in run_seed(seed, options).violation]
