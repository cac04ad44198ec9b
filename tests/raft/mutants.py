"""Raft with one rule taken away each: the simulator must notice (docs/raft.md, "Proof")."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from replicas.raft.candidate import Candidate
from replicas.raft.leader import Leader
from replicas.raft.messages import Envelope, Message, RequestVote
from replicas.raft.node import RaftNode
from replicas.raft.reads import Reads
from replicas.raft.roles import Follower
from replicas.raft.simulator.cluster import Cluster, Options
from replicas.raft.simulator.disk import SimulatedStore
from replicas.raft.simulator.faults import WEIGHTS
from replicas.raft.state import State
from store.raft_contract import Write

CONTESTED: Mapping[str, Any] = {
    "heartbeat_interval": 0.01,
    "step_down_missed_heartbeats": 2,
    "election_interval_spread": 1.5,
    "peer_lost_interval": (0.001, 0.01),
}
CRASHES = {"crash": 60, "crash_leader": 40, "crash_all": 40, "wipe": 0, "put_back": 0, "add": 0, "remove": 0}
#: One entry in a message and on its way, so that a leader may die between an old entry and its own first one.
ONE_BY_ONE: Mapping[str, Any] = {
    **CONTESTED,
    "append_bytes_max": 60,
    "command_bytes_max": 60,
    "inflight_bytes_max": 60,
    "log_entries_kept": 200,
}
PARTED = {"split": 60, "isolate_leader": 60, "one_way": 40, "pause_leader": 40, "add": 0, "remove": 0}


def voters_crash(cluster: Cluster) -> None:
    """Who has given its vote away dies, and is back before the election is over."""
    seen: set[tuple[int, int]] = set()

    def look() -> None:
        for member, process in list(cluster.processes.items()):
            state = process.node.state
            hard = cluster.disks[member].hard
            durable = hard is not None and hard.term == state.term and state.pending.hard is None
            if durable and state.voted_for not in {None, member} and (member, state.term) not in seen:
                seen.add((member, state.term))
                cluster.kill(member)
                cluster.start(member)
        if cluster.loop.time() < cluster.options.safety_seconds:
            cluster.loop.call_later(0.001, look)

    look()


def figure_8(cluster: Cluster) -> None:
    """Raft figure 8: leaders are cut off as they begin; who commits before its term is open dies there and then."""
    begun: dict[tuple[int, int], int] = {}  # (member, term) -> commit that it began with

    def look() -> None:
        for member, process in list(cluster.processes.items()):
            state = process.node.state
            commit = state.log.commit
            if not process.node.leads:
                continue
            if (member, state.term) not in begun:
                begun[member, state.term] = commit
                if cluster.random.random() < 0.6:
                    _isolate(cluster, member, cluster.random.random() * 0.3)
            elif commit > begun[member, state.term] and state.log.term_at(commit) != state.term:
                cluster.kill(member)
                cluster.loop.call_later(0.4, cluster.start, member)
        if cluster.loop.time() < cluster.options.safety_seconds - 0.5:
            cluster.loop.call_later(0.0001, look)

    look()


def _isolate(cluster: Cluster, member: int, seconds: float) -> None:
    others = [other for other in cluster.disks if other != member]
    links = [*product([member], others), *product(others, [member])]
    cluster.network.block(links)
    cluster.loop.call_later(seconds, cluster.network.unblock, links)


def deposed_leaders(cluster: Cluster) -> None:
    """The leader is stopped and cut off, wakes when others have long gone on, and hears of that a little later."""
    for step in range(3):
        cluster.loop.call_later(0.6 + 1.9 * step, _depose, cluster)


def _depose(cluster: Cluster) -> None:
    leader = cluster.leader
    if leader is None or leader.paused:
        return
    _isolate(cluster, leader.member, 1.6)
    cluster.pause(leader.member)
    cluster.loop.call_later(1.5, cluster.resume, leader)


def node_of(state: type[State]) -> type[RaftNode]:
    """A node with another state."""
    return type("MutatedNode", (RaftNode,), {"state_class": state})


class VoteNotDurable(SimulatedStore):
    """R3, R8: the disk forgets whom it voted for; the term it keeps."""

    def submit(self, write: Write) -> None:
        if write.hard is not None:
            write.hard = write.hard._replace(voted_for=None)
        super().submit(write)


class VotesForAll(State):
    """R3: the vote is reset by anything but the term: here by every request for it."""

    def request_handler(self, data: Any) -> None:
        if isinstance(data.message, RequestVote) and not data.message.pre_vote:
            self.hard = self.hard._replace(voted_for=None)
        super().request_handler(data)


class MajorityOfTheUp(State):
    """R6: a majority of those that answered lately."""

    def request_handler(self, data: Any) -> None:
        self.seen = getattr(self, "seen", {})
        self.seen[data.envelope.sender] = self.loop.time()
        super().request_handler(data)

    def is_majority(self, count: int) -> bool:
        seen: dict[int, float] = getattr(self, "seen", {})
        up = 1 + sum(self.loop.time() - at < 0.3 for at in seen.values())
        return count > up // 2


class AnyTermCommits(Leader):
    """Raft 5.4.2: an entry of an older term is committed by counting."""

    def may_commit(self, index: int) -> bool:
        return True


class AnyTermCommitsState(State):
    leader_class = AnyTermCommits


class TruncatingFollower(Follower):
    """R9: raftos' rule: whatever stands behind the last sent entry goes, also what is committed."""

    def _append(self, message: Any) -> None:
        log = self.log
        first = message.prev_log_index + 1
        if log.base.index < first <= log.last and message.entries:
            log.commit = min(log.commit, first - 1)
            log.applied = min(log.applied, first - 1)
            self.state.cut(first)
        super()._append(message)


class TruncatingState(State):
    follower_class = TruncatingFollower


class AnswersBeforeSync(State):
    """R8: an acknowledgement, and the leader's own count, before the sync."""

    def _flush(self) -> None:
        self.log.durable = self.log.last
        ticket = self.pending.ticket
        super()._flush()
        while self._waiting and self._waiting[0][0] <= ticket:
            self._waiting.popleft()[1]()
        self.state.on_synced()


class ReadsAtOnce(Reads):
    """As soon as what it knows to be committed can be read."""

    def add(self, future: Future[int]) -> None:
        self._confirmed.append((self._leader.log.commit, [future]))
        self.visible()


class ReadsWithoutRound(Leader):
    """R14: whoever thinks that it leads answers reads."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.reads = ReadsAtOnce(self)


class ReadsWithoutRoundState(State):
    leader_class = ReadsWithoutRound


class JoinsRound(Reads):
    """Reads join the round that is under way, which was sent before they were asked."""

    def add(self, future: Future[int]) -> None:
        if self._round is None:
            super().add(future)
        else:
            self._round[2].append(future)


class ReadsJoinRound(Leader):
    """R14: an older round confirms too little."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.reads = JoinsRound(self)


class ReadsJoinRoundState(State):
    leader_class = ReadsJoinRound


class FoundsLast(SimulatedStore):
    """A cluster's first base is written after the first entries, as a trim is."""

    def submit(self, write: Write) -> None:
        base, write.found = write.found, None
        super().submit(write)
        if base is not None:
            super().submit(Write(write.ticket, found=base))


class CountsAnswers(Candidate):
    """R5: answers are counted, of whatever election."""

    def on_receive_request_vote_response(self, envelope: Envelope, message: Any) -> None:
        if message.vote_granted:
            self.count(len(self.votes) + 1000)


class CountsAnswersState(State):
    candidate_class = CountsAnswers


class AnyDiskVotes(State):
    """V0: a wiped disk votes and acknowledges as the one before it."""

    def send(self, member: int, message: Message) -> None:
        own = self.log.members.find(self.id)
        storage = own.storage if own is not None and own.voter else self.hard.storage
        hard = self.hard
        self.transport.send(member, Envelope(hard.cluster, self.id, storage, hard.incarnation), message)


class NeverRolledBack(State):
    """V0: a disk that was put back takes part as if it were not."""

    def become_new_disk(self) -> None:
        self.standing.proven = True


@dataclass(frozen=True, slots=True)
class Mutation:
    """`seed` of `options` shows it."""

    name: str
    seed: int
    replaced: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def run_options(self, *, mutated: bool) -> Options:
        """The options with the mutation, or without."""
        return Options(**{**self.options, **(self.replaced if mutated else {})})


NO_FAULTS = dict.fromkeys(WEIGHTS, 0) | {"slow_disk": 1}
DUELS: Mapping[str, Any] = {
    "members": 3,
    "settings": CONTESTED,
    "weights": NO_FAULTS,
    "weather": {"slow": 0.5, "slow_spread": 30_000, "duplication": 0.2},
}
BURSTS = frozenset({"bursts"})
READERS: Mapping[str, Any] = {
    "extra": BURSTS,
    "members": 3,
    "weights": NO_FAULTS,
    "think_seconds": 0.002,
    "clients": 12,
}
MUTATIONS = (
    Mutation("vote not durable", 7, {"store_class": VoteNotDurable}, {**DUELS, "plan": voters_crash}),
    Mutation("vote not reset only by term", 6, {"node_class": node_of(VotesForAll)}, {**DUELS, "members": 5}),
    Mutation("majority of the up members", 3, {"node_class": node_of(MajorityOfTheUp)}, {"weights": PARTED}),
    Mutation(
        "votes counted without sender and term",
        2,
        {"node_class": node_of(CountsAnswersState)},
        {**DUELS, "members": 5},
    ),
    Mutation("truncation below commit", 1, {"node_class": node_of(TruncatingState)}, {"members": 3}),
    Mutation(
        "commit of an old term by counting",
        41,
        {"node_class": node_of(AnyTermCommitsState)},
        {"members": 3, "weights": NO_FAULTS, "settings": ONE_BY_ONE, "plan": figure_8},
    ),
    Mutation("answer before sync", 1, {"node_class": node_of(AnswersBeforeSync)}, {"members": 3, "weights": CRASHES}),
    Mutation(
        "reads without a round",
        6,
        {"node_class": node_of(ReadsWithoutRoundState)},
        {
            "members": 3,
            "weights": NO_FAULTS,
            "plan": deposed_leaders,
            "think_seconds": 0.005,
            "clients": 8,
            "safety_seconds": 6.5,
        },
    ),
    Mutation(
        "reads join a round that has left",
        6,
        {"node_class": node_of(ReadsJoinRoundState)},
        READERS,
    ),
    Mutation("founded after the first entries", 27, {"store_class": FoundsLast}, {"extra": BURSTS}),
    Mutation("any disk votes", 1, {"node_class": node_of(AnyDiskVotes)}, {"members": 3, "weights": {"wipe": 60}}),
    Mutation(
        "a disk put back takes part",
        34,
        {"node_class": node_of(NeverRolledBack)},
        {"members": 3, "weights": {**NO_FAULTS, "put_back": 100, "crash": 60, "isolate_leader": 20}},
    ),
)
