"""V7, C1: an install that is interrupted, answered wrongly or resumed."""

from dataclasses import replace
from typing import Any

import pytest

from sequencer import installation
from sequencer.messages import Chains, Fetch, Installed, Nack, Records
from sequencer.output import (
    CutLog,
    PeerLost,
    ServeChunk,
    ServeRecords,
    SnapshotMade,
    StageChunk,
    TrimAsked,
    UseSnapshot,
)
from sequencer.types import GENESIS_CHAIN, SlotRecord, ViewNumber
from tests.sequencer.builders import ack, log, new_view, prepare, stable, view
from tests.sequencer.disk import Disk, World
from tests.sequencer.harness import Host, bench, matching, one, persisted, running
from tests.sequencer.snapshots import snapshot_chunks


def installing(base: tuple[SlotRecord, ...], here: tuple[SlotRecord, ...] = (), **limits: Any) -> Host:
    """Member 1 installs view 2 over `base`."""
    member = bench(1, log=here, installed=view(1), **limits)
    member.hear(3, new_view(view(2, base)))
    member.settle()
    return member


def test_the_same_announcement_again_changes_nothing() -> None:
    """V5: also from another member."""
    member = installing(log(2))
    for sender in (2, 3):
        assert not member.hear(sender, new_view(view(2, log(2)))).persists


def test_a_member_that_lacks_what_it_is_the_source_of_asks_who_has_installed() -> None:
    """Nobody at first."""
    member = bench(1, installed=view(1))
    member.hear(3, new_view(view(2, log(2), source=1)))
    assert not matching([*member.settle(), *member.wait(60)], Fetch)
    member.hear(2, ack(view(2).number, 2))
    one(member.wait(50), Fetch, to=2)


def test_a_record_that_does_not_fit_is_refused() -> None:
    """C1: it names what it does not hold; records before it are kept, those behind it are not."""
    member = installing(log(4))
    records = log(4)
    hollow = replace(records[2], requests=())
    out = member.hear(3, Records(view(2).number, 0, (records[0], records[1], hollow, records[3])))
    assert [fact.fields["slot"] for fact in out.facts if fact.name == "record_refused"] == [2]
    assert member.running.window.end == 2


def test_records_beyond_the_base_are_not_taken() -> None:
    """Slots at the base and above come by A8 only."""
    member = installing(log(1))
    member.hear(3, Records(view(2).number, 0, log(3)))
    assert member.running.window.end == 1


def test_what_is_on_its_way_is_not_asked_for() -> None:
    """C1: only the last part of an answer is followed by a FETCH, at once."""
    member = installing(log(6))
    out = member.hear(3, Records(view(2).number, 0, log(6)[:2], more=True))
    assert member.running.window.end == 2
    assert not matching(out.sends, Fetch)
    one(member.hear(3, Records(view(2).number, 2, log(6)[2:4])).sends, Fetch, to=3, first=4)


def test_who_feeds_an_install_is_given_time() -> None:
    """It is only busy; one that is not heard any more, or is silent for long, is not waited for."""
    member = installing(log(6))
    member.hear(2, ack(view(2).number, 6))
    member.hear(3, Records(view(2).number, 0, log(6)[:2], more=True))
    assert not matching(member.wait(250), Fetch)
    member.hear(2, ack(view(2).number, 6))
    assert {sent.to for sent in member.sends if isinstance(sent.message, Fetch)} == {3}
    member.wait(100)
    assert {sent.to for sent in member.sends if isinstance(sent.message, Fetch)} == {2, 3}
    member.hear(3, Records(view(2).number, 2, log(6)[2:4], more=True))
    member.step(PeerLost(3))
    one(member.wait(60), Fetch, to=2, first=4)


def test_published_requests_are_not_wanted_while_records_come() -> None:
    """A8: they come again within records; before and after it they are."""
    member = installing(log(6))
    wanted = [member.running.wants_requests]
    for first, end in ((0, 2), (2, 6)):
        member.hear(3, Records(view(2).number, first, log(6)[first:end]))
        wanted.append(member.running.wants_requests)
    assert wanted == [True, False, True]


def test_published_requests_are_wanted_by_who_installs_nothing() -> None:
    """A8, C1: also while a snapshot comes in, and once the install that was fed is given up for a promise."""
    member = bench(1, installed=view(1))
    chunk, _ = snapshot_chunks(member, view(1).number, 3)
    assert persisted(member.hear(3, chunk), StageChunk)
    assert member.running.wants_requests
    member = installing(log(6))
    member.hear(3, Records(view(2).number, 0, log(6)[:2], more=True))
    member.hear(2, prepare(ViewNumber(9, 2)))
    assert member.running.wants_requests


def test_chains_that_agree_cut_nothing() -> None:
    """An answer to an earlier FETCH: what was compared is the same."""
    member = installing(log(3), here=log(2))
    chains = tuple(made.sequence.chain for made in log(2))
    assert not member.hear(3, Chains(view(2).number, 0, chains)).persists
    assert not member.hear(3, Chains(view(1).number, 0, (b"", b""))).persists
    assert not member.hear(3, Chains(view(2).number, 5, (b"",))).persists
    assert member.running.window.end == 2


def test_all_chains_may_differ() -> None:
    """Then the log is cut below them, and the next ones are compared."""
    member = installing(log(4), here=log(4, word=b"other "))
    out = member.hear(3, Chains(view(2).number, 2, tuple(made.sequence.chain for made in log(4)[2:])))
    assert [cut.end for cut in persisted(out, CutLog)] == [2]
    one(out.sends, Fetch, to=3, first=2)


def test_a_newer_install_may_end_before_the_older_one_is_durable() -> None:
    """V7: only the newest acts."""
    member = bench(1, installed=view(1))
    member.hear(3, new_view(view(2)))
    member.hear(3, new_view(view(3)))
    sends = member.settle()
    assert [sent.number for sent in matching(sends, Installed)] == [view(3).number]
    assert member.number == view(3).number


def test_an_install_that_a_promise_overtakes_is_reported_but_does_not_run() -> None:
    """V7, V3: it is durable, so it is the log view; but the promise is higher."""
    member = bench(1, installed=view(1))
    member.hear(3, new_view(view(2)))
    member.hear(2, prepare(ViewNumber(9, 2)))
    sends = member.settle()
    assert matching(sends, Installed)
    assert not member.running.runs
    assert member.running.token is None
    assert member.running.stable.log_view == view(2).number


def test_who_is_behind_the_source_gets_records_from_memory_or_disk() -> None:
    member = running(1, base=log(6), window_slots=2)
    number = member.number
    chain = log(6)[4].sequence.chain
    out = member.hear(3, Fetch(number, 5, 6, chain))
    assert one(out.sends, Records, to=3).records == log(6)[5:]
    out = member.hear(3, Fetch(number, 1, 6, b"the asker's chain"))
    assert out.serves == [ServeRecords(3, number, 1, 4, chain=b"the asker's chain")]
    for nothing in (Fetch(number, 6, 6, log(6)[5].sequence.chain), Fetch(number, 9, 12, chain)):
        out = member.hear(3, nothing)
        assert not out.serves
        assert not matching(out.sends, Records)


def test_who_has_another_log_gets_the_chains() -> None:
    """V7: so that it can cut."""
    member = running(1, base=log(4))
    sent = one(member.hear(3, Fetch(member.number, 3, 4, b"another chain")).sends, Chains, to=3)
    assert (sent.first, sent.chains) == (0, tuple(made.sequence.chain for made in log(3)))
    assert not matching(member.hear(3, Fetch(member.number, 0, 4, b"nonsense")).sends, Chains)


def test_the_source_serves_while_it_installs_itself() -> None:
    """V7: from the source, or a member that has installed v."""
    member = bench(1, log=log(2), installed=view(1))
    announced = view(2, log(2), source=1)
    member.hear(3, new_view(announced))
    assert one(member.hear(3, Fetch(announced.number, 0, 2, GENESIS_CHAIN)).sends, Records, to=3).records == log(2)


def test_a_trimmed_log_without_a_snapshot_serves_nothing() -> None:
    """The shell says which snapshot it has as soon as it has one."""
    world = World()
    disk = Disk(world, stable(1, view(1)), log(4))
    for made in log(4):
        disk.state = disk.state.after(made)
    disk.base, disk.first = disk.chain(4), 4
    disk.records.clear()
    member = Host(world, bench().config, 1, disk)
    member.start()
    member.settle()
    asked = Fetch(view(1).number, 0, 4, GENESIS_CHAIN)
    assert not member.hear(3, asked).serves
    member.step(SnapshotMade("mine", 4, disk.base, 1))
    served = [ServeChunk(3, view(1).number, "mine", 4, disk.base, 0, 1)]
    assert member.hear(3, asked).serves == served
    assert member.hear(3, Nack(view(1).number, 1, 4, ())).serves == served


def test_chunks_are_taken_in_their_order_once() -> None:
    """C1."""
    member = installing(log(3))
    first, second = snapshot_chunks(member, view(2).number, 3)
    assert not persisted(member.hear(3, second), StageChunk)
    one(member.hear(3, first).sends, Fetch, to=3, snapshot="peer", chunk=1)
    assert not persisted(member.hear(3, first), StageChunk)
    assert persisted(member.hear(3, second), UseSnapshot)
    assert not member.hear(3, second).persists  # it is being opened
    member.settle()
    assert member.number == view(2).number


def test_who_began_a_snapshot_ends_it() -> None:
    """C1: each member's snapshot is another one; with answers slower than the asking, two would replace each other."""
    member = installing(log(3), fetch_interval_ms=50, view_timeout_ms=400)
    member.hear(2, ack(view(2).number, 3))
    ours, theirs = (snapshot_chunks(member, view(2).number, 3, name=name) for name in ("ours", "theirs"))
    member.hear(3, ours[0])
    assert not persisted(member.hear(2, theirs[0]), StageChunk)
    before = len(member.sends)
    for _ in range(4):
        member.hear(3, ack(view(1).number))
        member.wait(51)
    asked = [send for send in member.sends[before:] if isinstance(send.message, Fetch)]
    assert {(send.to, send.message.snapshot, send.message.chunk) for send in asked} == {(3, "ours", 1)}  # type: ignore[union-attr]
    member.step(PeerLost(3))  # it gives no more
    assert persisted(member.hear(2, theirs[0]), StageChunk)
    assert persisted(member.hear(2, theirs[1]), UseSnapshot)


def test_a_holder_may_begin_a_newer_snapshot() -> None:
    """C1: its old one is gone."""
    member = installing(log(3))
    older, newer = (snapshot_chunks(member, view(2).number, 3, name=name) for name in ("older", "newer"))
    member.hear(3, older[0])
    assert persisted(member.hear(3, newer[0]), StageChunk)
    assert persisted(member.hear(3, newer[1]), UseSnapshot)


def test_a_snapshot_of_what_is_here_is_not_taken() -> None:
    member = installing(log(5), here=log(3))
    assert not member.hear(3, *snapshot_chunks(member, view(2).number, 3)).persists


def test_a_newer_view_begins_its_snapshot_anew() -> None:
    """C1: what was staged belonged to the view that was left."""
    member = installing(log(3))
    member.hear(3, snapshot_chunks(member, view(2).number, 3)[0])
    out = member.hear(3, new_view(view(4, log(3))))
    one(out.sends, Fetch, to=3, snapshot="", chunk=0)


def test_an_install_that_is_beyond_its_base_after_a_restart_is_complete() -> None:
    """C1: a snapshot of a member that had installed the view replaced the log; nothing is cut."""
    member = installing(log(2))
    member.hear(3, *snapshot_chunks(member, view(2).number, 4))
    member.disk.sync()
    member.kill()
    member.start()
    member.settle()
    out = member.hear(2, new_view(view(2, log(2))))
    assert not persisted(out, CutLog)
    member.settle()
    assert member.number == view(2).number
    assert member.disk.first == 4


def test_nothing_is_trimmed_without_a_reason() -> None:
    """C2: no snapshot, or nothing below it."""
    member = running(1, base=log(3), window_slots=1)
    assert not member.step(TrimAsked(3)).persists


def test_cut_requests_may_be_ordered_again() -> None:
    """V10: what is cut goes back to the buffer, in order."""
    member = bench(1, log=log(3), installed=view(1))
    member.hear(2, ack(view(1).number))
    member.hear(3, new_view(view(2, log(1))))
    gone = log(3)[1:]
    assert all(member.running.buffer.get(r.sender, r.incarnation, r.lsn) == r for made in gone for r in made.requests)


def test_what_is_fetched_is_not_kept_in_memory() -> None:
    """C1: a log that is larger than memory is caught up with."""
    member = bench(1, installed=view(1), window_slots=2)
    member.hear(3, new_view(view(2, log(40))))
    member.settle()
    for first in range(0, 30, 5):
        member.hear(3, Records(view(2).number, first, log(40)[first : first + 5], more=True, committed=first + 5))
        member.settle()
        assert member.running.window.end - member.running.window.base == 2
    assert len(member.delivered) == 30


def test_the_disk_sets_the_pace_of_a_catch_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A9: what is fetched and not stored is bounded in bytes."""
    monkeypatch.setattr(installation, "FETCH_AHEAD_BYTES", 2 * log(1)[0].size)
    member = installing(log(9))
    assert matching(member.hear(3, Records(view(2).number, 0, log(9)[:2])).sends, Fetch)
    assert not matching(member.hear(3, Records(view(2).number, 2, log(9)[2:4])).sends, Fetch)
    assert not matching(member.wait(700, settle=False), Fetch)
    assert matching(member.settle(), Fetch, to=3, first=4)
