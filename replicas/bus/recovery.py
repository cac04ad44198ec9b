"""From a data folder to a core that may be stepped: open, check, read the state back (D6, V0).

What cannot be trusted as a whole is set aside, never deleted: the member starts on an empty folder and comes back as
wiped (V0), fetching everything from its peers. What is damaged in single records is repaired by the core (D6).
"""

from dataclasses import dataclass, replace
from pathlib import Path

from replicas.bus.config import BusConfig
from replicas.bus.record_codec import decode_record, decode_state
from replicas.bus.rows import RowError
from replicas.bus.topics import TopicBounds, Topics
from ringcast.errors import BadFrame
from sequencer.types import DamagedRun, Recovered, SlotRecord, StableState
from store.contract import LogStore, ResetLog
from store.contract import Recovered as StoreRecovered
from store.errors import StoreDamaged
from store.folder import set_aside
from store.log import LmdbStore

_TAIL_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Opened:
    """An open store, what the core is to be made from, and the state machine at its position.

    `set_aside`: where a folder that could not be trusted was moved to, and why.
    """

    store: LogStore
    recovered: Recovered
    topics: Topics
    verified_from: int
    set_aside: tuple[Path, str] | None = None


def open_store(config: BusConfig, bounds: TopicBounds) -> Opened:
    """Open the data folder and read everything back. Raises FolderInUse, WrongFolder, DiskFull, DiskFailed."""
    aside = None
    try:
        return _open(config, bounds, None)
    except (StoreDamaged, RowError) as error:
        aside = (set_aside(config.data), str(error))
    return _open(config, bounds, aside)


def _open(config: BusConfig, bounds: TopicBounds, aside: tuple[Path, str] | None) -> Opened:
    store = LmdbStore(config.data, config.id)
    try:
        found = store.recover()
        recovered = _recovered(store, found, memory=config.durability == "memory")
        topics = Topics.load(bounds, store.rows, store)
        if recovered.stable is not None:
            # Also where damage lets nothing be replayed: a change that is seen again does nothing (V12)
            recovered = replace(recovered, configuration=topics.configuration)
        if recovered.stable is not None and not recovered.damage:
            recovered = _at(store, recovered, topics)
        elif recovered.stable is None:
            topics = Topics(bounds, store)  # emptied by `_recovered`
    except BaseException:
        store.close()
        raise
    return Opened(store, recovered, topics, found.verified_from, aside)


def _recovered(store: LogStore, found: StoreRecovered, *, memory: bool) -> Recovered:
    """Bounds and stable state; without one the log says nothing either: the member is blank, or wiped (V0)."""
    state = _state(found)
    if state is None:
        store.commit([ResetLog()])
        return Recovered(stable=None)
    stable, commit = state
    damage = tuple(DamagedRun(*run) for run in found.damaged)
    return Recovered(
        stable=stable,
        first=found.first,
        applied=found.first,
        end=found.end,
        end_chain=found.end_chain,
        chain=found.end_chain,
        commit=commit,
        damage=damage,
        lost_memory=memory and not found.clean_stop,
    )


def _state(found: StoreRecovered) -> tuple[StableState, int] | None:
    if found.stable is None or found.stable_damaged:
        return None
    try:
        return decode_state(found.stable)
    except BadFrame:
        return None


def _at(store: LogStore, found: Recovered, topics: Topics) -> Recovered:
    """The position of the state machine, and every record from there on: the core delivers those again."""
    applied = topics.applied
    tail: list[SlotRecord] = []
    while applied + len(tail) < found.end:
        page = store.read_range(applied + len(tail), found.end, _TAIL_BYTES)
        if not page:
            break
        tail.extend(decode_record(body) for _, body, _ in page)
    return replace(
        found,
        applied=applied,
        chain=topics.chain,
        time_us=topics.time_us,
        commit=max(found.commit, applied),
        senders=dict(topics.senders),
        tail=tuple(tail),
    )
