"""Rows 12 to 23 of docs/raft.md, a test for each: what raftos 0.2.6 does wrong there, ours does right."""

import ast
import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import raftos.conf
import raftos.server
import raftos.state
import raftos.timer

from replicas.raft.candidate import Candidate
from replicas.raft.codec import RaftCodec
from replicas.raft.configuration import RaftConfiguration
from replicas.raft.errors import ChangeRefused, NotLeader, OutcomeUnknown, SettingRefused
from replicas.raft.leader import Leader
from replicas.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    InstallSnapshot,
    InstallSnapshotResponse,
    RequestVote,
    RequestVoteResponse,
)
from replicas.raft.node import RaftNode
from replicas.raft.roles import Follower
from replicas.raft.simulator.cluster import Cluster, Options
from replicas.raft.simulator.faults import WEIGHTS
from replicas.raft.state import HANDLERS, State
from replicas.raft.timer import Timer
from ringcast.errors import BadFrame
from ringcast.strict import dumps
from store.raft_contract import Entry, Kind
from tests.project.sources import ROOT, python_files
from tests.raft.harness import CLUSTER, Peer, command, founded, granted, leads, members, result, storage, vote

QUIET = dict.fromkeys(WEIGHTS, 0) | {"slow_disk": 1}


# ---------------------------------------------------------------------- 12 to 14: commands and reads


def test_raftos_row_12_each_command_has_an_answer_of_its_own() -> None:
    """raftos has one future for all of them: only the last one is ever answered."""
    peer = Peer(1)
    peer.run(1.0)
    futures = [peer.node.propose(dumps((1, number, "cas", "k", number - 1, number))) for number in (1, 2, 3)]
    futures.append(peer.node.propose(b"\xc1"))
    peer.run(0.05)
    assert [result(future) for future in futures] == [dumps(True), dumps(True), dumps(True), dumps("refused")]


def test_raftos_row_12_a_change_of_leader_is_told_to_all_that_wait() -> None:
    peer = Peer()
    peer.become_leader()
    futures = [peer.node.propose(b"x") for _ in range(3)]
    peer.append(term=9, prev=(1, 1), leader=3)
    for future in futures:
        assert isinstance(future.exception(), OutcomeUnknown)
    refused = peer.node.propose(b"y").exception()
    assert isinstance(refused, NotLeader)
    assert refused.leader == 3


def test_raftos_row_13_a_new_leader_commits_what_older_ones_left() -> None:
    """raftos leaves it uncommitted until somebody writes. And it is not committed by counting (Raft 5.4.2)."""
    peer = Peer(disk=founded(entries=(command(2, 1), command(3, 1))))
    while not isinstance(peer.node.state.state, Candidate):
        peer.run(0.05)
    peer.receive(2, RequestVoteResponse(2, vote_granted=True, pre_vote=True))
    peer.run(0.003)
    peer.receive(2, RequestVoteResponse(2, vote_granted=True, pre_vote=False))
    assert peer.log() == [(2, 1), (3, 1), (4, 2)]
    peer.run(0.003)
    peer.receive(2, AppendEntriesResponse(2, True, 3, 1, 3, 0, 0))
    assert peer.node.status().commit == 1
    peer.receive(2, AppendEntriesResponse(2, True, 4, 1, 3, 0, 0))
    assert peer.node.status().commit == 4


def test_raftos_row_14_a_read_waits_for_a_quorum_that_still_follows() -> None:
    """raftos answers from whoever thinks that it leads. Reads of one turn share a round."""
    peer = Peer()
    peer.become_leader()
    peer.sent.clear()
    reads = [peer.node.read() for _ in range(20)]
    peer.run(0.001)
    (sent,) = peer.take(AppendEntries, 2)
    assert not any(read.done() for read in reads)
    peer.receive(2, AppendEntriesResponse(2, True, 2, sent.request_id - 1, 2, 0, 0))
    assert not any(read.done() for read in reads)
    peer.receive(2, AppendEntriesResponse(2, True, 2, sent.request_id, 2, 0, 0))
    peer.run(0)
    assert [result(read) for read in reads] == [2] * 20
    late = peer.node.read()
    peer.run(1.0)
    assert isinstance(late.exception(), NotLeader)


def test_raftos_row_14_a_read_shares_only_a_round_that_begins_after_it() -> None:
    """The round under way was sent before this read was asked: something may have been acknowledged in between."""
    peer = Peer()
    peer.become_leader()
    peer.sent.clear()
    first = peer.node.read()
    peer.run(0.001)
    (sent,) = peer.take(AppendEntries, 2)
    late = peer.node.read()
    peer.receive(2, AppendEntriesResponse(2, True, 2, sent.request_id, 2, 0, 0))
    peer.run(0)
    assert (first.done(), late.done()) == (True, False)
    (again,) = peer.take(AppendEntries, 2)
    peer.receive(2, AppendEntriesResponse(2, True, 2, again.request_id, 2, 0, 0))
    peer.run(0)
    assert result(late) == 2


# ---------------------------------------------------------------------- 15 to 19: what raftos has not


def test_raftos_row_15_the_log_is_trimmed_and_a_snapshot_takes_its_place() -> None:
    peer = Peer(settings={"log_entries_kept": 5})
    peer.become_leader()
    for number in range(30):
        peer.node.propose(dumps((1, number + 1, "write", "k", number)))
        peer.run(0.001)
        peer.acknowledge(2)
    peer.run(0.01)
    assert peer.node.status().base >= 20
    assert peer.disk.base.index == peer.node.status().base
    peer.sent.clear()
    peer.run(0.06)
    probes = peer.take(AppendEntries, 3)
    peer.receive(3, AppendEntriesResponse(2, False, 0, 2, probes[-1].prev_log_index, 0, 2))
    peer.run(0.02)
    (chunk,) = peer.take(InstallSnapshot, 3)
    assert chunk.base.index == peer.disk.applied
    assert chunk.base.members == members()
    fresh = Peer()
    own = fresh.disk.hard
    fresh.receive(2, replace(chunk, leader_id=2))
    fresh.run(0.01)
    assert [answer.next_index for answer in fresh.take(InstallSnapshotResponse)] == [chunk.count]
    assert fresh.disk.machine.values == {"k": 29}
    assert fresh.disk.base == chunk.base
    hard = fresh.disk.hard
    assert hard is not None
    assert own is not None
    assert (hard.storage, hard.incarnation, hard.voted_for) == (own.storage, own.incarnation, None)
    fresh.append(term=chunk.term, prev=(1, 1))
    _late_snapshot_changes_nothing(fresh, chunk)


def _late_snapshot_changes_nothing(peer: Peer, chunk: InstallSnapshot) -> None:
    end = chunk.base.index
    peer.append(command(end + 1, chunk.term), term=chunk.term, prev=(end, chunk.base.term), commit=end + 1)
    peer.run(0.01)
    peer.receive(2, replace(chunk, leader_id=2))
    peer.run(0.01)
    assert peer.disk.last == end + 1


def test_raftos_row_16_members_change_one_at_a_time_through_the_log() -> None:
    peer = Peer()
    peer.become_leader()
    added = peer.node.add_member(4, "member-4")
    refused = peer.node.remove_member(2).exception()
    assert isinstance(refused, ChangeRefused)
    assert peer.addresses.keys() == {2, 3, 4}
    assert peer.node.status().members.voters == (1, 2, 3)
    peer.run(0.003)
    peer.acknowledge(2)
    peer.acknowledge(4)
    assert peer.node.status().members.voters == (1, 2, 3, 4)
    assert not peer.node.state.is_majority(2)
    assert not added.done()
    peer.run(0.003)
    peer.acknowledge(2)
    assert not added.done()
    peer.receive(3, AppendEntriesResponse(2, True, peer.node.status().last, 1, 2, 0, 0))
    peer.run(0.003)
    assert result(added) is None


def test_raftos_row_17_three_nodes_in_one_process_share_nothing() -> None:
    """raftos keeps loop, leader and nodes on its classes."""
    cluster = Cluster(1, Options(members=3, safety_seconds=1.5, weights=QUIET))
    cluster.run()
    states = [process.node.state for process in cluster.processes.values()]
    assert sorted(isinstance(state.state, Leader) for state in states) == [False, False, True]
    assert len({id(state.log) for state in states}) == 3
    assert raftos.state.State.leader is None
    assert vars(raftos.server.Node)["nodes"] == []
    assert not hasattr(raftos.state.State, "loop")


def test_raftos_row_18_who_comes_back_deposes_nobody() -> None:
    """Pre-vote: alone, it raises no term; and who hears a leader helps nobody to depose it."""
    peer = Peer()
    peer.run(5.0)
    assert peer.node.state.term == 1
    assert all(message.pre_vote for message in peer.take(RequestVote))
    peer.append(term=1, prev=(1, 1))
    peer.receive(3, vote(2, 3, last=(9, 9), pre=True))
    peer.receive(3, vote(7, 3, last=(9, 9)))
    assert granted(peer, 3) == [False]
    assert (peer.node.state.term, peer.node.leader) == (1, 2)


def test_raftos_row_18_a_leader_without_a_quorum_steps_down() -> None:
    peer = Peer()
    peer.become_leader()
    for _ in range(20):
        peer.run(0.05)
        peer.acknowledge(3)
    assert leads(peer)
    peer.run(0.4)
    assert not leads(peer)


def test_raftos_row_19_a_repeated_command_is_carried_out_once() -> None:
    """What a client does after OutcomeUnknown; the answer is the first one's, also from a snapshot."""
    peer = Peer(1)
    peer.run(1.0)
    once = dumps((7, 1, "cas", "k", 0, 5))
    first, again = peer.node.propose(once), peer.node.propose(once)
    peer.run(0.02)
    assert result(first) == result(again) == dumps(True)
    assert peer.disk.machine.values == {"k": 5}
    assert type(peer.disk.machine).load(peer.disk.machine.dump()).apply(once) == dumps(True)


# ---------------------------------------------------------------------- 20 to 23: the library itself


def test_raftos_row_20_no_public_secret_and_none_of_its_encryption() -> None:
    """Keys of ours come with the bus' CURVE; until then nothing claims to be secret."""
    assert raftos.conf.Configuration.default_settings()["secret_key"] == b"raftos sample secret key"
    ours = RaftConfiguration()
    settings = RaftConfiguration.default_settings()
    assert not {"secret_key", "salt", "cryptor", "serializer", "log_path"} & settings.keys()
    assert ours.cryptor is None
    assert not hasattr(ours, "secret_key")
    with pytest.raises(SettingRefused, match="secret_key"):
        RaftConfiguration(secret_key=b"x")
    files = python_files("replicas", "store", "broker", "cli")
    modules = {module for path in files for module in _raftos_imports(path)}
    assert modules == {"raftos.conf", "raftos.server", "raftos.state", "raftos.timer"}


def _raftos_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "raftos":
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name.partition(".")[0] == "raftos"}
    return found


def test_raftos_row_21_a_follower_applies_and_no_handler_is_raftos_own() -> None:
    """raftos: applying on a follower raises AttributeError (`asyncio.futures.InvalidStateError` is gone)."""
    assert not hasattr(asyncio.futures, "InvalidStateError")
    peer = Peer()
    write = Entry(2, 1, Kind.COMMAND, dumps((1, 1, "write", "k", 3)))
    peer.append(write, term=1, prev=(1, 1), commit=2)
    peer.run(0.01)
    assert peer.disk.machine.values == {"k": 3}
    assert peer.take(AppendEntriesResponse)
    for role in (Follower, Candidate, Leader):
        handlers = [name for name in dir(role) if name.startswith("on_receive_")]
        assert len(handlers) == 8
        for name in handlers:
            assert getattr(role, name).__module__.startswith("replicas.raft")


@pytest.mark.parametrize("kind", [0, 11, -1, "start", "__init__", "append_entries", None, 1.0, True, (1,)])
def test_raftos_row_22_what_is_called_is_no_name_from_outside(kind: object) -> None:
    """raftos: `getattr(self.state, 'on_receive_' + type)`."""
    header = dumps((1, CLUSTER, 0, 2, storage(2), 1, 1, kind, 5))  # type: ignore[arg-type]
    with pytest.raises(BadFrame):
        RaftCodec(0, 1).decode([header])
    assert all(kind.__module__ == "replicas.raft.messages" for kind in HANDLERS)


def test_raftos_row_23_it_is_quiet_its_settings_are_ours_and_its_timer_fires_once() -> None:
    loud = subprocess.run([sys.executable, "-c", "import raftos"], cwd=ROOT, capture_output=True, text=True, check=True)
    quiet = "import replicas.raft.node"
    run = subprocess.run([sys.executable, "-c", quiet], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "cryptography" in loud.stderr
    assert (run.stdout, run.stderr) == ("", "")
    one, other = RaftConfiguration(heartbeat_interval=0.01), RaftConfiguration()
    assert one.step_down_interval == pytest.approx(0.06)
    assert one.election_interval == pytest.approx((0.06, 0.12))
    assert (other.heartbeat_interval, raftos.conf.config.heartbeat_interval) == (0.05, 0.3)
    peer = Peer()
    fired: list[float] = []

    def fire() -> None:
        fired.append(peer.loop.time())
        timer.reset()

    timer = Timer(0.1, fire, peer.clock)
    timer.stop()
    started = peer.loop.time()
    timer.start()
    timer.start()
    peer.run(0.35)
    assert [round(at - started, 3) for at in fired] == [0.1, 0.2, 0.3]
    timer.stop()
    peer.run(0.5)
    assert len(fired) == 3


def test_what_we_keep_of_raftos_is_its_own() -> None:
    """Taken away, or no longer derived from, this fails: the user's choice is the library that this stands on."""
    for ours, theirs in (
        (RaftNode, raftos.server.Node),
        (State, raftos.state.State),
        (Follower, raftos.state.Follower),
        (Candidate, raftos.state.Candidate),
        (Leader, raftos.state.Leader),
        (Timer, raftos.timer.Timer),
        (RaftConfiguration, raftos.conf.Configuration),
    ):
        assert issubclass(ours, theirs)
    assert State._change_state is raftos.state.State._change_state
    assert RaftNode.request_handler is raftos.server.Node.request_handler
    assert Timer.reset is raftos.timer.Timer.reset
