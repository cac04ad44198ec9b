"""C1 and C2: where records come from, snapshots, and how far the log is trimmed."""

from dataclasses import replace

from sequencer.messages import Fetch, Nack, Records, SnapshotChunk
from sequencer.output import ServeChunk, ServeRecords, TrimAsked, UseSnapshot
from sequencer.types import ViewNumber
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import ack, log, new_view, prepare, view
from tests.sequencer.disk import Snapshot, State
from tests.sequencer.harness import Host, matching, one, persisted

CHUNKS = (b"one half", b"the other")


def receives(trial: Trial, slot: int = 3, base: int = 5) -> tuple[Host, list[SnapshotChunk]]:
    """Member 1 with an empty log installs view 2; the chunks of a snapshot at `slot` that member 3 would send it."""
    member = trial.bench(1, installed=view(1))
    member.hear(3, new_view(view(2, log(base))))
    member.settle()
    state = State()
    for made in log(slot):
        state = state.after(made)
    member.world.snapshots["3-1-3"] = Snapshot("3-1-3", state, CHUNKS)
    chunks = [
        SnapshotChunk(view(2).number, "3-1-3", slot, state.chain, index, len(CHUNKS), data)
        for index, data in enumerate(CHUNKS)
    ]
    return member, chunks


def has_delivered(trial: Trial, slots: int = 5) -> Host:
    """Member 1 runs view 2 and has delivered five slots; it keeps as few in memory as it may."""
    member = trial.running(1, base=log(slots), window_slots=1)
    for other in (2, 3):
        member.hear(other, ack(member.number, slots))
    member.settle()
    assert len(member.delivered) == slots
    return member


@rule("C1 fetch from a member of another view")
def test_records_of_another_view_are_not_taken(trial: Trial) -> None:
    """C1: or while installing view v, as V7 says; a member that runs no view fetches nothing and sends JOIN."""
    member = trial.bench(1, installed=view(1, members=5, ring=(1, 2, 3)), members=5)
    older, newer = log(2, word=b"another "), log(2)
    member.hear(4, new_view(view(7, newer, members=5, ring=(1, 4, 5), source=4, proposer=4)))
    member.settle()
    with trial.decides():
        member.hear(2, Records(ViewNumber(6, 2), 0, older))
        assert member.running.window.end == 0
        member.hear(4, Records(ViewNumber(7, 4), 0, newer))
        assert member.running.window.end == 2


@rule("C1 commits what does not link")
def test_a_commit_point_counts_for_the_records_that_link(trial: Trial) -> None:
    """C1: RECORDS say how far the log of who serves them is committed; what links to them is committed here too,"""
    member = trial.bench(1, installed=view(1))
    member.hear(3, new_view(view(2, log(5))))
    member.settle()
    with trial.decides():
        member.hear(3, Records(view(2).number, 0, log(5)[:2], committed=9))
        member.hear(2, Records(view(2).number, 2, log(5)[2:4]))
        member.settle()
        assert [made.slot for made in member.delivered] == [0, 1]


@rule("C1 serves any view")
def test_only_a_member_of_that_view_serves_its_prefix(trial: Trial) -> None:
    """C1: (!) Log records are taken only from a member that has installed the same view"""
    member = trial.running(1, base=log(2))
    with trial.decides():
        out = member.hear(3, Fetch(ViewNumber(6, 2), 0, 2, bytes(16)))
        assert not out.serves
        assert not matching(out.sends, Records)
        assert one(member.hear(3, Fetch(member.number, 0, 2, bytes(16))).sends, Records, to=3).records == log(2)


@rule("C1 snapshot with stable state")
def test_a_snapshot_does_not_raise_the_log_view(trial: Trial) -> None:
    """C1: the log view is raised by V7 only."""
    member, chunks = receives(trial)
    before = member.running.stable
    with trial.decides():
        member.hear(3, *chunks)
        member.settle()
        assert (member.disk.first, member.disk.end) == (3, 3)
        assert member.durable() == replace(before, whole=False)  # C3
        member.hear(3, Records(view(2).number, 3, log(5)[3:]))
        member.settle()
        assert member.number == view(2).number
        assert member.disk.log == log(5)[3:]


@rule("C1 forgets the A2 table")
def test_the_table_of_senders_comes_with_the_snapshot(trial: Trial) -> None:
    """C1: A snapshot is one consistent read transaction over the state machines, the K1 table with its horizon, the"""
    member, chunks = receives(trial)
    member.hear(3, *chunks)
    member.settle()
    with trial.decides():
        member.hear(3, Records(view(2).number, 3, log(5)[3:]))
        assert member.running.window.end == 5


@rule("C1 uses a snapshot after a higher promise")
def test_a_snapshot_is_refused_after_a_higher_promise(trial: Trial) -> None:
    """C1: using a snapshot is one durable switch, refused if the receiver has promised higher since it asked"""
    member, chunks = receives(trial)
    member.hear(3, chunks[0])
    member.hear(2, prepare(ViewNumber(6, 2)))
    with trial.decides():
        out = member.hear(3, chunks[1])
        assert not persisted(out, UseSnapshot)
        assert not member.running.opening


@rule("C1 begins a snapshot again")
def test_a_snapshot_is_resumed_where_it_stopped(trial: Trial) -> None:
    """C1: and nothing else, streamed as checksummed, resumable chunks."""
    member = has_delivered(trial)
    made = member.make_snapshot(*CHUNKS)
    member.step(TrimAsked(4))
    with trial.decides():
        for wanted, chunk, served in (("", 0, 0), (made.snapshot, 1, 1), ("an older one", 1, 0)):
            asked = Fetch(member.number, 0, 5, bytes(16), snapshot=wanted, chunk=chunk)
            assert member.hear(3, asked).serves == [
                ServeChunk(3, member.number, made.snapshot, made.slot, made.chain, served, 2)
            ]


@rule("C2 trims past the snapshot", "C2 never trims")
def test_the_log_is_trimmed_up_to_the_newest_snapshot(trial: Trial) -> None:
    """C2: A trim never goes past the newest snapshot, nor past what is stored and delivered here"""
    member = has_delivered(trial, slots=4)
    member.make_snapshot()
    member.hear(2, ack(member.number, 4))
    member.submit(b"one more")
    member.settle()
    for other in (2, 3):
        member.hear(other, ack(member.number, 5))
    with trial.decides():
        member.running.window.forget(5, 0, 0)
        member.step(TrimAsked(5))
        member.settle()
        assert (member.disk.first, member.running.window.first) == (4, 4)
        assert member.hear(3, Fetch(member.number, 4, 5, member.disk.chain(4))).serves == [
            ServeRecords(3, member.number, 4, 5, chain=member.disk.chain(4))
        ]


@rule("C2 trims past a member")
def test_the_log_is_not_trimmed_past_a_member_that_was_seen(trial: Trial) -> None:
    """C2: up to the *hard bound* also not past a member that was seen within `retention_grace`."""
    member = lags(trial)
    with trial.decides():
        member.step(TrimAsked(5, overdue=1))
        assert member.running.window.first == 2
        member.wait(60_001)
        member.step(TrimAsked(5))
        assert member.running.window.first == 5  # seen too long ago: a snapshot will do for it


@rule("C2 lets a member hold the log", "C2 takes the hard bound for the snapshot's")
def test_beyond_the_hard_bound_a_member_that_lags_gets_a_snapshot(trial: Trial) -> None:
    """C2: Beyond the hard bound a member that lags holds nothing back: it gets a snapshot instead of the log (C1)."""
    member = lags(trial)
    with trial.decides():
        out = member.step(TrimAsked(5, overdue=4))
        assert member.running.window.first == 4
        (told,) = [fact for fact in out.facts if fact.name == "trimmed_past"]
        assert told.fields["members"] == [3]
        member.settle()
        assert member.hear(3, Nack(member.number, 2, 5, ())).serves == [
            ServeChunk(3, member.number, "1-1-5", 5, member.disk.chain(5), 0, 2)
        ]
        member.submit(b"one more")
        member.settle()
        member.hear(2, ack(member.number, 6))
        member.step(TrimAsked(6, overdue=6))
        assert member.running.window.first == 5  # the newest snapshot is at 5


@rule("C2 keeps the window")
def test_a_trim_reaches_into_the_window(trial: Trial) -> None:
    """C2: A trim never goes past the newest snapshot, nor past what is stored and delivered here"""
    member = trial.running(1, base=log(5))
    for other in (2, 3):
        member.hear(other, ack(member.number, 5))
    member.settle()
    member.make_snapshot()
    with trial.decides():
        member.step(TrimAsked(3))
        member.settle()
        assert (member.disk.first, member.running.window.first, member.running.window.base) == (3, 3, 3)


def lags(trial: Trial) -> Host:
    """Member 1 runs view 2, has delivered five slots and made a snapshot; member 3 is heard and has stored two."""
    member = trial.bench(1, log=log(5), installed=view(1), window_slots=1, retention_grace_ms=60_000)
    member.install(view(2, log(5)))
    member.hear(2, ack(member.number, 5))
    member.hear(3, ack(member.number, 2))
    member.settle()
    member.make_snapshot()
    return member
