"""D1-D6: what is on the disk before anything speaks of it."""

from sequencer.messages import Broadcast, Fetch, Installed, Join, NewView, Prepare, Promise, Records, Token
from sequencer.output import CutLog, DiskFilled, DiskFreed, RecoverAsked, RepairRecord
from sequencer.types import ViewNumber
from tests.rules.trial import Trial, rule
from tests.sequencer.builders import ack, join, log, new_view, prepare, promise, published, stable, view
from tests.sequencer.disk import Disk, World
from tests.sequencer.harness import Host, matching, one, persisted


@rule("D1 records without payloads", "D1 records with a hole")
def test_one_record_holds_the_sequence_and_its_payloads(trial: Trial) -> None:
    """D1: One log record per slot holds the SEQUENCE entry (with its view) and its payloads; contiguous records"""
    member = trial.running(2)
    slots = log(3, member.number, sender=1)
    with trial.decides():
        for slot in (slots[1], slots[0], slots[2]):
            member.hear(1, published(member.number, [slot]))
        member.settle()
        assert member.disk.log == slots


@rule("D2 acknowledges before the sync")
def test_a_slot_is_acknowledged_after_its_sync(trial: Trial) -> None:
    """D2: A member acknowledges slot k only after the transaction that holds k is synced (!)."""
    member = trial.running(2)
    slots = log(1, member.number, sender=1)
    with trial.decides():
        member.hear(1, published(member.number, slots), ack(member.number, newest_lsn=1))
        assert {sent.status.stored for sent in matching(member.wait(80, settle=False), Broadcast)} == {0}
        assert one(member.settle(), Broadcast).status.stored == 1


@rule("D2 forgets that its memory was lost")
def test_a_start_without_the_clean_stop_mark_makes_the_member_wiped(trial: Trial) -> None:
    """D2: In this mode every start without the clean-stop mark (erased durably at start) makes the member wiped (V0)"""
    disk = Disk(World(), stable(2, view(1), promised=ViewNumber(4, 1)))
    member = Host(disk.world, trial.bench().config, 2, disk, rules=trial.rules, core=trial.core)
    with trial.decides():
        member.start(lost_memory=True)
        member.settle()
        assert member.durable().wiped
        assert member.durable().promised == ViewNumber(4, 1)  # "with its D3 values kept"
        assert not matching([*member.hear(3, prepare(ViewNumber(9, 3), 3)).sends, *member.settle()], Promise)


@rule("D2 memory waits for the sync")
def test_durability_memory_moves_the_ack_before_the_sync(trial: Trial) -> None:
    """D2: moves the ACK before the sync and changes nothing else: no LMDB flag, and D3 stays synced."""
    member = trial.running(2, durability="memory")
    slots = log(1, member.number, sender=1)
    with trial.decides():
        out = member.hear(1, published(member.number, slots))
        assert one(out.sends, Broadcast, to=1).status.stored == 1
        assert member.hear(1, ack(member.number, 1)).delivers == list(slots)
        assert not matching(member.hear(3, prepare(ViewNumber(9, 3))).sends, Promise)
        assert one(member.settle(), Promise, to=3).end == 1


@rule("D2 recovers from the promises of a quorum", "D2 hides a possible loss")
def test_recovery_takes_the_promises_of_all_and_says_possible_loss(trial: Trial) -> None:
    """D2: which makes a view from the promises of all n as V5 does; status then says `possible loss`."""
    lost = trial.bench(1, state=stable(1, view(1), wiped=True))
    for other in (2, 3):
        lost.hear(other, ack(view(1).number, wiped=True, runs=False))
    lost.step(RecoverAsked())
    asked = one(lost.settle(), Prepare, to=2)
    with trial.decides():
        lost.hear(2, promise(asked.number, view(1).number, log(2)))
        assert not matching([*lost.settle(), *lost.wait(50)], NewView)
        lost.hear(3, promise(asked.number, view(1).number, log(1)))
        announced = matching(lost.sends, NewView, to=2)[0].view
        assert (announced.source, announced.base) == (2, 2)
        lost.hear(2, Records(asked.number, 0, log(2)))
        lost.settle()
        assert lost.running.runs
        assert lost.running.status().possible_loss


@rule("D3 speaks before it is durable")
def test_nothing_leaves_before_the_incarnation_is_durable(trial: Trial) -> None:
    """D3: the newest incarnation known of each member: durable before any message that depends on them leaves."""
    world = World()
    member = Host(world, trial.bench().config, 1, Disk(world, stable(1, view(1))), rules=trial.rules, core=trial.core)
    with trial.decides():
        member.start()
        assert not member.wait(50, settle=False)
        assert member.settle() or member.wait(1)


@rule("D4 SEQUENCE waits for the disk")
def test_what_claims_nothing_about_the_disk_leaves_at_once(trial: Trial) -> None:
    """D4: What claims nothing about this disk (REQUEST, SEQUENCE, TOKEN, NACK, RETRANSMIT) leaves *at once*"""
    member = trial.running(1)
    with trial.decides():
        out = member.submit(b"mine")
        assert out.persists
        assert len(one(out.sends, Broadcast).sequences) == 1
        one(out.sends, Token, to=2)


@rule("D4 INSTALLED leaves at once")
def test_what_depends_on_the_disk_leaves_after_the_persisted_event(trial: Trial) -> None:
    """D4: leaves only after the `persisted` event of everything before it."""
    member = trial.bench(1, installed=view(1))
    with trial.decides():
        assert not matching(member.hear(3, new_view(view(2))).sends, Installed)
        one(member.sync().sends, Installed, to=3, number=view(2).number)


@rule("D5 goes on with a full disk")
def test_a_member_with_a_full_disk_is_read_only_and_asks_to_go(trial: Trial) -> None:
    """D5: On disk full it turns read-only and unready, asks for a view without itself, drops what it can't store"""
    member = trial.running(1)
    with trial.decides():
        out = member.step(DiskFilled(1))
        assert not member.running.in_quorum()
        assert one(out.sends, Broadcast).status.leaving
        one(out.sends, Token, to=2)
        assert not member.submit(b"mine").persists


@rule("D5 never resumes")
def test_a_member_resumes_when_there_is_space(trial: Trial) -> None:
    """D5: and resumes when there is space."""
    member = trial.running(2)
    member.step(DiskFilled(1))
    with trial.decides():
        member.step(DiskFreed())
        assert member.running.in_quorum()
        member.hear(1, published(member.number, log(1, member.number, sender=1)))
        assert member.running.window.end == 1


def damaged(trial: Trial, *slots: int, applied: int = 1, promised: ViewNumber | None = None) -> Host:
    """Member 1 of view 1 with four records, of which some are damaged."""
    world, records = World(), log(4)
    installed = view(1)
    disk = Disk(world, stable(1, installed, promised=promised or installed.number), records)
    disk.damaged = set(slots)
    for made in records[:applied]:
        disk.state = disk.state.after(made)
    member = Host(world, trial.bench().config, 1, disk, rules=trial.rules, core=trial.core)
    member.start()
    member.settle()
    return member


@rule("D6 cuts at the first bad record", "D6 trims what is damaged")
def test_nothing_visible_is_cut(trial: Trial) -> None:
    """D6: so a bad or missing visible record may have been acknowledged: nothing visible is ever cut, except by V7."""
    member = damaged(trial, 2)
    with trial.decides():
        member.hear(3, ack(view(1).number, 4))
        member.wait(2_000)
        assert member.disk.end == 4
        assert member.disk.first == 0


@rule("D6 a damaged member takes part")
def test_a_damaged_member_answers_nothing(trial: Trial) -> None:
    """D6: and until then promises, acknowledges and answers nothing but JOIN and the install of a newer view"""
    member = damaged(trial, 2)
    with trial.decides():
        out = member.hear(3, prepare(ViewNumber(5, 3), 1, 2, 3), ack(view(1).number, 4))
        answers = [*out.sends, *member.settle(), *member.wait(300)]
        assert not matching(answers, Promise)
        assert {sent.status.stored for sent in matching(answers, Broadcast)} == {0}
        assert all(sent.wiped for sent in matching(answers, Join))


@rule("D6 repairs with any record")
def test_a_record_is_repaired_from_a_peers_with_the_same_chain(trial: Trial) -> None:
    """D6: The member repairs it from a peer's record with the *same chain*"""
    member = damaged(trial, 2)
    member.hear(3, ack(view(1).number, 4))
    wanted = one(member.wait(50), Fetch, to=3, repair=True, first=2, end=3)
    records = log(4)
    other = log(1, after=records[:2], word=b"other ")[2]
    with trial.decides():
        assert wanted.chain == records[1].sequence.chain
        assert not persisted(member.hear(3, Records(wanted.view, 2, (other,), repair=True)), RepairRecord)
        assert persisted(member.hear(3, Records(wanted.view, 2, (records[2],), repair=True)), RepairRecord)
        member.settle()
        assert member.asks_restart()
        assert not member.disk.damaged


@rule("D6 installs the view it promised")
def test_a_view_made_with_its_promise_is_not_installed(trial: Trial) -> None:
    """D6: the install of a newer view made without its promise, which replaces what no peer can repair"""
    member = damaged(trial, 2, promised=ViewNumber(5, 3))
    give_up(member)
    with trial.decides():
        assert not member.hear(3, new_view(view(5, log(3)))).persists
        assert persisted(member.hear(3, new_view(view(6, log(3)))), CutLog)


@rule("D6 forgets that it cut")
def test_a_member_that_replaces_what_is_damaged_is_wiped_until_it_has_installed(trial: Trial) -> None:
    """D6: which replaces what no peer can repair; if the stable state itself is damaged it is wiped (V0)."""
    member = damaged(trial, 2)
    give_up(member)
    records, announced = log(3), view(6, log(3))
    member.hear(3, new_view(announced))
    member.settle()
    with trial.decides():
        assert member.disk.end == 1
        assert member.durable().wiped  # a crash now must not leave a shorter log that looks whole
        member.hear(3, Records(announced.number, 1, records[1:]))
        member.settle()
        assert not member.durable().wiped
        assert member.disk.log == records


def give_up(member: Host) -> None:
    """Let every peer fail to repair what is damaged."""
    for _ in range(20):
        member.hear(2, join(2))
        member.hear(3, join(3))
        member.wait(50)
