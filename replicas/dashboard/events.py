"""What happened between two looks, in words. Pure: the same two snapshots always tell the same events."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from replicas.dashboard.snapshot import Replica, Said, Snapshot

#: good: something came back; info: it happens; bad: something is away.
Level: TypeAlias = Literal["good", "info", "bad"]
Kind: TypeAlias = Literal["view", "lost", "found", "state", "members", "health", "alarm", "election"]


class Event(NamedTuple):
    """`subject`: whom it is about, such as `replica 3`."""

    kind: Kind
    level: Level
    subject: str
    text: str


def differences(before: Snapshot, after: Snapshot) -> list[Event]:
    """Every event between two looks, the second `after` the first: causes first, then what they did to the cluster."""
    return [
        *_replicas(before.replicas, after.replicas),
        *_view(before, after),
        *_members(before, after),
        *_health(before, after),
        *_products(before, after),
    ]


def view_name(view: Iterable[int]) -> str:
    """As `ringcast status` writes it."""
    return ".".join(map(str, view))


def _replicas(before: Sequence[Replica], after: Sequence[Replica]) -> Iterator[Event]:
    known = {one.id: one for one in before}
    for one in after:
        last, subject = known.get(one.id), f"replica {one.id}"
        if last is None:
            continue
        yield from _presence(subject, last, one)
        if one.error is None and last.error is None and one.state != last.state:
            level: Level = "good" if one.state == "serving" else "info"
            yield Event("state", level, subject, f"{last.state} → {one.state}")
        yield from _alarms(subject, last, one)


def _presence(subject: str, last: Said, one: Said) -> Iterator[Event]:
    if one.error is not None and last.error is None:
        yield Event("lost", "bad", subject, f"lost: {one.error}")
    if one.error is None and last.error is not None:
        yield Event("found", "good", subject, f"answers again: {one.state}")


def _alarms(subject: str, last: Said, one: Said) -> Iterator[Event]:
    if one.error is not None:
        return  # one that is away has the alarms that it had
    for text in one.alarms:
        if text not in last.alarms:
            yield Event("alarm", "bad", subject, text)
    if last.error is None:
        for text in last.alarms:
            if text not in one.alarms:
                yield Event("alarm", "good", subject, f"over: {text}")


def _view(before: Snapshot, after: Snapshot) -> Iterator[Event]:
    last, now = before.installed, after.installed
    if now is None or (last is not None and now.view == last.view):
        return
    ring, was = set(now.ring), set(last.ring if last is not None else now.ring)
    gone, come = sorted(was - ring), sorted(ring - was)
    change = "".join([*(f", without {member}" for member in gone), *(f", with {member}" for member in come)])
    text = f"{view_name(now.view)} is installed: ring {' '.join(map(str, now.ring))}{change}"
    yield Event("view", "info", "view", text)


def _members(before: Snapshot, after: Snapshot) -> Iterator[Event]:
    if not before.heard or not after.heard:
        return  # nobody says who the members are
    was, now = set(before.members), set(after.members)
    for member in sorted(now - was):
        yield Event("members", "info", f"replica {member}", "is a member now")
    for member in sorted(was - now):
        yield Event("members", "info", f"replica {member}", "is no member any more")


def _health(before: Snapshot, after: Snapshot) -> Iterator[Event]:
    if before.health == after.health:
        return
    level: Level = "good" if after.health == "healthy" else "bad"
    counts = f"{after.serving} of {len(after.members)} replicas serve, {after.quorum} are needed"
    yield Event("health", level, "bus", f"{after.health}: {counts}")


def _products(before: Snapshot, after: Snapshot) -> Iterator[Event]:
    known = {one.id: one for one in before.products or ()}
    for one in after.products or ():
        last, subject = known.get(one.id), f"products {one.id}"
        if last is not None:
            yield from _presence(subject, last, one)
            yield from _alarms(subject, last, one)
    if before.products is None or after.products is None:
        return
    was, now = before.products_leader, after.products_leader
    if now is None and was is not None:
        yield Event("election", "bad", "product store", "no leader answers")
    elif now is not None and (was is None or (was.id, was.term) != (now.id, now.term)):
        yield Event("election", "good", f"products {now.id}", f"leads in term {now.term}")
    if was is not None and now is not None and was.members != now.members:
        yield Event("members", "info", "product store", f"members {' '.join(map(str, now.members))}")
