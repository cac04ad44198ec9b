"""Three members on real sockets and disks, in one process: they elect, answer, survive a leader and a lost disk."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replicas.raft.errors import NotLeader
from tests.raft.replica import Replica, addresses, leader_of, until


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[dict[int, Replica]]:
    peers = addresses(tmp_path)
    running = {member: Replica(tmp_path, member, peers) for member in peers}
    await until(lambda: leader_of(running) is not None)
    yield running
    for replica in running.values():
        replica.stop()


async def test_commands_are_answered_everywhere_the_same(replicas: dict[int, Replica]) -> None:
    leader = leader_of(replicas)
    assert leader is not None
    answers = await asyncio.gather(*(leader.node.propose(b"k=%d" % number) for number in range(500)))
    assert answers == [b"", *(b"%d" % number for number in range(499))]
    index = await leader.node.read()
    assert leader.value(b"k") == b"499"
    for replica in replicas.values():
        await until(lambda one=replica: one.node.status().visible >= index)  # type: ignore[misc]
        assert replica.value(b"k") == b"499"
    follower = next(one for one in replicas.values() if one is not leader)
    with pytest.raises(NotLeader) as refused:
        await follower.node.propose(b"k=0")
    assert refused.value.leader == leader.member


async def test_a_killed_leader_is_missed_in_milliseconds(replicas: dict[int, Replica]) -> None:
    """The closed connection is the sign: far below the least election timeout, which is 300 ms."""
    first = leader_of(replicas)
    assert first is not None
    await first.node.propose(b"k=1")
    loop = asyncio.get_running_loop()
    replicas.pop(first.member).stop()
    killed = loop.time()
    await until(lambda: leader_of(replicas) is not None and leader_of(replicas) is not first)
    second = leader_of(replicas)
    assert second is not None
    assert await second.node.propose(b"k=2") == b"1"
    assert loop.time() - killed < 1.0


async def test_a_member_with_a_new_disk_votes_again_once_it_has_caught_up(
    replicas: dict[int, Replica], tmp_path: Path
) -> None:
    """V0 of the bus: the configuration names its new disk in the end, and the log was trimmed, so by a snapshot."""
    leader = leader_of(replicas)
    assert leader is not None
    lost = next(member for member in replicas if member != leader.member)
    before = leader.node.status().members.find(lost)
    replicas.pop(lost).stop()
    shutil.rmtree(tmp_path / f"data-{lost}")
    await asyncio.gather(*(leader.node.propose(b"%d=x" % number) for number in range(100)))
    replicas[lost] = Replica(tmp_path, lost, addresses(tmp_path))

    def let_in() -> bool:
        member = leader.node.status().members.find(lost)
        return member is not None and member.voter and member != before

    await until(let_in)
    await until(lambda: replicas[lost].value(b"99") == b"x")


async def test_a_restart_of_all_keeps_everything(replicas: dict[int, Replica], tmp_path: Path) -> None:
    leader = leader_of(replicas)
    assert leader is not None
    await leader.node.propose(b"k=kept")
    for member in list(replicas):
        replicas.pop(member).stop()
    for member in addresses(tmp_path):
        replicas[member] = Replica(tmp_path, member, addresses(tmp_path))
    await until(lambda: leader_of(replicas) is not None)
    again = leader_of(replicas)
    assert again is not None
    await again.node.read()
    assert again.value(b"k") == b"kept"


async def test_the_leadership_is_handed_over_between_two_commands(replicas: dict[int, Replica]) -> None:
    leader = leader_of(replicas)
    assert leader is not None
    waiting = [leader.node.propose(b"k=%d" % number) for number in range(50)]
    handed = leader.node.transfer()
    assert await asyncio.gather(*waiting) == [b"", *(b"%d" % number for number in range(49))]
    target = await handed
    await until(lambda: replicas[target].node.leads)


async def test_a_member_is_added_and_removed_while_commands_go_on(replicas: dict[int, Replica], tmp_path: Path) -> None:
    """Connections follow the log: the three hear of the fourth's address by the configuration alone."""
    leader = leader_of(replicas)
    assert leader is not None
    peers = addresses(tmp_path, 4)
    waiting = [leader.node.propose(b"k=%d" % number) for number in range(50)]
    added = leader.node.add_member(4, peers[4])
    replicas[4] = Replica(tmp_path, 4, peers)
    await asyncio.wait_for(added, 20)
    assert leader.node.status().members.voters == (1, 2, 3, 4)
    await asyncio.gather(*waiting)
    gone = next(member for member in (1, 2, 3) if member != leader.member)
    await asyncio.wait_for(leader.node.remove_member(gone), 20)
    replicas.pop(gone).stop()
    assert await leader.node.propose(b"k=last") == b"49"
    index = await leader.node.read()
    await until(lambda: replicas[4].node.status().visible >= index)
    assert replicas[4].value(b"k") == b"last"
