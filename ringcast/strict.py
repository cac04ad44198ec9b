"""Strict msgpack: what a frame of ours may hold, and nothing else (docs/faults.md 38, 39).

A plain value is None, bool, a 64-bit int, a finite float, str, bytes, an array, or a map with str keys; arrays come
back as tuples. Trailing bytes, NaN and infinities, duplicate keys, ext types, deep nesting and sizes beyond the frame's
own length are BadFrame; nothing else is ever raised.
"""

import math
import threading
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeAlias

import msgpack  # type: ignore[import-untyped]

from ringcast.errors import BadFrame

#: Anything a frame can hold. Arrays are accepted as list or tuple and always come back as tuples.
Plain: TypeAlias = "bool | int | float | str | bytes | list[Plain] | tuple[Plain, ...] | dict[str, Plain] | None"
#: A field's check: raises BadFrame(what, value, limit) if the value is none of its kind.
Check: TypeAlias = Callable[[str, Any], None]

DEPTH_MAX = 8
U63_MAX = (1 << 63) - 1
U64_MAX = (1 << 64) - 1
_SHOWN = 60
#: One for each thread, since making one costs more than most frames; a large buffer is not kept.
_packers = threading.local()
_PACKER_BYTES_MAX = 1 << 20


def bad(what: str, value: object, limit: str) -> NoReturn:
    """Raise BadFrame; the value is cut short, for it came from outside."""
    raise BadFrame(what=what, value=repr(value)[:_SHOWN], limit=limit)


def dumps(value: Plain) -> bytes:
    """Encode a plain value. Raises TypeError, ValueError or OverflowError if it is none (our bug, or the user's)."""
    try:
        packer = _packers.packer
    except AttributeError:
        packer = _packers.packer = msgpack.Packer(use_bin_type=True)
    packed: bytes = packer.pack(value)
    if len(packed) > _PACKER_BYTES_MAX:
        del _packers.packer  # it would keep its buffer
    return packed


def loads(data: bytes | memoryview, size_max: int) -> Any:
    """Decode one value that fills `data` exactly; `size_max` in bytes. Raises BadFrame only.

    The values inside are not looked at here: pass each to a check, `plain` takes any.
    """
    size = len(data)
    if size > size_max:
        bad("the header", f"{size} bytes", f"at most {size_max}")
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            use_list=False,
            strict_map_key=True,
            object_pairs_hook=_unique,
            ext_hook=_refuse_ext,
            max_str_len=size,
            max_bin_len=size,
            max_array_len=size,
            max_map_len=size,
            max_ext_len=0,
        )
    except BadFrame:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError, msgpack.UnpackException) as error:
        what = f"{type(error).__name__} {error}"[:_SHOWN]
        raise BadFrame(what="the header", value=what, limit="one msgpack value") from None


def _unique(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    items = list(pairs)
    found = dict(items)
    if len(found) != len(items):
        bad("a map", f"{len(items)} pairs for {len(found)} keys", "each key once")
    return found


def _refuse_ext(code: int, _data: bytes) -> NoReturn:
    bad("a value", f"ext type {code}", "no ext types")


def integer(low: int = 0, high: int = U63_MAX) -> Check:
    """A check for an int in [low, high]; bool is none."""
    limit = f"an integer in {low}..{high}"

    def check(what: str, value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            bad(what, value, limit)

    return check


def text(size_max: int) -> Check:
    """A check for a str of at most `size_max` characters."""
    limit = f"text of at most {size_max} characters"

    def check(what: str, value: Any) -> None:
        if type(value) is not str or len(value) > size_max:
            bad(what, value, limit)

    return check


def binary(size: int) -> Check:
    """A check for exactly `size` bytes."""
    limit = f"{size} bytes"

    def check(what: str, value: Any) -> None:
        if type(value) is not bytes or len(value) != size:
            bad(what, value, limit)

    return check


def flag(what: str, value: Any) -> None:
    """A check for a bool."""
    if type(value) is not bool:
        bad(what, value, "true or false")


def array(*checks: Check) -> Check:
    """A check for an array of exactly these elements."""
    limit = f"an array of {len(checks)}"

    def check(what: str, value: Any) -> None:
        if type(value) is not tuple or len(value) != len(checks):
            bad(what, value, limit)
        for part, element in zip(checks, value, strict=True):
            part(what, element)

    return check


def many(element: Check, count_max: int) -> Check:
    """A check for an array of at most `count_max` elements of one kind."""
    limit = f"an array of at most {count_max}"

    def check(what: str, value: Any) -> None:
        if type(value) is not tuple or len(value) > count_max:
            bad(what, value, limit)
        for one in value:
            element(what, one)

    return check


def mapping(element: Check, count_max: int) -> Check:
    """A check for a map from str to one kind, of at most `count_max` keys."""
    limit = f"a map of at most {count_max} keys of text"

    def check(what: str, value: Any) -> None:
        if type(value) is not dict or len(value) > count_max:
            bad(what, value, limit)
        for key, one in value.items():
            if type(key) is not str:
                bad(what, key, "a key of text")
            element(what, one)

    return check


def plain(what: str, value: Any, depth: int = 0) -> None:
    """A check for any plain value, nested at most DEPTH_MAX deep."""
    if depth > DEPTH_MAX:
        bad(what, "nested deeper", f"at most {DEPTH_MAX} levels")
    kind = type(value)
    if kind is tuple:
        for one in value:
            plain(what, one, depth + 1)
    elif kind is dict:
        for key, one in value.items():
            if type(key) is not str:
                bad(what, key, "a key of text")
            plain(what, one, depth + 1)
    elif kind is float:
        if not math.isfinite(value):
            bad(what, value, "a finite number")
    elif value is not None and kind not in (bool, int, str, bytes):
        bad(what, kind.__name__, "a plain value")


def scalar(what: str, value: Any) -> None:
    """A check for what the details of an error may hold: None, bool, a number or text."""
    if type(value) in {tuple, dict, bytes}:
        bad(what, type(value).__name__, "none, a bool, a number or text")
    plain(what, value)
