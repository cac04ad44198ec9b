"""The protocol's nouns as plain msgpack values, and back: shared by the peer frames and by the log's records.

`pack_*` gives a plain value; `read_*` takes one that came from outside, checks every type, size and range, and raises
BadFrame only (docs/faults.md 38, 48). A number that counts (slot, lsn, time, view counter) fits 63 bits, so that
adding one to it never overflows anywhere; random bits (incarnation nonce, storage and cluster id) use 64.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

from ringcast.strict import U63_MAX, U64_MAX, Plain, bad
from sequencer.types import (
    CHAIN_BYTES,
    FOUNDED,
    BackOff,
    Change,
    ClockReset,
    Entry,
    Identity,
    Incarnation,
    Learner,
    MembersChange,
    Request,
    Sequence,
    View,
    ViewNumber,
)

MEMBER_ID_MAX = 63
MEMBERS_MAX = 7
ENTRIES_MAX = 4_096
SEQUENCES_MAX = 4_096
REQUESTS_MAX = 65_536
FRAMES_MAX = 65_536
BACK_OFF_LEVEL_MAX = 64
#: What the core allows for the info of a change, and room to grow.
CHANGE_INFO_MAX = 1 << 20

Part = TypeVar("Part")
_INT_ONLY = {int}


def integers(what: str, values: Any, count: int, low: int, high: int = U63_MAX) -> None:
    """Check an array of exactly `count` integers in [low, high] (bool is none); four C-level calls: the hot path."""
    if type(values) is not tuple or len(values) != count or set(map(type, values)) != _INT_ONLY:
        bad(what, values, f"{count} integers")
    if min(values) < low or max(values) > high:
        bad(what, values, f"integers in {low}..{high}")


def numbers(what: str, values: Any, count: int) -> None:
    """Check an array of exactly `count` integers in 0..2^63-1."""
    integers(what, values, count, 0)


def number(what: str, value: Any, low: int = 0, high: int = U63_MAX) -> int:
    """An integer in [low, high]."""
    if type(value) is not int or not low <= value <= high:
        bad(what, value, f"an integer in {low}..{high}")
    return value


def flag(what: str, value: Any) -> bool:
    """A bool."""
    if type(value) is not bool:
        bad(what, value, "true or false")
    return value


def binary(what: str, value: Any, size: int = CHAIN_BYTES) -> bytes:
    """Exactly `size` bytes; a chain or a digest unless told otherwise."""
    if type(value) is not bytes or len(value) != size:
        bad(what, value, f"{size} bytes")
    return value


def text(what: str, value: Any, size_max: int = 128) -> str:
    """A str of at most `size_max` characters."""
    if type(value) is not str or len(value) > size_max:
        bad(what, value, f"text of at most {size_max} characters")
    return value


def array(what: str, value: Any, count: int) -> tuple[Any, ...]:
    """An array of exactly `count` elements, still to be read one by one."""
    if type(value) is not tuple or len(value) != count:
        bad(what, value, f"an array of {count}")
    return value


def each(what: str, value: Any, count_max: int, read: Callable[[Any], Part]) -> tuple[Part, ...]:
    """An array of at most `count_max` elements of one kind."""
    if type(value) is not tuple or len(value) > count_max:
        bad(what, value, f"an array of at most {count_max}")
    return tuple(map(read, value))


def member_id(value: Any) -> int:
    """A member's id, 1..63."""
    return number("a member id", value, 1, MEMBER_ID_MAX)


def read_incarnation(value: Any) -> Incarnation:
    """(counter, 64 random bits)."""
    counter, nonce = array("an incarnation", value, 2)
    return Incarnation(number("an incarnation's counter", counter), number("an incarnation's bits", nonce, 0, U64_MAX))


def read_identity(value: Any) -> Identity:
    """(incarnation, storage id)."""
    incarnation, storage = array("an identity", value, 2)
    return Identity(read_incarnation(incarnation), number("a storage id", storage, 0, U64_MAX))


def read_optional_identity(value: Any) -> Identity | None:
    """An identity, or nil: never met."""
    return None if value is None else read_identity(value)


def read_number(value: Any) -> ViewNumber:
    """A view number; (0, 0) is no view."""
    numbers("a view number", value, 2)
    if value[1] > MEMBER_ID_MAX:
        bad("a view number's proposer", value[1], f"0..{MEMBER_ID_MAX}")
    return ViewNumber(*value)


def _read_learner(value: Any) -> Learner:
    member, identity = array("a learner", value, 2)
    return Learner(member_id(member), read_optional_identity(identity))


def _read_back_off(value: Any) -> BackOff:
    numbers("a back-off", value, 2)
    return BackOff(member_id(value[0]), number("a back-off's level", value[1], 0, BACK_OFF_LEVEL_MAX))


def _ascending(what: str, ids: tuple[int, ...]) -> tuple[int, ...]:
    if not ids or any(left >= right for left, right in pairwise(ids)):
        bad(what, ids, "at least one id, ascending")
    return ids


def read_members(value: Any) -> tuple[int, ...]:
    """A configuration: 1 to 7 ids, ascending (V12)."""
    return _ascending("the members", each("the members", value, MEMBERS_MAX, member_id))


def pack_view(view: View) -> Plain:
    """View -> plain; named tuples are arrays already."""
    return tuple(view)


def read_view(value: Any) -> View:
    """A view whose ring and members are ascending, the ring within the members (the source may go, V12)."""
    whole, ring, source, base, chain, members, founders, learners, back_offs, accepted_loss = array("a view", value, 10)
    view = View(
        number=read_number(whole),
        ring=_ascending("a ring", each("a ring", ring, MEMBERS_MAX, member_id)),
        source=member_id(source),
        base=number("a view's base", base),
        chain=binary("a view's chain", chain),
        members=read_members(members),
        founders=read_members(founders),
        learners=each("the learners", learners, MEMBERS_MAX, _read_learner),
        back_offs=each("the back-offs", back_offs, MEMBERS_MAX, _read_back_off),
        accepted_loss=read_number(accepted_loss),
    )
    if not {*view.ring} <= set(view.members):
        bad("a view's ring", view.ring, f"within the members {view.members}")
    return view


def pack_entry(entry: Entry) -> Plain:
    """Entry -> plain; the digests travel as one string of bytes."""
    counter, nonce = entry.incarnation
    return (entry.sender, counter, nonce, entry.first_lsn, entry.last_lsn, b"".join(entry.digests))


def read_entry(value: Any) -> Entry:
    """An entry with one digest for each of its lsns."""
    sender, counter, nonce, first, last, digests = array("an entry", value, 6)
    integers("an entry", (sender, counter, nonce, first, last), 5, 0, U64_MAX)
    if not 1 <= sender <= MEMBER_ID_MAX or max(counter, last) > U63_MAX:
        bad("an entry", (sender, counter, last), f"a member id in 1..{MEMBER_ID_MAX} and integers in 0..2^63-1")
    if type(digests) is not bytes or first < 1 or len(digests) != (last - first + 1) * CHAIN_BYTES or not digests:
        bad("an entry's lsns", (first, last), f"first >= 1 and one digest of {CHAIN_BYTES} bytes for each")
    listed = tuple(digests[at : at + CHAIN_BYTES] for at in range(0, len(digests), CHAIN_BYTES))
    return Entry(sender, Incarnation(counter, nonce), first, last, listed)


def pack_sequence(sequence: Sequence) -> Plain:
    """Sequence -> plain."""
    counter, proposer = sequence.view
    entries = tuple(map(pack_entry, sequence.entries))
    return (counter, proposer, sequence.slot, sequence.time_us, sequence.chain, entries)


def read_sequence(value: Any) -> Sequence:
    """A SEQUENCE; the sum of its lsns is bounded by what a frame can hold."""
    counter, proposer, slot, time_us, chain, entries = array("a sequence", value, 6)
    numbers("a sequence", (counter, proposer, slot, time_us), 4)
    if proposer > MEMBER_ID_MAX:
        bad("a view number's proposer", proposer, f"0..{MEMBER_ID_MAX}")
    listed = each("the entries", entries, ENTRIES_MAX, read_entry)
    return Sequence(ViewNumber(counter, proposer), slot, time_us, listed, binary("a chain", chain))


def pack_head(request: Request) -> Plain:
    """A request without its frames: (sender, counter, bits, lsn, sizes of the frames), and its change if it has one."""
    counter, nonce = request.incarnation
    head = (request.sender, counter, nonce, request.lsn, tuple(map(len, request.frames)))
    return head if request.change is None else (*head, request.change)


def read_head(value: Any) -> tuple[int, Incarnation, int, tuple[int, ...], Change | None]:
    """(sender, incarnation, lsn, sizes of its frames, change): what a request says of itself."""
    change: Change | None = None
    if type(value) is tuple and len(value) == 6:
        change = _read_change(value[5])
        value = value[:5]
    sender, counter, nonce, lsn, sizes = array("a request", value, 5)
    integers("a request", (sender, counter, nonce, lsn), 4, 0, U64_MAX)
    if not 1 <= sender <= MEMBER_ID_MAX or max(counter, lsn) > U63_MAX:
        bad("a request", (sender, counter, lsn), f"a member id in 1..{MEMBER_ID_MAX} and integers in 0..2^63-1")
    if type(sizes) is not tuple or not (change is None) <= len(sizes) <= FRAMES_MAX:
        bad("a request's frames", sizes, f"1 to {FRAMES_MAX}, or a change (V12, D7)")
    if sizes:
        numbers("the sizes of a request's frames", sizes, len(sizes))
    if lsn < 1:
        bad("a request's lsn", lsn, "at least 1")
    return sender, Incarnation(counter, nonce), lsn, sizes, change


def _read_change(value: Any) -> Change:
    if type(value) is tuple and len(value) == 1:
        return ClockReset(number("the time that a reset saw", value[0]))
    old, new, since, info = array("a change of members", value, 4)
    if type(info) is not bytes or len(info) > CHANGE_INFO_MAX:
        bad("the info of a change", type(info).__name__, f"at most {CHANGE_INFO_MAX} bytes")
    return MembersChange(read_members(old), read_members(new), number("a slot", since, FOUNDED), info)
