"""Events are the differences between two looks, and nothing else."""

from replicas.dashboard.events import Event, differences
from replicas.dashboard.snapshot import NOT_UNDERSTOOD, Replica, Snapshot
from tests.dashboard.nouns import gone, product, row, snapshot


def happened(before: Snapshot, after: Snapshot) -> list[Event]:
    first = before if before.installed is not None else before.after(None)
    return differences(first, after.after(first))


def told(before: Snapshot, after: Snapshot) -> list[tuple[str, str, str]]:
    return [(event.kind, event.level, event.subject) for event in happened(before, after)]


def test_nothing_happens_while_the_token_and_offsets_move() -> None:
    assert told(snapshot(), snapshot(row(1, token_holder=1, end=90, committed=80, next_offset=900))) == []


def test_a_replica_is_lost_and_a_view_goes_on_without_it() -> None:
    after = snapshot(row(1, view=(4, 1), ring=(1, 2)), row(2, view=(4, 1), ring=(1, 2)), gone(3))
    assert told(snapshot(), after) == [
        ("lost", "bad", "replica 3"),
        ("view", "info", "view"),
        ("health", "bad", "bus"),
    ]
    texts = [event.text for event in happened(snapshot(), after)]
    assert texts[1] == "4.1 is installed: ring 1 2, without 3"
    assert texts[2] == "degraded: 2 of 3 replicas serve, 2 are needed"


def test_a_replica_comes_back() -> None:
    assert told(snapshot(gone(3)), snapshot()) == [("found", "good", "replica 3"), ("health", "good", "bus")]


def test_the_same_view_from_another_replica_is_no_event() -> None:
    """The one that said it first is lost; who is left is not ahead of it."""
    assert "view" not in {kind for kind, _, _ in told(snapshot(), snapshot(gone(1), row(2, view=(2, 1))))}


def test_everybody_is_lost_and_nobody_is_called_removed() -> None:
    before = snapshot().after(None)
    nobody = snapshot(gone(1), gone(2), gone(3)).after(before)
    assert [kind for kind, _, _ in told(before, nobody)] == ["lost", "lost", "lost", "health"]
    assert [kind for kind, _, _ in told(nobody, snapshot())] == ["found", "found", "found", "health"]


def test_a_view_change_in_which_nobody_has_a_ring_says_who_is_missing() -> None:
    before = snapshot().after(None)
    between = snapshot(*(row(member, ring=()) for member in (1, 2, 3))).after(before)
    assert "view" not in {kind for kind, _, _ in told(before, between)}
    after = snapshot(*(row(member, view=(4, 1), ring=(1, 2)) for member in (1, 2, 3)))
    assert [event.text for event in happened(between, after)] == ["4.1 is installed: ring 1 2, without 3"]


def test_states_and_alarms_begin_and_end() -> None:
    full = snapshot(row(2, state="read-only: disk full", in_quorum=False, disk_full=True))
    assert happened(snapshot(), full)[:2] == [
        Event("state", "info", "replica 2", "serving → read-only: disk full"),
        Event("alarm", "bad", "replica 2", "its disk is full"),
    ]
    assert happened(full, snapshot())[:2] == [
        Event("state", "good", "replica 2", "read-only: disk full → serving"),
        Event("alarm", "good", "replica 2", "over: its disk is full"),
    ]


def test_members_come_and_go() -> None:
    four = tuple(row(member, view=(4, 1), members=(1, 2, 3, 4), ring=(1, 2, 3, 4)) for member in (1, 2, 3, 4))
    assert ("members", "info", "replica 4") in told(snapshot(), snapshot(*four))
    assert ("members", "info", "replica 4") in told(
        snapshot(*four), snapshot(*(row(m, view=(5, 1)) for m in (1, 2, 3)))
    )


def test_an_election_of_the_product_store() -> None:
    group = [product(1), product(2), product(3)]
    before = snapshot(products=group)
    leaderless = snapshot(products=[gone(1), product(2, leader=None), product(3, leader=None)])
    assert told(before, leaderless) == [("lost", "bad", "products 1"), ("election", "bad", "product store")]
    elected = snapshot(products=[gone(1), product(2, role="leader", term=3, leader=2), product(3, term=3, leader=2)])
    assert happened(leaderless, elected) == [Event("election", "good", "products 2", "leads in term 3")]


def test_an_answer_of_another_version_is_said_not_raised() -> None:
    assert Replica.read({"replica": 2, "state": "serving"}).error == NOT_UNDERSTOOD


def test_lag_and_health_are_of_all() -> None:
    found = snapshot(row(2, applied=4), gone(3))
    assert [found.lag(one) for one in found.replicas] == [0, 6, 10]
    assert (found.health, found.serving, found.quorum) == ("degraded", 2, 2)
    assert snapshot(gone(2), gone(3)).health == "down"


def test_a_broken_link_is_an_alarm_of_who_is_outside_the_ring() -> None:
    outside = row(3, ring=(1, 2), in_ring=False, links="does not hear replica 2")
    beside = row(2, ring=(1, 2), in_ring=True, links="does not hear replica 3")
    alarms = [one.alarms for one in snapshot(outside, beside).heard]
    assert alarms == [(), (), ("outside the ring: does not hear replica 2",)]
