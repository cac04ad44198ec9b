"""The product store as plain Python: what each operation must do, said a second time and in another way."""

from dataclasses import dataclass, field

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
from ringcast.product_store.types import Item

#: An error's code, or the value.
Answer = tuple[str, object]


@dataclass
class Sale:
    """An item on sale. put on sale = left + reserved + sold, at any time."""

    put: Put
    price: int
    left: int
    on_sale: int
    reserved: int = 0
    sold: int = 0


@dataclass
class Order:
    state: str
    due_us: int
    lines: list[tuple[Sale, int, int]]
    asked: tuple[tuple[str, int], ...]


@dataclass
class Model:
    """Requests of sessions that never end; `now_us` as the entries say."""

    sales: dict[str, Sale] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    now_us: int = 0

    def apply(self, operation: Operation) -> Answer:
        match operation:
            case Put():
                if operation.item in self.sales:
                    return "item_exists", None
                self.sales[operation.item] = Sale(operation, operation.price, operation.quantity, operation.quantity)
                return "", None
            case ChangePrice() | ChangeQuantity() | Remove():
                return self._change(operation)
            case Reserve():
                return self._reserve(operation)
            case Confirm(name) | Release(name):
                return self._end(name, "confirmed" if isinstance(operation, Confirm) else "released")
            case Sweep():
                due = sorted(
                    (one.due_us, name)
                    for name, one in self.orders.items()
                    if one.state == "held" and one.due_us <= self.now_us
                )[: operation.limit]
                for _, name in due:
                    self._end(name, "released")
                return "", tuple(name for _, name in due)

    def _change(self, operation: ChangePrice | ChangeQuantity | Remove) -> Answer:
        sale = self.sales.get(operation.item)
        if sale is None:
            return "unknown_item", None
        if sale.put.seller != operation.seller:
            return "not_the_seller", None
        if isinstance(operation, Remove):
            del self.sales[operation.item]
            return "", sale.left
        if isinstance(operation, ChangePrice):
            sale.price = operation.price
            return "", None
        if sale.left + operation.change < 0:
            return "out_of_stock", None
        sale.left += operation.change
        sale.on_sale += operation.change
        return "", sale.left

    def _reserve(self, reserve: Reserve) -> Answer:
        known = self.orders.get(reserve.order)
        if known is not None:
            if known.asked != reserve.lines:
                return "order_reused", None
            return ("order_released", None) if known.state == "released" else ("", self.told(reserve.order))
        for item, quantity in reserve.lines:
            if item not in self.sales:
                return "unknown_item", None
            if self.sales[item].left < quantity:
                return "out_of_stock", None
        taken = []
        for item, quantity in reserve.lines:
            sale = self.sales[item]
            sale.left -= quantity
            sale.reserved += quantity
            taken.append((sale, quantity, sale.price))
        self.orders[reserve.order] = Order("held", self.now_us + 1_000 * reserve.hold_ms, taken, reserve.lines)
        return "", self.told(reserve.order)

    def _end(self, name: str, state: str) -> Answer:
        order = self.orders.get(name)
        if order is None:
            return "unknown_order", None
        if order.state not in {"held", state}:
            return f"order_{order.state}", None
        if order.state == "held":
            order.state = state
            for sale, quantity, _ in order.lines:
                sale.reserved -= quantity
                if state == "confirmed":
                    sale.sold += quantity
                else:
                    sale.left += quantity
        return "", self.told(name)

    def told(self, name: str) -> tuple[object, ...]:
        """A reservation without its due time, which differs once it has ended."""
        order = self.orders[name]
        return name, order.state, tuple((sale.put.item, quantity, price) for sale, quantity, price in order.lines)

    def item(self, item: str) -> Item:
        sale = self.sales[item]
        put = sale.put
        return Item(put.item, put.seller, put.name, put.category, put.keywords, put.condition, sale.price, sale.left)

    def search(self, category: str, keywords: tuple[str, ...]) -> list[tuple[int, str]]:
        """(matched, id), best first."""
        found = []
        for item, sale in self.sales.items():
            matched = len({*keywords} & {*sale.put.keywords})
            if sale.put.category == category and (matched or not keywords):
                found.append((matched, item))
        return sorted(found, key=lambda one: (-one[0], one[1]))
