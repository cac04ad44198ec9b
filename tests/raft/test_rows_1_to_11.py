"""Rows 1 to 11 of docs/raft.md, a test for each: what raftos 0.2.6 does wrong there, ours does right."""

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import raftos.conf
import raftos.server
import raftos.state
import raftos.timer

from replicas.raft.candidate import Candidate
from replicas.raft.codec import RaftCodec, encode
from replicas.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Envelope,
    RequestVoteResponse,
)
from ringcast.strict import dumps
from store.raft_contract import Entry, Incarnation, Kind, Write
from tests.project.sources import ROOT
from tests.raft.driver import until
from tests.raft.harness import CLUSTER, Peer, command, founded, granted, leads, storage, vote
from tests.raft.tables import Heard, opened

# ---------------------------------------------------------------------- 1 to 6: install, start, votes


def test_raftos_row_01_it_installs_from_the_lock_and_is_named_where_it_is_missing() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "raftos==0.2.6" in lock
    assert "cryptography==1.5.3" not in lock
    assert "msgpack-python==" not in lock
    missing = "import sys; sys.modules['raftos'] = None; import replicas.raft.library"
    run = subprocess.run([sys.executable, "-c", missing], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "pip install --no-deps raftos==0.2.6" in run.stderr.splitlines()[-1]


def test_raftos_row_02_a_node_starts_on_this_python() -> None:
    assert "asyncio.Queue(loop=self.loop)" in inspect.getsource(raftos.server.Node.__init__)
    with pytest.raises(TypeError):
        asyncio.Queue(loop=None)  # type: ignore[call-arg]
    peer = Peer()
    assert peer.node.status().role == "follower"
    assert isinstance(peer.node, raftos.server.Node)


def test_raftos_row_03_one_vote_in_a_term_through_restarts_and_step_downs() -> None:
    """raftos: `Follower.start` sets voted_for to None, so a second candidate of the term gets a second vote."""
    peer = Peer()
    peer.receive(2, vote(5, 2))
    assert granted(peer, 2) == [True]
    peer.node.state.to_follower()
    peer.receive(3, vote(5, 3))
    assert granted(peer, 3) == [False]
    again = Peer(disk=peer.disk, loop=peer.loop)
    again.receive(3, vote(5, 3))
    assert granted(again, 3) == [False]
    again.receive(2, vote(5, 2))
    assert granted(again, 2) == [True]


def test_raftos_row_04_who_voted_once_votes_in_later_terms() -> None:
    """raftos: `voted_for is None` is the whole test, and it is never None again."""
    peer = Peer()
    peer.receive(2, vote(5, 2))
    assert granted(peer, 2) == [True]
    peer.receive(3, vote(6, 3))
    assert granted(peer, 3) == [True]
    assert (peer.node.state.term, peer.node.state.voted_for) == (6, 3)


def test_raftos_row_05_a_vote_counts_once_of_its_term_and_of_a_voters_disk() -> None:
    """raftos counts answers: the same one twice makes a leader of five."""
    peer = Peer(5)
    while not isinstance(peer.node.state.state, Candidate):
        peer.run(0.05)
    for member in (2, 3):
        peer.receive(member, RequestVoteResponse(2, vote_granted=True, pre_vote=True))
    peer.run(0.003)
    assert peer.node.state.term == 2
    yes = RequestVoteResponse(2, vote_granted=True, pre_vote=False)
    for _ in range(4):
        peer.receive(2, yes)
    peer.receive(3, RequestVoteResponse(1, vote_granted=True, pre_vote=False))
    peer.receive(4, yes, disk=999)
    peer.receive(9, yes)
    peer.receive(5, RequestVoteResponse(2, vote_granted=False, pre_vote=False))
    assert not leads(peer)
    peer.receive(3, yes)
    assert leads(peer)


@pytest.mark.parametrize(("count", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4)])
def test_raftos_row_06_a_majority_is_of_all_members(count: int, quorum: int) -> None:
    """raftos: `count > len(others) // 2`, so 2 of 4 are enough for it."""
    peer = Peer(count)
    enough = [number for number in range(count + 1) if peer.node.state.is_majority(number)]
    assert enough == list(range(quorum, count + 1))


# ---------------------------------------------------------------------- 7 to 11: the log


async def test_raftos_row_07_any_bytes_and_any_term_can_be_read_back(tmp_path: Path) -> None:
    """raftos splits its file at newlines: term 10 is one, and so is half of all binary commands."""
    entries = [Entry(index, 10, Kind.COMMAND, bytes(range(256)) + b"\n=\n\n") for index in range(1, 5)]
    heard = Heard()
    store, _ = opened(tmp_path, heard)
    store.submit(Write(1, append=entries, apply=entries[:2]))
    await until(lambda: heard.durable == 1)
    store.close()
    again, recovered = opened(tmp_path, Heard())
    assert (recovered.last, recovered.applied, recovered.terms) == (4, 2, ((1, 10),))
    assert list(again.entries(1, 5, 1 << 20)) == entries


def test_raftos_row_08_nothing_is_acknowledged_before_it_is_synced() -> None:
    """raftos has no sync at all. A vote waits too, and so does the leader's own count."""
    peer = Peer()
    peer.store.slow_seconds = 0.05
    peer.append(command(2, 1), term=1, prev=(1, 1))
    peer.run(0.04)
    assert not peer.take(AppendEntriesResponse)
    assert peer.disk.last == 1
    peer.run(0.03)
    assert [answer.last_log_index for answer in peer.take(AppendEntriesResponse)] == [2]
    assert peer.disk.last == 2
    peer.node.state.lost_leader()
    peer.receive(3, vote(7, 3, last=(9, 6)))
    peer.run(0.04)
    assert not peer.take(RequestVoteResponse)
    assert granted(peer, 3) == []
    peer.run(0.1)
    hard = peer.disk.hard
    assert hard is not None
    assert (hard.term, hard.voted_for) == (7, 3)


def test_raftos_row_08_the_leader_counts_itself_once_it_is_synced() -> None:
    peer = Peer(1)
    peer.run(1.0)
    assert leads(peer)
    peer.store.slow_seconds = 0.05
    future = peer.node.propose(dumps((1, 1, "write", "k", 5)))
    peer.run(0.04)
    assert not future.done()
    peer.run(0.12)
    assert future.done()
    assert peer.disk.last == peer.node.status().commit


def test_raftos_row_09_a_late_message_takes_nothing_away() -> None:
    """raftos erases from the first sent index on whenever it is not the end of the log."""
    peer = Peer()
    entries = [command(index, 1) for index in range(2, 7)]
    peer.append(*entries, term=1, prev=(1, 1), commit=4)
    peer.append(*entries[:2], term=1, prev=(1, 1), commit=2)
    peer.append(term=1, prev=(1, 1))
    peer.run(0.01)
    assert peer.log() == [(index, 1) for index in range(2, 7)]
    assert peer.node.status().commit == 4


def test_raftos_row_09_what_is_committed_is_never_cut() -> None:
    """Whatever a broken leader sends: the node stops instead."""
    peer = Peer()
    peer.append(command(2, 1), command(3, 1), term=1, prev=(1, 1), commit=3)
    with pytest.raises(Exception, match="R9"):
        peer.append(command(3, 2), term=2, prev=(2, 1))


def test_raftos_row_10_a_conflict_is_told_by_the_sent_entrys_own_term() -> None:
    """raftos compares with the leader's term: after each election it would erase all that older leaders wrote."""
    peer = Peer(disk=founded(entries=(command(2, 1), command(3, 1), command(4, 2))))
    peer.append(command(2, 1), command(3, 1), term=5, prev=(1, 1))
    assert peer.log() == [(2, 1), (3, 1), (4, 2)]
    peer.append(command(4, 3), term=5, prev=(3, 1))
    peer.run(0.01)
    assert peer.log() == [(2, 1), (3, 1), (4, 3)]
    assert [entry.term for entry in peer.disk.log] == [1, 1, 3]


def test_raftos_row_11_batches_are_pipelined_up_to_their_bounds() -> None:
    """raftos: one entry a message, and the next one after its answer, in datagrams of 64 KiB."""
    peer = Peer(settings={"append_bytes_max": 4_000, "command_bytes_max": 2_000, "inflight_bytes_max": 12_000})
    peer.become_leader()
    peer.sent.clear()
    for _ in range(40):
        peer.node.propose(b"x" * 1_000)
    peer.run(0.001)
    sent = peer.take(AppendEntries, 2)
    assert [len(message.entries) for message in sent] == [3, 3, 3, 3]
    assert [message.prev_log_index for message in sent] == [2, 5, 8, 11]
    peer.receive(2, AppendEntriesResponse(2, True, 5, 1, 2, 0, 0))
    assert [len(message.entries) for message in peer.take(AppendEntries, 2)] == [3]
    large = Entry(2, 1, Kind.COMMAND, b"y" * (1 << 20))
    envelope = Envelope(CLUSTER, 2, storage(2), Incarnation(1, 1))
    message = AppendEntries(1, 2, 1, 1, (large,), 0, 0)
    received = RaftCodec(0, 1).decode(encode(envelope, 0, message))
    assert received == (envelope, message)
