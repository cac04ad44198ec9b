"""Which LMDB engine writes a data folder. Every environment of this project is opened here.

py-lmdb 3 brings two engines whose files exclude each other: LMDB 0.9 (data format 1) and 1.0 (data format 3). For a new
file it takes 0.9, unless the variable LMDB_DEFAULT_LIB_VERSION says otherwise; we leave nothing to that. Folders are of
0.9, and stay so. 1.0 gives nothing that we use: keys of 1,978 bytes (the store's contract ends at 511), and page
checksums, for which py-lmdb has no call; its files are closed to older releases of ours, and a conversion is a dump and
a load of everything. A folder says its engine in `member.json`; one that does not is older than this rule, and its data
file says it.
"""

import sys
from pathlib import Path
from typing import Any, Final, Literal

import lmdb

from store.errors import EngineMissing

#: The engine of every new folder.
ENGINE: Final = "LMDB 0.9"
#: What py-lmdb calls it.
_LIB_VERSION: Final = 0
_MAGIC: Final = 0xBEEFC0DE
_HEAD_BYTES: Final = 64
_ORDERS: Final[tuple[Literal["little", "big"], ...]] = ("little", "big")
#: Where the magic of the first page stands, behind that engine's page header: damage does not move it.
_PLACES: Final = {12: "LMDB 0.9 of a 32-bit machine", 16: ENGINE, 24: "LMDB 1.0"}


def engine_of(data: Path) -> str | None:
    """The engine that wrote a data file, by its first page; None if that says nothing."""
    with data.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for order in _ORDERS:
        place = head.find(_MAGIC.to_bytes(4, order))
        if place >= 0:
            name = _PLACES.get(place, f"an LMDB whose page header has {place} bytes")
            return name if order == sys.byteorder else f"{name} of a machine with the other byte order"
    return None


def engine_version() -> str:
    """Which release of the engine this build of py-lmdb has. Raises EngineMissing."""
    try:
        return ".".join(map(str, lmdb.version(lib_version=_LIB_VERSION)))
    except lmdb.Error:
        raise EngineMissing(ENGINE, ".".join(map(str, lmdb.version()))) from None


def open_engine(path: Path, **settings: Any) -> lmdb.Environment:
    """`lmdb.open` with the engine of our folders, whatever the environment says. Raises EngineMissing, lmdb.Error."""
    engine_version()
    return lmdb.open(str(path), lib_version=_LIB_VERSION, **settings)
