"""Calls as msgpack arrays `[kind, ...fields]`: one table of classes says what travels and what each field may be."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from ringcast.product_store.limits import Limit
from ringcast.strict import bad, dumps, loads

#: Number -> (class of a named tuple, the limit of each field). Numbers are given once and never used again.
Table: TypeAlias = dict[int, tuple[type[Any], tuple[Limit, ...]]]


class Kinds:
    """The calls of a table."""

    def __init__(self, table: Table, bytes_max: int) -> None:
        self._table = table
        self._numbers = {kind: number for number, (kind, _) in table.items()}
        self._bytes_max = bytes_max

    def encode(self, call: NamedTuple) -> bytes:
        """Checked and packed. Raises IllegalValue."""
        number = self._numbers[type(call)]
        _check(call, self._table[number][1])
        return dumps((number, *call))

    def decode(self, data: bytes | memoryview, what: str) -> Any:
        """Raises BadFrame for bytes that are no call (of this version), IllegalValue for a value beyond its limits."""
        fields = loads(data, self._bytes_max)
        number = fields[0] if type(fields) is tuple and fields else None
        known = self._table.get(number) if type(number) is int else None
        if known is None:
            bad(f"the kind of {what}", number, "one that this version knows: upgrade the older side")
        kind, checks = known
        if len(fields) != len(checks) + 1:
            bad(kind.__name__, f"{len(fields) - 1} fields", str(len(checks)))
        call = kind._make(fields[1:])
        _check(call, checks)
        return call


def _check(call: Any, checks: Sequence[Limit]) -> None:
    for name, check, value in zip(call._fields, checks, call, strict=True):
        check(name, value)
