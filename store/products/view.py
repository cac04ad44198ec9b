"""What can be read of the product store, in one consistent read transaction; nothing is held in memory but a page."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence

from ringcast.product_store.limits import illegal
from ringcast.product_store.types import Item, Match, Page, Reservation, SoldLine, Stock
from store.products.tables import Meta, OrderRow, Tables, prefix, split_due_key

#: Ids that a search takes from each index at a time.
BLOCK = 512


class ProductView:
    """Reads of one transaction. Raises RowDamaged, and IllegalValue for a cursor that no page gave out."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    @property
    def meta(self) -> Meta:
        """Where the state stands."""
        return self._tables.meta()

    @property
    def items(self) -> int:
        """Items on sale."""
        return self._tables.entries("items")

    def get(self, item: str) -> Item | None:
        """An item on sale."""
        row, stock = self._tables.item(item), self._tables.stock(item)
        return None if row is None or stock is None else Item(item, *row, stock.left)

    def stock(self, item: str) -> Stock | None:
        """Units of an item on sale."""
        row = self._tables.stock(item)
        return None if row is None else Stock(row.left, row.reserved, row.sold)

    def reservation(self, order: str) -> Reservation | None:
        """A reservation; None if there never was one, or if it ended long ago."""
        row = self._tables.order(order)
        return None if row is None else _reservation(order, row)

    def due(self, now_us: int, limit: int) -> tuple[Reservation, ...]:
        """Held orders that may be released at `now_us`, oldest first."""
        found = []
        for key in self._tables.keys("held", b"", limit=limit):
            due_us, name = split_due_key(key)
            row = self._tables.order(name.decode())
            if due_us > now_us or row is None:
                break
            found.append(_reservation(name.decode(), row))
        return tuple(found)

    def all_items(self, cursor: str, limit: int) -> Page[Item]:
        """Everything on sale, by id, after the item that `cursor` names."""
        return self._page(self._tables.keys("items", b"", _after(cursor), limit + 1), limit)

    def by_seller(self, seller: str, cursor: str, limit: int) -> Page[Item]:
        """A seller's items, by id, after the one that `cursor` names."""
        return self._page(self._tables.keys("by_seller", prefix(seller), _after(cursor), limit + 1), limit)

    def _page(self, ids: Sequence[bytes], limit: int) -> Page[Item]:
        """`ids`: one more than the page takes, if there is one."""
        return Page(tuple(map(self._item, ids[:limit])), ids[limit - 1].decode() if len(ids) > limit else "")

    def search(self, category: str, keywords: Sequence[str], cursor: str, limit: int) -> Page[Match]:
        """The items of a category with at least one of the keywords (all, if none is given), best match first.

        Best: has the most of them; then by id. A page goes on behind the last match of the one before, whatever was put
        on sale or removed meanwhile.
        """
        best, after = _search_cursor(cursor, len(keywords))
        if keywords:
            found = self._best(category, keywords, best, after, limit + 1)
        else:
            found = [(0, item) for item in self._tables.keys("by_category", prefix(category), after, limit + 1)]
        matches = tuple(Match(self._item(item), matched) for matched, item in found[:limit])
        more = f"{matches[-1].matched}:{matches[-1].item.id}" if len(found) > limit else ""
        return Page(matches, more)

    def _best(
        self, category: str, keywords: Sequence[str], best: int, after: bytes, limit: int
    ) -> list[tuple[int, bytes]]:
        """The first `limit` (matched, id) behind (`best`, `after`), in the order of a search."""
        found: dict[int, list[bytes]] = {matched: [] for matched in range(best, 0, -1)}
        start = after if best == 1 else b""
        for item, matched in self._counted([prefix(category, keyword) for keyword in keywords], start):
            kept = found.get(matched)
            if kept is None or len(kept) == limit or (matched == best and item < after):
                continue
            kept.append(item)
            if matched == best and len(kept) == limit:
                break
        return [(matched, item) for matched, kept in found.items() for item in kept][:limit]

    def _counted(self, begins: Sequence[bytes], start: bytes) -> Iterator[tuple[bytes, int]]:
        """(id, number of these keywords that it has), by id, a block of each index at a time."""
        blocks: list[list[bytes]] = [[] for _ in begins]
        starts: list[bytes | None] = [start for _ in begins]  # of the next block; None = the index ends with this one
        while True:
            for number, begin in enumerate(begins):
                next_start = starts[number]
                if not blocks[number] and next_start is not None:
                    block = blocks[number] = self._tables.keys("by_keyword", begin, next_start, BLOCK)
                    starts[number] = block[-1] + b"\0" if len(block) == BLOCK else None
            if not any(blocks):
                return
            # Up to the least end of a block that has more behind it, the ids of every index are at hand.
            end = min((block[-1] for block, more in zip(blocks, starts, strict=True) if more is not None), default=None)
            counts: Counter[bytes] = Counter()
            for number, block in enumerate(blocks):
                cut = len(block) if end is None else bisect_right(block, end)
                counts.update(block[:cut])
                blocks[number] = block[cut:]
            yield from sorted(counts.items())

    def _item(self, item: bytes) -> Item:
        found = self.get(item.decode())
        if found is None:
            raise self._tables.damaged("items", item)
        return found


def _reservation(order: str, row: OrderRow) -> Reservation:
    lines = tuple(SoldLine(line.item, line.quantity, line.price) for line in row.lines)
    return Reservation(order, row.state, lines, row.due_us)


def _after(item: str) -> bytes:
    """The least key behind an item's; ids hold no zero byte."""
    return item.encode() + b"\0" if item else b""


def _search_cursor(cursor: str, keywords: int) -> tuple[int, bytes]:
    """(matched, where ids of so many matches begin) of a search's cursor."""
    if not cursor:
        return keywords, b""
    matched, _, item = cursor.partition(":")
    if not (1 if keywords else 0) <= int(matched) <= keywords:
        illegal("the cursor", cursor, "the `next` of a page of the same search")
    return int(matched), _after(item)
