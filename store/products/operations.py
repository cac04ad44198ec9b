"""What each operation does to the tables. Everything is checked before anything is written: a refusal changes nothing.

Refusals are RingcastErrors, raised here and turned into outcomes by the machine; the same on every replica, for all
that they depend on is the entry and the tables.
"""

from typing import Final

from ringcast.errors import (
    IllegalValue,
    ItemExists,
    NotTheSeller,
    OrderConfirmed,
    OrderReleased,
    OrderReused,
    OutOfStock,
    UnknownItem,
    UnknownOrder,
)
from ringcast.product_store.limits import HOLD_MS_MAX, QUANTITY_MAX
from ringcast.product_store.operations import (
    ChangePrice,
    ChangeQuantity,
    Confirm,
    Operation,
    Put,
    Release,
    Remove,
    Reserve,
    Sweep,
)
from ringcast.product_store.types import OrderState
from ringcast.strict import Plain
from store.products.tables import ItemRow, Meta, OrderLine, OrderRow, StockRow, Tables, due_key, prefix, split_due_key

#: How long a confirmed or released order is remembered, and how many of them one entry forgets at most.
FINISHED_US: Final = 7 * 24 * 3_600 * 1_000_000
FORGOTTEN_MAX: Final = 16


def reservation(order: str, row: OrderRow) -> Plain:
    """As a `Reservation` travels."""
    return (order, row.state, tuple((line.item, line.quantity, line.price) for line in row.lines), row.due_us)


class Operations:
    """The operations on one set of tables, at the time of `meta`."""

    def __init__(self, tables: Tables, meta: Meta) -> None:
        self._tables = tables
        self._meta = meta

    def apply(self, operation: Operation) -> Plain:
        """The value of its outcome. Raises Refused."""
        match operation:
            case Put():
                self._put(operation)
                return None
            case ChangePrice():
                row = self._owned(operation.item, operation.seller)
                self._tables.put_item(operation.item, row._replace(price=operation.price))
                return None
            case ChangeQuantity():
                return self._change_quantity(operation)
            case Remove():
                return self._remove(operation)
            case Reserve():
                return self._reserve(operation)
            case Confirm(order):
                return self._confirm(order)
            case Release(order):
                return self._release(order)
            case Sweep():
                return self._sweep(operation)

    # ---- items

    def _put(self, put: Put) -> None:
        tables = self._tables
        if tables.get("items", put.item.encode()) is not None:
            raise ItemExists(item=put.item)
        self._meta.serials += 1
        row = ItemRow(put.seller, put.name, put.category, put.keywords, put.condition, put.price)
        tables.put_item(put.item, row)
        tables.put_stock(put.item, StockRow(put.quantity, 0, 0, self._meta.serials))
        for table, key in _index_rows(put.item, row):
            tables.mark(table, key)

    def _remove(self, remove: Remove) -> int:
        row = self._owned(remove.item, remove.seller)
        stock = self._stock(remove.item)
        for table, key in _index_rows(remove.item, row):
            self._tables.delete(table, key)
        self._tables.delete("items", remove.item.encode())
        self._tables.delete("stock", remove.item.encode())
        return stock.left

    def _change_quantity(self, change: ChangeQuantity) -> int:
        self._owned(change.item, change.seller)
        stock = self._stock(change.item)
        left = stock.left + change.change
        if left < 0:
            raise OutOfStock(item=change.item, wanted=-change.change, left=stock.left)
        if left > QUANTITY_MAX:
            raise IllegalValue(what="the quantity", value=str(left), limit=f"at most {QUANTITY_MAX} units on sale")
        self._tables.put_stock(change.item, stock._replace(left=left))
        return left

    def _owned(self, item: str, seller: str) -> ItemRow:
        row = self._tables.item(item)
        if row is None:
            raise UnknownItem(item=item)
        if row.seller != seller:
            raise NotTheSeller(item=item, seller=seller)
        return row

    def _stock(self, item: str) -> StockRow:
        row = self._tables.stock(item)
        if row is None:
            raise UnknownItem(item=item)
        return row

    # ---- orders

    def _reserve(self, reserve: Reserve) -> Plain:
        order = reserve.order
        known = self._tables.order(order)
        if known is not None:
            if tuple((line.item, line.quantity) for line in known.lines) != reserve.lines:
                raise OrderReused(order=order)
            if known.state == OrderState.RELEASED:
                raise OrderReleased(order=order)
            return reservation(order, known)
        lines = []
        taken = []
        for item, quantity in reserve.lines:
            row, stock = self._tables.item(item), self._stock(item)
            if row is None or stock.left < quantity:
                raise OutOfStock(item=item, wanted=quantity, left=stock.left)
            lines.append(OrderLine(item, quantity, row.price, stock.serial))
            taken.append((item, stock._replace(left=stock.left - quantity, reserved=stock.reserved + quantity)))
        for item, stock in taken:
            self._tables.put_stock(item, stock)
        held = OrderRow(OrderState.HELD, self._meta.time_us + reserve.hold_ms * 1_000, tuple(lines))
        self._tables.put_order(order, held)
        self._tables.mark("held", due_key(held.due_us, order.encode()))
        return reservation(order, held)

    def _confirm(self, order: str) -> Plain:
        row = self._order(order)
        if row.state == OrderState.RELEASED:
            raise OrderReleased(order=order)
        return reservation(
            order, self._finish(order, row, OrderState.CONFIRMED) if row.state == OrderState.HELD else row
        )

    def _release(self, order: str) -> Plain:
        row = self._order(order)
        if row.state == OrderState.CONFIRMED:
            raise OrderConfirmed(order=order)
        return reservation(
            order, self._finish(order, row, OrderState.RELEASED) if row.state == OrderState.HELD else row
        )

    def _sweep(self, sweep: Sweep) -> Plain:
        released = []
        for key in self._tables.keys("held", b"", limit=sweep.limit):
            due_us, name = split_due_key(key)
            if due_us > self._meta.time_us:
                break
            order = name.decode()
            self._finish(order, self._order(order), OrderState.RELEASED)
            released.append(order)
        return tuple(released)

    def _order(self, order: str) -> OrderRow:
        row = self._tables.order(order)
        if row is None:
            raise UnknownOrder(order=order)
        return row

    def _finish(self, order: str, row: OrderRow, state: OrderState) -> OrderRow:
        """End a held order: its units are sold, or left again (where the same item is still on sale)."""
        tables = self._tables
        for item, quantity, _, serial in row.lines:
            stock = tables.stock(item)
            if stock is None or stock.serial != serial:
                continue
            sold = quantity if state == OrderState.CONFIRMED else 0
            tables.put_stock(
                item,
                stock._replace(
                    left=stock.left + quantity - sold, reserved=stock.reserved - quantity, sold=stock.sold + sold
                ),
            )
        finished = row._replace(state=state.value, due_us=self._meta.time_us + FINISHED_US)
        tables.put_order(order, finished)
        tables.delete("held", due_key(row.due_us, order.encode()))
        tables.mark("finished", due_key(finished.due_us, order.encode()))
        return finished

    def set_back(self, by_us: int) -> None:
        """The time was set back (D7): what was reserved or ended in the meantime is due as long from now."""
        longest = (("held", HOLD_MS_MAX * 1_000), ("finished", FINISHED_US))
        for table, span_us in longest:
            for key in self._tables.keys(table, b"", due_key(self._meta.time_us + span_us + 1, b"")):
                due_us, name = split_due_key(key)
                self._tables.delete(table, key)
                self._tables.mark(table, due_key(due_us - by_us, name))
                order = name.decode()
                self._tables.put_order(order, self._order(order)._replace(due_us=due_us - by_us))

    def forget_finished(self) -> None:
        """Forget orders that ended FINISHED_US ago, FORGOTTEN_MAX of them."""
        for key in self._tables.keys("finished", b"", limit=FORGOTTEN_MAX):
            due_us, name = split_due_key(key)
            if due_us > self._meta.time_us:
                return
            self._tables.delete("finished", key)
            self._tables.delete("reservations", name)


def _index_rows(item: str, row: ItemRow) -> list[tuple[str, bytes]]:
    """The index rows that lead to an item."""
    name = item.encode()
    return [
        ("by_seller", prefix(row.seller) + name),
        ("by_category", prefix(row.category) + name),
        *(("by_keyword", prefix(row.category, keyword) + name) for keyword in row.keywords),
    ]
