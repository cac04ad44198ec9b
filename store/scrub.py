"""Reading what nobody reads: a table page by page, a snapshot file chunk by chunk, and what of it is damaged.

Each yields (bytes read, names of what is damaged), and holds no transaction meanwhile.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from store.environment import Environment
from store.errors import ChunkDamaged, SnapshotGone
from store.snapshot import SnapshotFolder

Scrubbed: TypeAlias = Iterator[tuple[int, tuple[str, ...]]]

#: Of one transaction: a few milliseconds of the interpreter.
PAGE_BYTES: Final = 64 << 10
_ROW_BYTES: Final = 16


def scrub_table(environment: Environment, table: str, damaged: Callable[[bytes, bytes], str | None]) -> Scrubbed:
    """`damaged(key, value)`: the name of a row that is, else None. Raises StoreClosed, StoreDamaged."""
    start = b""
    while True:
        size, names = 0, []
        with environment.read() as transaction, transaction.cursor(environment.databases[table]) as cursor:
            found = cursor.set_range(start) if start else cursor.first()
            while found and size < PAGE_BYTES:
                key, value = bytes(cursor.key()), bytes(cursor.value())
                size += _ROW_BYTES + len(key) + len(value)
                name = damaged(key, value)
                if name is not None:
                    names.append(name)
                start = key + b"\0"
                found = cursor.next()
        yield size, tuple(names)
        if not found:
            return


def scrub_files(snapshots: SnapshotFolder) -> Scrubbed:
    """The names are those of the files. One that is dropped meanwhile is no damage."""
    for file in snapshots.list():
        for index in range(file.chunks):
            try:
                size, names = len(snapshots.read_chunk(file.name, index)), ()
            except SnapshotGone:
                break
            except ChunkDamaged:
                yield 0, (file.name,)
                break
            yield size, names
