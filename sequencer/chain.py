"""A10: digests of requests and the hash chain over slots."""

from collections.abc import Iterable
from collections.abc import Sequence as Frames
from hashlib import blake2b
from struct import Struct

from sequencer.types import CHAIN_BYTES, Change, ClockReset, Entry, ViewNumber

_LENGTH = Struct("<Q")
_SLOT = Struct("<16sQQQQI")
_ENTRY = Struct("<QQQQQI")
_CHANGE = Struct("<QqII")
_RESET = Struct("<QQ")
_NO_LENGTH = (1 << 64) - 1  # where a frame's length would stand: a change follows
_RESET_FOLLOWS = (1 << 64) - 2


def digest(frames: Frames[bytes], change: Change | None = None) -> bytes:
    """16 bytes over all frames of a request, batch headers included; lengths too, so that no byte changes its frame.

    And over the change of members or of the ring's time that it carries (V12, D7).
    """
    hasher = blake2b(digest_size=CHAIN_BYTES)
    for frame in frames:
        hasher.update(_LENGTH.pack(len(frame)))
        hasher.update(frame)
    if isinstance(change, ClockReset):
        hasher.update(_RESET.pack(_RESET_FOLLOWS, change.seen_us))
    elif change is not None:
        hasher.update(_CHANGE.pack(_NO_LENGTH, change.since, len(change.old), len(change.new)))
        hasher.update(bytes(change.old) + bytes(change.new) + change.info)
    return hasher.digest()


def extend(previous: bytes, view: ViewNumber, slot: int, time_us: int, entries: Iterable[Entry]) -> bytes:
    """chain(slot) = hash(chain(slot - 1), view, slot, time, entries with the hash of every request)."""
    listed = tuple(entries)
    hasher = blake2b(digest_size=CHAIN_BYTES)
    hasher.update(_SLOT.pack(previous, view.counter, view.proposer, slot, time_us, len(listed)))
    for entry in listed:
        hasher.update(
            _ENTRY.pack(
                entry.sender,
                entry.incarnation.counter,
                entry.incarnation.nonce,
                entry.first_lsn,
                entry.last_lsn,
                len(entry.digests),
            )
        )
        hasher.update(b"".join(entry.digests))
    return hasher.digest()
