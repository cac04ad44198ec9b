"""R24: a damaged row of the tables. Log and vote are kept; another member fills the tables again."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from replicas.raft.leader import Leader
from replicas.raft.messages import (
    AppendEntriesResponse,
    Found,
    Hello,
    InstallSnapshot,
    InstallSnapshotResponse,
    RequestVote,
    StateLost,
)
from replicas.raft.simulator.disk import Disk, _checksum
from replicas.raft.simulator.machine import Register
from store.contract import SnapshotFile
from store.raft_contract import Base, Write
from store.raft_log import RaftStore
from tests.raft.driver import HARD, Driver, sets
from tests.raft.harness import Peer, command, founded, granted, leads, members, vote
from tests.raft.replica import Replica, addresses, leader_of, until
from tests.raft.tables import BAD, rows

WHY = "a row is damaged"


def follower(count: int = 5) -> Peer:
    """Entries 2..count of term 1 are stored, up to count - 1 committed and applied."""
    peer = Peer(disk=founded())
    entries = [command(index, 1) for index in range(2, count + 1)]
    peer.append(*entries, term=1, prev=(1, 1), commit=count - 1)
    peer.run(0.01)
    peer.sent.clear()
    return peer


def test_raftos_row_24_damaged_tables_are_filled_again_and_log_and_vote_are_kept() -> None:
    """raftos: nothing has a checksum, what is damaged is applied to and served."""
    peer = follower()
    peer.node.suspect(WHY)
    peer.append(command(6, 1), term=1, prev=(5, 1), commit=5)
    peer.run(0.01)
    assert peer.disk.distrusted == WHY
    assert peer.disk.applied == 4  # nothing is applied to damaged tables
    asked = peer.take(StateLost, 2)
    assert asked == [StateLost(1, 1)]
    assert peer.log() == [(index, 1) for index in range(2, 7)]
    # it stores and acknowledges as before
    peer.append(command(7, 1), term=1, prev=(6, 1), commit=5)
    peer.run(0.01)
    assert [one.last_log_index for one in peer.take(AppendEntriesResponse)] == [7]
    # and is filled at a place that its log reaches
    peer.receive(2, InstallSnapshot(1, 2, "s", Base(5, 1, members()), 1, 0, *chunk(peer), 9))
    peer.run(0.01)
    assert peer.take(InstallSnapshotResponse)[-1].next_index == 1
    assert peer.disk.distrusted == ""
    assert peer.disk.machine.values == {"from": 7}
    assert peer.log() == [(index, 1) for index in range(2, 8)]
    assert peer.node.status().applied == 5
    peer.append(term=1, prev=(7, 1), commit=7)
    peer.run(0.01)
    assert peer.node.status().visible == 7


def chunk(peer: Peer) -> tuple[bytes]:
    """The only chunk of a snapshot `s`, whose state says that it is another member's."""
    machine = Register()
    machine.values["from"] = 7
    data = machine.dump()
    return (_checksum("s", 0, data) + data,)


def test_it_votes_and_asks_for_no_vote() -> None:
    peer = follower()
    peer.node.suspect(WHY)
    peer.run(2.0)  # the leader is silent
    assert not peer.take(RequestVote)
    peer.receive(3, vote(5, 3, last=(5, 1)))
    assert granted(peer, 3) == [True]


def test_a_snapshot_below_its_log_is_no_help() -> None:
    disk = founded()
    disk.base, disk.applied = Base(4, 1, members()), 4
    peer = Peer(disk=disk)
    peer.append(command(5, 1), term=1, prev=(4, 1), commit=5)
    peer.run(0.01)
    peer.node.suspect(WHY)
    peer.receive(2, InstallSnapshot(1, 2, "s", Base(3, 1, members()), 1, 0, *chunk(peer), 9))
    peer.run(0.01)
    assert peer.disk.distrusted == WHY
    assert not peer.take(InstallSnapshotResponse)


def test_a_snapshot_beyond_its_log_is_an_ordinary_one() -> None:
    peer = follower()
    peer.node.suspect(WHY)
    peer.receive(2, InstallSnapshot(1, 2, "s", Base(9, 1, members()), 1, 0, *chunk(peer), 9))
    peer.run(0.01)
    assert (peer.disk.distrusted, peer.disk.base.index, peer.disk.applied) == ("", 9, 9)


def test_a_leader_hands_over_before_it_gives_its_tables_up() -> None:
    peer = Peer()
    peer.become_leader()
    peer.node.suspect(WHY)
    assert peer.node.leads
    assert peer.node.suspected == WHY
    role = peer.node.state.state
    assert isinstance(role, Leader)
    assert role.successor == 2
    peer.receive(2, vote(peer.node.state.term + 1, 2, last=(9, 9))._replace(transfer=True))
    peer.run(0.01)
    assert not leads(peer)
    peer.append(term=peer.node.state.term, prev=(1, 1))
    peer.node.suspect(peer.node.suspected)
    assert peer.node.status().distrusted == WHY
    assert peer.node.suspected == ""


def test_a_leader_that_nobody_could_follow_keeps_what_it_has() -> None:
    """Its other tables are the best there are; the row is named, and never served."""
    peer = Peer()
    peer.become_leader()
    peer.receive(2, StateLost(peer.node.state.term, 1))
    role = peer.node.state.state
    assert isinstance(role, Leader)
    assert role.progress[2].refills
    peer.node.suspect(WHY)
    assert role.successor is None
    assert peer.node.leads
    assert peer.node.status().distrusted == ""


def test_a_leader_that_can_apply_no_more_leads_no_more() -> None:
    peer = Peer()
    peer.become_leader()
    peer.node.on_state_damaged(WHY, distrusted=True)
    assert not peer.node.leads
    peer.run(0.01)
    assert peer.disk.distrusted == WHY


def test_a_restart_knows_it() -> None:
    disk = founded()
    disk.distrusted = WHY
    peer = Peer(disk=disk)
    assert peer.node.status().distrusted == WHY
    peer.append(term=1, prev=(1, 1))
    assert peer.take(StateLost, 2)


def test_a_damaged_entry_that_is_applied_is_trimmed() -> None:
    peer = follower()
    peer.node.forget_entry(3)
    peer.run(0.01)
    assert peer.disk.base.index == 3
    peer.node.forget_entry(5)  # not applied: it is still needed
    peer.run(0.01)
    assert peer.disk.base.index == 3


def test_a_disk_that_was_set_aside_founds_no_cluster() -> None:
    """D6: all blank, and one of them forgot a cluster."""
    for lost in (False, True):
        peer = Peer(disk=Disk(), lost=lost)
        for member in (2, 3):
            peer.receive(member, Hello(f"member-{member}"), cluster=0)
        peer.run(0.01)
        assert bool(peer.take(Found)) is not lost
        assert peer.node.state.standing.alone_lost is lost
        if lost:
            base = Base(1, 1, members())
            own = base.members.with_(members().find(1)._replace(storage=peer.node.state.storage))  # type: ignore[union-attr]
            peer.receive(2, Found(Base(1, 1, own)))
            peer.run(0.01)
            assert peer.node.state.cluster == 0


# ---------------------------------------------------------------------- on LMDB


async def test_a_damaged_row_stops_the_applying_and_nothing_else(driver: Driver) -> None:
    """Today's exit code 4 at each start: the log holds the entry that cannot be applied."""
    await driver.write(Write(0, append=[sets(2, value=BAD)], apply=[sets(2, value=BAD)]))
    change = sets(3)
    await driver.write(Write(0, append=[change], apply=[change]))
    assert not driver.heard.failures
    ((why, distrusted),) = driver.heard.damaged
    assert distrusted
    assert "row" in why
    await driver.write(Write(0, append=[sets(4)], apply=[sets(4)], hard=HARD._replace(term=7)))
    again = driver.again()
    found = again.recovered
    assert (found.distrusted, found.last, found.applied) == (why, 4, 2)
    assert found.hard is not None
    assert found.hard.term == 7
    again.store.close()


async def test_nobody_is_filled_with_damage(driver: Driver) -> None:
    await driver.write(Write(0, append=[sets(2, value=BAD)], apply=[sets(2, value=BAD)]))
    made: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    driver.store.make_snapshot(made.set_result)
    assert await asyncio.wait_for(made, 10) is None
    ((_, distrusted),) = driver.heard.damaged
    assert not distrusted
    assert driver.store.snapshots() == ()


async def test_the_scrub_names_what_is_damaged(driver: Driver) -> None:
    entries = [sets(2), sets(3, key=b"other", value=BAD)]
    await driver.write(Write(0, append=entries, apply=entries))
    names = [name for _, damaged in driver.store.scrub_rows() for name in damaged]
    assert len(names) == 1
    assert b"other".hex() in names[0]
    assert [name for _, damaged in driver.store.scrub_log() for name in damaged] == []
    assert driver.store.table_bytes() > 0


async def test_a_damaged_snapshot_file_is_dropped(driver: Driver) -> None:
    await driver.write(Write(0, append=[sets(2)], apply=[sets(2)]))
    file = await snapshot_file(driver.store)
    assert [name for _, damaged in driver.store.scrub_snapshots() for name in damaged] == []
    path = driver.folder / "snapshots" / f"{file.name}.snapshot"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert [name for _, damaged in driver.store.scrub_snapshots() for name in damaged] == [file.name]
    assert driver.store.read_chunk(file.name, 0) is None
    driver.store.drop_snapshot(file.name)
    assert not path.exists()
    assert driver.store.snapshots() == ()


async def snapshot_file(store: RaftStore) -> SnapshotFile:
    made: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    store.make_snapshot(made.set_result)
    assert await asyncio.wait_for(made, 10) is not None
    return store.snapshots()[0]


@pytest.mark.parametrize("seed", range(4))
async def test_any_member_with_a_damaged_row_is_whole_again(tmp_path: Path, seed: int) -> None:
    """Real members on LMDB: one row is damaged on one of them, under its tables' feet; writes go on."""
    random = Random(seed)
    peers = addresses(tmp_path)
    replicas = {member: Replica(tmp_path, member, peers) for member in peers}
    try:
        await until(lambda: leader_of(replicas) is not None)
        leader = leader_of(replicas)
        assert leader is not None
        await asyncio.gather(*(leader.node.propose(b"k%d=%d" % (one, one)) for one in range(40)))
        victim = replicas[random.choice(list(replicas))]
        await until(lambda: victim.value(b"k39") == b"39")
        key = b"k%d" % random.randrange(40)
        await damage(victim, key)
        if seed % 2:  # met by an apply; else by the scrub
            await change(replicas, key)
        else:
            names = [name for _, damaged in victim.store.scrub_rows() for name in damaged]
            assert names
            while not victim.node.status().distrusted:
                victim.node.suspect(names[0])
                await asyncio.sleep(0.01)
        await until(lambda: victim.node.state.counters["state_refilled"] == 1)
        await change(replicas, key)
        await until(lambda: all(one.value(key) == b"new" for one in replicas.values()))
        assert len({frozenset(rows(one.store).items()) for one in replicas.values()}) == 1
        assert not any(one.failures for one in replicas.values())
    finally:
        for one in replicas.values():
            one.stop()


async def damage(victim: Replica, key: bytes) -> None:
    """Behind the writer's back; the tables are quiet."""
    environment = victim.store._environment
    environment.write(lambda txn: txn.put(key, BAD, db=environment.databases["values"]), 100)


async def change(replicas: dict[int, Replica], key: bytes) -> None:
    """As a client does: whoever leads, again until it is answered."""
    for _ in range(500):
        leader = leader_of(replicas)
        if leader is not None:
            try:
                await asyncio.wait_for(leader.node.propose(key + b"=new"), 1)
            except Exception:  # noqa: BLE001 - it leads no more
                await asyncio.sleep(0.02)
            else:
                return
        await asyncio.sleep(0.02)
    raise AssertionError("nobody took the change")
