"""From a data folder to a core that may be stepped: open, check, read the state back (D6, V0).

What cannot be trusted as a whole is set aside, never deleted: the member starts on an empty folder as a lost one (D6)
and comes back as wiped (V0), fetching everything from its peers. What is damaged in single records is repaired by the
core (D6).
"""

from dataclasses import dataclass, replace

import structlog

from replicas.bus.config import BusConfig
from replicas.bus.record_codec import STATE_VERSION, ForeignState, decode_record, decode_state
from replicas.bus.rows import RowError
from replicas.bus.topics import TopicBounds, Topics
from replicas.clocks import wall_us
from ringcast.errors import BadFrame
from sequencer.types import DamagedRun, Recovered, SlotRecord, StableState
from store.aside import Aside, lost, remember_and_set_aside
from store.contract import NO_CHAIN, LogStore, ResetLog
from store.contract import Recovered as StoreRecovered
from store.errors import StoreDamaged, WrongFolder
from store.log import LmdbStore

_TAIL_BYTES = 64 << 20
NEXT = (
    "it comes back through its peers; if too few of them have data, restore a backup (`ringcast restore`), or give up "
    "what was there (`ringcast recover --accept-loss`); look at the disk before you trust it again"
)


@dataclass(frozen=True, slots=True)
class Opened:
    """An open store, what the core is to be made from, and the state machine at its position.

    `set_aside`: the folder that could not be trusted at this start.
    """

    store: LogStore
    recovered: Recovered
    topics: Topics
    verified_from: int
    set_aside: Aside | None = None


def open_store(config: BusConfig, bounds: TopicBounds, distrust: str = "") -> Opened:
    """Open the data folder and read everything back. Raises FolderInUse, WrongFolder, DiskFull, DiskFailed.

    `distrust`: why the folder is set aside whatever it says.
    """
    why = distrust
    if not distrust:
        try:
            return _open(config, bounds, None)
        except (StoreDamaged, RowError) as error:
            why = error.why if isinstance(error, StoreDamaged) else str(error)
    aside = remember_and_set_aside(config.data, why, wall_us())
    log = structlog.get_logger().bind(member=config.id, ring_id=config.ring)
    log.critical("data_set_aside", moved_to=str(aside.folder), why=why, rule="D6", next=NEXT)
    return _open(config, bounds, aside)


def _open(config: BusConfig, bounds: TopicBounds, aside: Aside | None) -> Opened:
    store = LmdbStore(config.data, config.id)
    try:
        found = store.recover()
        recovered = _recovered(config, store, found)
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


def _recovered(config: BusConfig, store: LogStore, found: StoreRecovered) -> Recovered:
    """Bounds and stable state; without one the log says nothing either: the member is blank, or lost (V0, D6)."""
    state = _state(config, found)
    if state is None:
        store.commit([ResetLog()])
        return Recovered(stable=None, lost=lost(config.data))
    stable, commit = state
    if stable.cluster == 0 and stable.wiped and lost(config.data) is None:
        stable = replace(stable, wiped=False)  # D6: an operator took the memory away, so that a genesis may be
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
        lost_memory=config.durability == "memory" and not found.clean_stop,
        first_chain=(store.chain(found.first - 1) if found.first else None) or NO_CHAIN,
    )


def _state(config: BusConfig, found: StoreRecovered) -> tuple[StableState, int] | None:
    """None on a new disk. Raises StoreDamaged, and WrongFolder for the state of another release."""
    if found.stable_damaged:
        raise StoreDamaged(config.data, "the stable state does not fit its checksum")
    if found.stable is None:
        return None
    try:
        return decode_state(found.stable)
    except ForeignState as error:
        raise WrongFolder(config.data, "a stable state of version", error.version, STATE_VERSION) from None
    except BadFrame as error:
        raise StoreDamaged(config.data, f"the stable state: {error}") from error


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
