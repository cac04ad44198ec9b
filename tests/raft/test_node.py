"""What a node does beside the rows: the disk, its standing, operators, bounds."""

import pytest

from replicas.raft.configuration import RaftConfiguration
from replicas.raft.errors import (
    ChangeRefused,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    Refused,
    SettingRefused,
    TransferFailed,
)
from replicas.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Found,
    Hello,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
    Welcome,
)
from replicas.raft.node import RESUME_SECONDS
from replicas.raft.simulator.disk import Disk
from store.raft_contract import NO_INCARNATION, Base, Incarnation
from store.raft_members import MEMBERS_MAX
from tests.raft.harness import CLUSTER, Peer, command, founded, leads, members, result, storage

# ---------------------------------------------------------------------- elections


def test_a_broken_connection_to_the_leader_begins_an_election_at_once() -> None:
    peer = Peer()
    peer.append(term=1, prev=(1, 1))
    peer.sent.clear()
    peer.node.peer_lost(3)
    peer.run(0.05)
    assert not peer.take(RequestVote)
    peer.node.peer_lost(2)
    peer.run(0.05)
    assert peer.take(RequestVote)
    peer.append(term=1, prev=(1, 1))
    peer.sent.clear()
    peer.run(0.25)
    assert not peer.take(RequestVote), "it was only the connection: the leader is followed as before"


def test_a_learner_and_a_removed_member_begin_no_election() -> None:
    for configuration in (members().without(1), members().with_(members()[0]._replace(voter=False))):
        disk = founded()
        disk.base = Base(1, 1, configuration)
        peer = Peer(disk=disk)
        peer.run(3.0)
        assert not peer.take(RequestVote)


def test_a_candidate_of_an_older_log_is_not_elected() -> None:
    peer = Peer()
    peer.append(*(), term=1, prev=(1, 1))
    peer.node.state.lost_leader()
    peer.receive(3, RequestVote(2, 3, 0, 0, pre_vote=False, transfer=False))
    peer.run(0.003)
    assert [answer.vote_granted for answer in peer.take(RequestVoteResponse)] == [False]


# ---------------------------------------------------------------------- the disk


def test_a_full_disk_leads_nobody_and_goes_on_when_there_is_space() -> None:
    peer = Peer()
    peer.become_leader()
    waiting = peer.node.propose(b"x")
    peer.node.on_failure(OSError("no space"), full=True)
    assert not leads(peer)
    assert isinstance(waiting.exception(), OutcomeUnknown)
    assert peer.node.status().full
    assert not peer.node.state.may_campaign()
    resumed: list[bool] = []
    peer.store.resume = lambda: resumed.append(True)  # type: ignore[method-assign]
    peer.run(RESUME_SECONDS + 0.1)
    assert resumed == [True]
    peer.append(term=9, prev=(1, 1))
    peer.run(0.01)
    assert not peer.node.status().full


def test_a_failed_disk_stops_the_node() -> None:
    peer = Peer()
    peer.become_leader()
    peer.node.on_failure(OSError("broken"), full=False)
    assert [str(error) for error in peer.errors] == ["broken"]
    peer.errors.clear()
    peer.sent.clear()
    peer.run(1.0)
    assert not peer.sent
    assert isinstance(peer.node.propose(b"x").exception(), NotLeader)


# ---------------------------------------------------------------------- standing


def test_who_starts_takes_part_once_peers_know_nothing_newer() -> None:
    peer = Peer(welcomed=False)
    peer.run(0.01)
    assert {to for to, message in peer.sent if isinstance(message, Hello)} == {2, 3}
    peer.append(term=1, prev=(1, 1))
    assert not peer.take(AppendEntriesResponse)
    peer.receive(2, Welcome(storage(1), NO_INCARNATION))
    peer.append(term=1, prev=(1, 1))
    assert peer.take(AppendEntriesResponse)


@pytest.mark.parametrize("known", [Incarnation(9, 1), Incarnation(2, 1)], ids=["newer", "same number"])
def test_a_disk_that_was_put_back_becomes_a_new_one(known: Incarnation) -> None:
    peer = Peer(welcomed=False)
    peer.run(0.01)
    assert peer.node.state.incarnation.counter == 2
    peer.receive(2, Welcome(storage(1), known))
    peer.run(0.01)
    hard = peer.disk.hard
    assert hard is not None
    assert hard.storage not in {storage(1), 0}
    assert (hard.cluster, hard.term, peer.disk.base.index, peer.disk.log) == (0, 0, 0, [])


def test_a_word_about_another_disk_says_nothing() -> None:
    peer = Peer(welcomed=False)
    peer.run(0.01)
    peer.receive(2, Welcome(999, Incarnation(9, 9)))
    peer.run(0.01)
    assert peer.node.state.storage == storage(1)
    assert not peer.node.status().proven


def test_an_incarnation_is_remembered_before_it_is_answered() -> None:
    peer = Peer()
    peer.store.slow_seconds = 0.05
    peer.receive(2, Hello("member-2"))
    assert not peer.take(Welcome)
    peer.run(0.1)
    assert peer.take(Welcome, 2) == [Welcome(storage(2), NO_INCARNATION)]
    hard = peer.disk.hard
    assert hard is not None
    assert dict(hard.known)[storage(2)] == Incarnation(1, 2)


def test_a_cluster_is_founded_when_all_are_blank_and_by_the_lowest_id() -> None:
    peer = Peer(disk=Disk())
    for member in (2, 3):
        assert peer.node.status().cluster == 0
        peer.receive(member, Hello("member-2"), cluster=0)
    peer.run(0.01)
    status = peer.node.status()
    assert status.cluster != 0
    assert [(one.id, one.voter) for one in status.members] == [(1, True), (2, True), (3, True)]
    assert status.members.is_voter(2, storage(2))
    found = peer.take(Found)
    assert {one.base for one in found} == {Base(1, 1, status.members)}
    assert peer.disk.base == Base(1, 1, status.members)


def test_the_founding_and_the_first_entries_may_come_in_one_turn() -> None:
    """A connection that comes up late brings both at once; the disk refused the entries, for it knew no base."""
    peer = Peer(disk=Disk())
    base = Base(1, 1, members().with_(members()[0]._replace(storage=peer.node.state.storage)))
    peer.receive(2, Found(base), AppendEntries(2, 2, 1, 1, (command(2, 2),), 2, 1))
    peer.run(0.01)
    assert (peer.disk.base, peer.disk.log, peer.disk.applied) == (base, [command(2, 2)], 2)
    answer = peer.take(AppendEntriesResponse, 2)[-1]
    assert (answer.success, answer.last_log_index) == (True, 2)


def test_a_wiped_founder_founds_nothing_and_follows_the_cluster() -> None:
    peer = Peer(disk=Disk())
    peer.receive(2, Hello("member-2"), cluster=0)
    peer.receive(3, Hello("member-2"), cluster=CLUSTER)
    peer.run(0.5)
    assert peer.node.status().cluster == 0
    peer.receive(3, AppendEntries(4, 3, 9, 4, (), 9, 1))
    assert peer.node.status().cluster == CLUSTER
    peer.run(3.0)
    assert not peer.take(RequestVote)


def test_frames_of_another_cluster_change_nothing() -> None:
    peer = Peer()
    peer.receive(2, AppendEntries(9, 2, 1, 1, (), 1, 1), cluster=CLUSTER + 1)
    peer.receive(2, Hello("member-2"), cluster=CLUSTER + 1)
    peer.run(0.01)
    assert peer.node.status().term == 1
    assert not peer.take(Welcome)
    assert peer.node.status().counters["dropped_cluster"] == 1


def test_the_acknowledgement_of_a_new_disk_does_not_count() -> None:
    """V0 of the bus: and the leader sends it everything again, then lets it in by two changes."""
    peer = Peer()
    peer.become_leader()
    peer.acknowledge(3)
    peer.node.propose(b"x")
    peer.run(0.003)
    last = peer.node.status().last
    fits = AppendEntriesResponse(2, True, last, 1, last, 0, 0)
    peer.receive(2, fits, disk=777)
    assert peer.node.status().commit == last - 1
    peer.receive(3, fits)
    assert peer.node.status().commit == last
    voters = [peer.node.status().members.voters]
    for _ in range(3):
        peer.run(0.003)
        last = peer.node.status().last
        peer.receive(2, AppendEntriesResponse(2, True, last, 1, last, 0, 0), disk=777)
        peer.receive(3, AppendEntriesResponse(2, True, last, 1, last, 0, 0))
        voters.append(peer.node.status().members.voters)
    assert voters == [(1, 3), (1, 2, 3), (1, 2, 3), (1, 2, 3)]
    assert peer.node.status().members.is_voter(2, 777)


# ---------------------------------------------------------------------- operators


def test_a_leader_hands_over_once_its_successor_has_everything() -> None:
    peer = Peer()
    peer.become_leader()
    peer.acknowledge(3)
    waiting = peer.node.propose(b"x")
    handed = peer.node.transfer(3)
    assert isinstance(peer.node.propose(b"y").exception(), NotLeader)
    peer.run(0.003)
    assert not peer.take(TimeoutNow)
    peer.acknowledge(2)
    peer.run(0.003)
    assert waiting.done()
    assert not peer.take(TimeoutNow)
    peer.acknowledge(3)
    assert peer.take(TimeoutNow, 3)
    peer.receive(3, RequestVote(3, 3, 9, 2, pre_vote=False, transfer=True))
    assert handed.result() == 3


def test_a_transfer_that_fails_leaves_the_leader_where_it_was() -> None:
    peer = Peer()
    peer.become_leader()
    handed = peer.node.transfer(2)
    for _ in range(15):
        peer.run(0.05)
        peer.acknowledge(2)
    assert isinstance(handed.exception(), TransferFailed)
    assert leads(peer)
    assert not peer.node.propose(b"x").done()
    assert isinstance(peer.node.transfer(9).exception(), Refused)


def test_who_is_told_to_lead_asks_for_votes_at_once() -> None:
    peer = Peer()
    peer.append(term=1, prev=(1, 1))
    peer.sent.clear()
    peer.receive(2, TimeoutNow(1))
    peer.run(0.003)
    (asked, *_) = peer.take(RequestVote)
    assert (asked.term, asked.pre_vote, asked.transfer) == (2, False, True)


def test_a_removed_leader_goes_and_names_its_heir() -> None:
    peer = Peer()
    peer.become_leader()
    peer.acknowledge(3)
    removed = peer.node.remove_member(1)
    peer.run(0.003)
    peer.sent.clear()
    peer.acknowledge(2)
    assert leads(peer), "one of two is no majority, and its own disk counts no more"
    peer.receive(3, AppendEntriesResponse(2, True, 3, 1, 3, 0, 0))
    assert not leads(peer)
    assert peer.take(TimeoutNow)
    assert removed.exception() is None


def test_changes_that_make_no_sense_are_refused() -> None:
    peer = Peer()
    assert isinstance(peer.node.add_member(4, "x").exception(), NotLeader)
    peer.become_leader()
    for future in (
        peer.node.add_member(2, "another place"),
        peer.node.remove_member(2),  # 3 has not answered: {1, 3} could commit nothing
    ):
        assert isinstance(future.exception(), ChangeRefused)
    alone = Peer(1)
    alone.run(1.0)
    assert isinstance(alone.node.remove_member(1).exception(), ChangeRefused)
    assert isinstance(alone.node.transfer().exception(), Refused)


def test_a_change_that_is_asked_for_again_is_done_once() -> None:
    """Whoever lost the answer with a leader asks the next one."""
    peer = Peer()
    peer.become_leader()
    last = peer.node.state.log.last
    assert result(peer.node.add_member(2, "member-2")) is None
    assert result(peer.node.remove_member(9)) is None
    assert peer.node.state.log.last == last
    peer.acknowledge(3)
    removed = [peer.node.remove_member(2) for _ in range(2)]
    peer.run(0.003)
    assert peer.node.state.log.last == last + 1
    assert not any(one.done() for one in removed), "it is in the log, and not committed"
    peer.acknowledge(3)
    peer.run(0.06)
    assert [result(one) for one in removed] == [None, None]


def test_a_removed_member_is_reached_until_it_has_heard_of_it() -> None:
    """R16: a leader that removes itself needs the others' connections, and who is removed the news that it is so."""
    peer = Peer()
    peer.become_leader()
    peer.acknowledge(3)
    peer.node.remove_member(2)
    peer.run(0.003)
    assert set(peer.addresses) == {2, 3}
    peer.acknowledge(3)
    index = peer.node.state.log.members_index
    for _ in range(12):
        peer.run(0.05)
        peer.acknowledge(3)
    assert max(one.commit_index for one in peer.take(AppendEntries, 2)) >= index, "the next heartbeat told it"
    peer.run(0.06)
    peer.acknowledge(3)
    assert set(peer.addresses) == {3}
    peer.sent.clear()
    peer.run(0.06)
    assert not peer.take(AppendEntries, 2)


def test_a_follower_answers_a_leader_that_came_after_its_log() -> None:
    """R16: its configuration names 2 and 3; it hears of 4 by 4's own word, and keeps it in bounds."""
    peer = Peer()
    assert set(peer.addresses) == {2, 3}
    peer.receive(4, Hello("member-4"))
    peer.receive(4, Hello(""))
    peer.receive(2, Hello("elsewhere"))
    assert peer.addresses == {2: "member-2", 3: "member-3", 4: "member-4"}
    for stranger in range(5, 40):
        peer.receive(stranger, Hello(f"member-{stranger}"))
    assert len(peer.addresses) == 2 + MEMBERS_MAX


def test_a_leader_says_where_it_is_to_whom_it_does_not_hear() -> None:
    peer = Peer()
    peer.become_leader()
    peer.sent.clear()
    peer.run(0.06)
    assert {to for to, message in peer.sent if message == Hello("member-1")} == {3}


# ---------------------------------------------------------------------- bounds


def test_what_waits_is_bounded() -> None:
    peer = Peer(settings={"proposed_bytes_max": 3_000, "command_bytes_max": 1_000})
    peer.become_leader()
    futures = [peer.node.propose(b"x" * 1_000) for _ in range(5)]
    assert [isinstance(one.exception(), Overloaded) if one.done() else None for one in futures] == [
        None, None, None, True, True
    ]  # fmt: skip
    assert isinstance(peer.node.propose(b"x" * 1_001).exception(), Refused)
    peer.run(0.003)
    peer.acknowledge(2)
    peer.run(0.003)
    assert not peer.node.propose(b"x" * 1_000).done()


@pytest.mark.parametrize(
    "wrong",
    [
        {"heartbeat_interval": 0},
        {"step_down_missed_heartbeats": 1},
        {"election_interval_spread": 1},
        {"peer_lost_interval": (0.2, 0.1)},
        {"command_bytes_max": 2 << 20},
        {"inflight_bytes_max": 1},
        {"snapshot_window": 0},
        {"log_entries_kept": -1},
        {"unknown": 1},
    ],
    ids=str,
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingRefused):
        RaftConfiguration(**wrong)
