"""Items as rows of a file: CSV with a header, or a JSON object on each line. Into the product store, and out of it.

A file is read line by line and never held. A line that is no item becomes a `BadRow` with its number and reason, and
the next one is read: no field may hold a line break, so a bad line is one line.
"""

import asyncio
import csv
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import IO, Any, Final, NamedTuple, NoReturn, Protocol

from ringcast.errors import ItemExists, Refused
from ringcast.product_store.limits import illegal
from ringcast.product_store.operations import Put, encode_operation
from ringcast.product_store.types import Item, Page

COLUMNS: Final = ("id", "seller", "name", "category", "keywords", "condition", "price", "quantity")
LINE_CHARACTERS_MAX: Final = 16 << 10
#: Rows that are under way at once.
IN_FLIGHT: Final = 1_024
_PAGE: Final = 1_000

_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)


class Format(StrEnum):
    """Of a file of items."""

    CSV = "csv"
    JSON_LINES = "jsonl"


def format_of(name: str) -> Format:
    """By a file's ending; what is not .jsonl, .ndjson or .json is CSV."""
    return Format.JSON_LINES if PurePath(name).suffix.lower() in {".jsonl", ".ndjson", ".json"} else Format.CSV


class Row(NamedTuple):
    """A line that is an item. Lines count from 1."""

    line: int
    put: Put


class BadRow(NamedTuple):
    """A line that is none, or that the store refused."""

    line: int
    reason: str


# ---- reading


def read_rows(file: IO[str], kind: Format) -> Iterator[Row | BadRow]:
    """The rows of a file; empty lines are left out. Raises IllegalValue if a CSV file does not begin with its header.

    Open the file with `encoding="utf-8", errors="surrogateescape", newline=""`: then bytes that are no text are a bad
    row and no end.
    """
    lines = _lines(file)
    if kind is Format.JSON_LINES:
        parse: Callable[[str], dict[str, Any]] = _parse_json
    else:
        parse = _csv_parser(next((line for _, line in lines), ""))
    for number, line in lines:
        try:
            if len(line) > LINE_CHARACTERS_MAX:
                illegal("the line", f"{line[:20]}...", f"at most {LINE_CHARACTERS_MAX} characters")
            put = _put(parse(line))
            encode_operation(put)
        except (Refused, ValueError, RecursionError) as error:
            yield BadRow(number, str(error))
        else:
            yield Row(number, put)


def _lines(file: IO[str]) -> Iterator[tuple[int, str]]:
    """(number, line) of each that is not empty; what is too long is cut, so that it can be told."""
    number = 0
    while line := file.readline(LINE_CHARACTERS_MAX + 2):
        number += 1
        rest = line
        while rest and not rest.endswith("\n") and len(line) > LINE_CHARACTERS_MAX:
            rest = file.readline(LINE_CHARACTERS_MAX)
        line = line.removeprefix("\ufeff") if number == 1 else line
        if line.strip():
            yield number, line.rstrip("\r\n")


def _parse_json(line: str) -> dict[str, Any]:
    found = json.loads(line, object_pairs_hook=_unique, parse_constant=_no_number)
    if type(found) is not dict:
        illegal("the line", line, "a JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        illegal("the object", [name for name, _ in pairs], "each field once")
    return found


def _no_number(text: str) -> NoReturn:
    illegal("a number", text, "a whole number")


def _csv_parser(header: str) -> Callable[[str], dict[str, Any]]:
    columns = next(csv.reader([header], strict=True), [])
    if sorted(columns) != sorted(COLUMNS):
        illegal("the first line", header, f"a header of these columns: {','.join(COLUMNS)}")

    def parse(line: str) -> dict[str, Any]:
        try:
            cells = next(csv.reader([line], strict=True))
        except csv.Error as error:
            illegal("the line", line, f"one row of CSV ({error})")
        if len(cells) != len(columns):
            illegal("the line", line, f"{len(columns)} cells")
        found: dict[str, Any] = dict(zip(columns, cells, strict=True))
        found["keywords"] = found["keywords"].split()
        for name in ("price", "quantity"):
            if _WHOLE.fullmatch(found[name]) is None:
                illegal(name, found[name], "a whole number")
            found[name] = int(found[name])
        return found

    return parse


def _put(fields: dict[str, Any]) -> Put:
    """Not checked yet, but for the names."""
    if fields.keys() != set(COLUMNS):
        illegal("the fields", sorted(fields), f"these: {', '.join(COLUMNS)}")
    keywords = fields["keywords"]
    if type(keywords) is not list:
        illegal("keywords", keywords, "a list")
    return Put._make(fields[name] if name != "keywords" else tuple(keywords) for name in COLUMNS)


# ---- writing


class RowWriter:
    """Writes items as `read_rows` reads them. Open the file with `encoding="utf-8", newline=""`."""

    def __init__(self, file: IO[str], kind: Format) -> None:
        self._file = file
        self._csv = csv.writer(file, lineterminator="\n") if kind is Format.CSV else None
        if self._csv is not None:
            self._csv.writerow(COLUMNS)

    def write(self, items: Iterable[Item | Put]) -> None:
        """One line for each."""
        if self._csv is not None:
            self._csv.writerows([*one[:4], " ".join(one.keywords), *one[5:]] for one in items)
            return
        for one in items:
            self._file.write(json.dumps(dict(zip(COLUMNS, one, strict=True)), ensure_ascii=False) + "\n")


# ---- the store


class Store(Protocol):
    """The part of `ringcast.ProductStore` that is needed here."""

    async def put_item(self, put: Put) -> None: ...

    async def items(self, cursor: str = "", *, limit: int = 100) -> Page[Item]: ...


@dataclass(slots=True)
class Imported:
    """How far an import has come. `existing`: rows whose id was on sale already, by an import before this one, say."""

    put: int = 0
    existing: int = 0
    bad: list[BadRow] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.put + self.existing + len(self.bad)


async def import_rows(
    store: Store,
    rows: Iterable[Row | BadRow],
    *,
    on_progress: Callable[[Imported], None] | None = None,
    in_flight: int = IN_FLIGHT,
) -> Imported:
    """Put every row on sale, many at once; those that are refused go to `bad`, by line.

    Raises the first Unavailable or OutcomeUnknown, and puts no more: import the file again then, nothing comes twice.
    """
    imported = Imported()
    waiting = iter(rows)

    async def work() -> None:
        for row in waiting:
            if isinstance(row, BadRow):
                imported.bad.append(row)
            else:
                await _put_row(store, row, imported)
            if on_progress is not None:
                on_progress(imported)

    tasks = [asyncio.create_task(work()) for _ in range(in_flight)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    imported.bad.sort()
    return imported


async def _put_row(store: Store, row: Row, imported: Imported) -> None:
    try:
        await store.put_item(row.put)
    except ItemExists:
        imported.existing += 1
    except Refused as error:
        imported.bad.append(BadRow(row.line, str(error)))
    else:
        imported.put += 1


async def export_items(store: Store) -> AsyncIterator[Sequence[Item]]:
    """All items on sale, by id, a page at a time. Each page is as of its own moment."""
    cursor = ""
    while True:
        page = await store.items(cursor, limit=_PAGE)
        yield page.entries
        cursor = page.next
        if not cursor:
            return
