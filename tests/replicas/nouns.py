"""Hypothesis strategies for the protocol's nouns and messages."""

from hypothesis import strategies as st

from replicas.bus.parts import MEMBER_ID_MAX
from ringcast.strict import U63_MAX, U64_MAX
from sequencer import messages as m
from sequencer.chain import digest
from sequencer.types import (
    BackOff,
    ClockReset,
    Entry,
    Identity,
    Incarnation,
    Learner,
    MembersChange,
    Request,
    Sequence,
    SlotRecord,
    StableState,
    View,
    ViewNumber,
)

u63 = st.integers(0, U63_MAX)
u64 = st.integers(0, U64_MAX)
members = st.integers(1, MEMBER_ID_MAX)
chains = st.binary(min_size=16, max_size=16)
numbers = st.builds(ViewNumber, u63, st.integers(0, MEMBER_ID_MAX))
incarnations = st.builds(Incarnation, u63, u64)
identities = st.builds(Identity, incarnations, u64)
frames = st.lists(st.binary(max_size=64), min_size=1, max_size=4).map(tuple)
heards = st.integers(0, (1 << 64) - 1)
configurations = st.sets(members, min_size=1, max_size=7).map(lambda ids: tuple(sorted(ids)))
changes = st.builds(ClockReset, u63) | st.builds(
    MembersChange, configurations, configurations, st.integers(-1, U63_MAX), st.binary(max_size=64)
)


@st.composite
def views(draw: st.DrawFn) -> View:
    """A view whose ring is among its members."""
    configured = draw(configurations)
    ring = tuple(sorted(draw(st.sets(st.sampled_from(configured), min_size=1))))
    learners = tuple(Learner(member, draw(st.none() | identities)) for member in configured if member not in ring)
    back_offs = tuple(
        BackOff(member, draw(st.integers(0, 10))) for member in draw(st.sets(st.sampled_from(configured)))
    )
    return View(
        draw(numbers),
        ring,
        draw(members),
        draw(u63),
        draw(chains),
        configured,
        draw(configurations),
        learners,
        back_offs,
    )


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A request with the digest of its frames."""
    change = draw(st.none() | changes)
    carried = draw(frames) if change is None else ()
    lsn = draw(st.integers(1, U63_MAX))
    return Request(draw(members), draw(incarnations), lsn, carried, digest(carried, change), change)


#: What a request carries: batches or a change.
carriers = st.tuples(frames, st.none()) | st.tuples(st.just(()), changes)


@st.composite
def sequences(draw: st.DrawFn) -> Sequence:
    """A SEQUENCE with a few entries."""
    entries = []
    for _ in range(draw(st.integers(0, 3))):
        first, digests = draw(st.integers(1, 1 << 40)), draw(st.lists(chains, min_size=1, max_size=3))
        last = first + len(digests) - 1
        entries.append(Entry(draw(members), draw(incarnations), first, last, tuple(digests)))
    return Sequence(draw(numbers), draw(u63), draw(u63), tuple(entries), draw(chains))


@st.composite
def records(draw: st.DrawFn) -> SlotRecord:
    """A record whose requests are those that its entries name."""
    entries, carried = [], []
    for _ in range(draw(st.integers(0, 3))):
        sender, incarnation, first = draw(members), draw(incarnations), draw(st.integers(1, 1 << 40))
        run = [
            Request(sender, incarnation, first + at, one, digest(one, change), change)
            for at, (one, change) in enumerate(draw(st.lists(carriers, min_size=1, max_size=3)))
        ]
        digests = tuple(request.digest for request in run)
        entries.append(Entry(sender, incarnation, first, first + len(run) - 1, digests))
        carried += run
    sequence = Sequence(draw(numbers), draw(u63), draw(u63), tuple(entries), draw(chains))
    return SlotRecord(sequence, tuple(carried))


@st.composite
def states(draw: st.DrawFn) -> StableState:
    """A stable state; not every one is reachable, every one must travel."""
    return StableState(
        member=draw(members),
        storage=draw(u64),
        incarnation=draw(incarnations),
        cluster=draw(u64),
        marks=draw(st.frozensets(u64, max_size=4)),
        wiped=draw(st.booleans()),
        promised=draw(numbers),
        announced=draw(st.none() | views()),
        view=draw(st.none() | views()),
        known=draw(st.dictionaries(members, identities, max_size=4)),
        whole=draw(st.booleans()),
    )


statuses = st.builds(
    m.Status,
    view=numbers,
    runs=st.booleans(),
    promised=numbers,
    stored=u63,
    commit=u63,
    accepted_hop=st.integers(-1, U63_MAX),
    newest_lsn=u63,
    heard=heards,
    wiped=st.booleans(),
    leaving=st.booleans(),
)
vectors = st.lists(st.builds(m.Known, members, identities), max_size=3).map(tuple)
_requests = st.lists(requests(), max_size=3).map(tuple)
_sequences = st.lists(sequences(), max_size=2).map(tuple)
_records = st.lists(records(), max_size=3).map(tuple)


@st.composite
def ranges(draw: st.DrawFn) -> m.LsnRange:
    """first <= last."""
    first = draw(st.integers(1, 1 << 40))
    return m.LsnRange(draw(members), draw(incarnations), first, first + draw(st.integers(0, 100)))


@st.composite
def nacks(draw: st.DrawFn) -> m.Nack:
    """first <= end."""
    first = draw(st.integers(0, 1 << 40))
    wanted = tuple(draw(st.lists(ranges(), max_size=3)))
    return m.Nack(draw(numbers), first, first + draw(st.integers(0, 100)), wanted)


@st.composite
def chunks(draw: st.DrawFn) -> m.SnapshotChunk:
    """index < count."""
    index = draw(st.integers(0, 100))
    name = draw(st.text(max_size=30))
    return m.SnapshotChunk(
        draw(numbers), name, draw(u63), draw(chains), index, index + draw(st.integers(1, 9)), draw(st.binary())
    )


@st.composite
def backfills(draw: st.DrawFn) -> m.Backfill:
    """first < below."""
    first = draw(st.integers(0, 1 << 40))
    return m.Backfill(first + draw(st.integers(1, 100)), draw(chains), first)


@st.composite
def backfilled(draw: st.DrawFn) -> m.Backfilled:
    """A note for each record."""
    carried = draw(_records)
    return m.Backfilled(draw(u63), draw(chains), carried, tuple(draw(st.binary(max_size=60)) for _ in carried))


#: One strategy for each kind of message; a test holds that none is missing.
MESSAGES: dict[type[m.Message], st.SearchStrategy[m.Message]] = {
    m.Broadcast: st.builds(m.Broadcast, statuses, _requests, _sequences),
    m.Clock: st.builds(m.Clock, u63, u63),
    m.Token: st.builds(m.Token, numbers, u63, u63, u63, _sequences),
    m.Nack: nacks(),
    m.Retransmit: st.builds(m.Retransmit, numbers, _requests, _records),
    m.Prepare: st.builds(m.Prepare, numbers, u64, vectors, st.booleans(), numbers),
    m.Promise: st.builds(m.Promise, numbers, numbers, u63, u63, chains, u63, vectors, heards, *[configurations] * 3),
    m.Refused: st.builds(m.Refused, numbers, numbers),
    m.Healthy: st.builds(m.Healthy, numbers, views()),
    m.NewView: st.builds(m.NewView, views()),
    m.Installed: st.builds(m.Installed, numbers),
    m.Fetch: st.builds(m.Fetch, numbers, u63, u63, chains, st.booleans(), st.text(max_size=30), u63),
    m.Records: st.builds(m.Records, numbers, u63, _records, st.booleans(), st.booleans(), u63),
    m.Chains: st.builds(m.Chains, numbers, u63, st.lists(chains, max_size=4).map(tuple)),
    m.SnapshotChunk: chunks(),
    m.Read: st.builds(m.Read, u64),
    m.ReadOk: st.builds(m.ReadOk, u64, numbers, u63),
    m.Join: st.builds(m.Join, u64, st.booleans(), u63, numbers, heards),
    m.Joined: st.builds(m.Joined, views(), st.none() | identities),
    m.Leave: st.builds(m.Leave),
    m.Holdings: st.builds(m.Holdings, u63, st.booleans(), st.booleans()),
    m.Backfill: backfills(),
    m.Backfilled: backfilled(),
}
