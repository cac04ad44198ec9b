"""The background scrub of the product store: rows of the tables, entries of the log, snapshot files (D6, R24)."""

from collections.abc import Callable, Iterator
from functools import partial

from replicas.products.config import ProductsConfig
from replicas.raft.node import RaftNode
from replicas.scrubber import Part, Scrubber, Step
from store.raft_log import RaftStore
from store.scrub import Scrubbed

ROWS, LOG, SNAPSHOTS = "rows", "log", "snapshots"


def scrubber_of(config: ProductsConfig, store: RaftStore, node: RaftNode) -> Scrubber:
    """The leader fills damaged tables again; a damaged entry that is applied is trimmed, a damaged file deleted."""
    parts = (
        Part(ROWS, partial(_steps, store.scrub_rows), store.table_bytes, node.suspect),
        Part(LOG, partial(_steps, store.scrub_log), store.log_bytes, lambda name: node.forget_entry(_number(name))),
        Part(SNAPSHOTS, partial(_steps, store.scrub_snapshots), store.snapshot_bytes, store.drop_snapshot),
    )
    return Scrubber(config.id, parts, bytes_per_second=config.scrub_bytes_per_second, pause_s=config.scrub_pause)


def _steps(begin: Callable[[], Scrubbed]) -> Iterator[Step]:
    for size, damaged in begin():
        yield Step(size, damaged)


def _number(name: str) -> int:
    return int(name.rpartition(" ")[2])
