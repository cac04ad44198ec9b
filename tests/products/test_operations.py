"""What each operation does, and what bad input does: a typed answer, the same everywhere, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from ringcast import errors
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
    decode_outcome,
    encode_operation,
)
from ringcast.product_store.types import Item, OrderState, Page, Reservation, SoldLine, Stock
from ringcast.product_store.wire import Operate
from ringcast.strict import dumps
from store.errors import RowDamaged, StoreMisuse
from store.products.entries import decode_result, encode_entry
from store.products.operations import FINISHED_US
from tests.products.store import CLIENT, START_US, Store, opened

LAMP = Put("lamp", "ann", "Desk lamp", "home", ("desk", "light"), "new", 1_999, 5)
HOLD_MS = 60_000


def stock(store: Store, item: str) -> Stock | None:
    with store.view() as view:
        return view.stock(item)


def test_put_get_change_remove(store: Store) -> None:
    assert store.do(LAMP) is None
    store.do(ChangePrice("lamp", "ann", 0))
    assert store.do(ChangeQuantity("lamp", "ann", -5)) == 0
    assert store.do(ChangeQuantity("lamp", "ann", 7)) == 7
    with store.view() as view:
        assert view.get("lamp") == Item("lamp", "ann", "Desk lamp", "home", ("desk", "light"), "new", 0, 7)
        assert view.items == 1
    assert store.do(Remove("lamp", "ann")) == 7
    with store.view() as view:
        assert (view.get("lamp"), view.stock("lamp"), view.items) == (None, None, 0)
        assert view.by_seller("ann", "", 9) == Page((), "")
        assert view.search("home", ("desk",), "", 9) == Page((), "")


def test_index_rows_follow_their_item_within_one_entry(store: Store) -> None:
    """They are written together at the end of it, and before anything looks at them."""
    operations: list[Operation] = [
        LAMP,
        Remove("lamp", "ann"),
        LAMP._replace(keywords=("wood",)),
        LAMP._replace(item="other"),
    ]
    request = Operate(CLIENT, 1, 0, 0, tuple(map(encode_operation, operations)))
    assert [decode_outcome(one) for one in store.request(request)] == [None, 5, None, None]
    with store.view() as view:
        assert [match.item.id for match in view.search("home", ("light",), "", 9).entries] == ["other"]
        assert [match.item.id for match in view.search("home", ("wood",), "", 9).entries] == ["lamp"]
        assert [item.id for item in view.by_seller("ann", "", 9).entries] == ["lamp", "other"]


def test_an_order_is_reserved_then_confirmed_or_released(store: Store) -> None:
    store.do(LAMP)
    held = store.do(Reserve("o1", (("lamp", 2),), HOLD_MS))
    due_us = START_US + HOLD_MS * 1_000
    assert held == ("o1", OrderState.HELD, (("lamp", 2, 1_999),), due_us)
    store.do(ChangePrice("lamp", "ann", 5_000))
    assert store.do(Reserve("o1", (("lamp", 2),), 1)) == held
    assert stock(store, "lamp") == Stock(3, 2, 0)
    store.do(Reserve("o2", (("lamp", 3),), HOLD_MS))
    assert stock(store, "lamp") == Stock(0, 5, 0)
    for _ in range(2):
        assert store.do(Confirm("o1"))[1] == OrderState.CONFIRMED
        assert store.do(Release("o2"))[1] == OrderState.RELEASED
    assert stock(store, "lamp") == Stock(3, 0, 2)
    assert store.do(Reserve("o1", (("lamp", 2),), HOLD_MS))[1] == OrderState.CONFIRMED
    with store.view() as view:
        found = view.reservation("o1")
        assert found == Reservation("o1", "confirmed", (SoldLine("lamp", 2, 1_999),), START_US + FINISHED_US)
        assert found.total == 3_998


def test_due_orders_are_released_by_a_sweep_and_confirmed_until_then(store: Store) -> None:
    store.do(LAMP)
    for number in range(3):
        store.do(Reserve(f"o{number}", (("lamp", 1),), HOLD_MS + number))
    assert store.do(Sweep(9)) == ()
    store.now_us += HOLD_MS * 1_000 + 1_000
    with store.view() as view:
        assert [one.order for one in view.due(store.now_us, 9)] == ["o0", "o1"]
        assert [one.order for one in view.due(store.now_us, 1)] == ["o0"]
    assert store.do(Confirm("o0"))[1] == OrderState.CONFIRMED
    assert store.do(Sweep(9)) == ("o1",)
    assert stock(store, "lamp") == Stock(3, 1, 1)
    with pytest.raises(errors.OrderReleased):
        store.do(Confirm("o1"))


def test_units_of_a_removed_item_do_not_come_back_to_another_of_its_id(store: Store) -> None:
    store.do(LAMP)
    store.do(Reserve("o1", (("lamp", 2),), HOLD_MS))
    assert store.do(Remove("lamp", "ann")) == 3
    store.do(LAMP._replace(seller="bob", quantity=1))
    store.do(Release("o1"))
    assert stock(store, "lamp") == Stock(1, 0, 0)


def test_an_ended_order_is_forgotten_after_a_week(store: Store) -> None:
    store.do(LAMP)
    store.do(Reserve("o1", (("lamp", 2),), HOLD_MS))
    store.do(Confirm("o1"))
    store.now_us += FINISHED_US
    store.do(LAMP._replace(item="other"))
    with pytest.raises(errors.UnknownOrder):
        store.do(Confirm("o1"))
    assert stock(store, "lamp") == Stock(3, 0, 2)


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (LAMP, errors.ItemExists),
        (LAMP._replace(seller="bob"), errors.ItemExists),
        (ChangePrice("nothing", "ann", 1), errors.UnknownItem),
        (ChangePrice("lamp", "bob", 1), errors.NotTheSeller),
        (ChangeQuantity("lamp", "bob", 1), errors.NotTheSeller),
        (ChangeQuantity("lamp", "ann", -6), errors.OutOfStock),
        (ChangeQuantity("lamp", "ann", 10**9), errors.IllegalValue),
        (Remove("lamp", "bob"), errors.NotTheSeller),
        (Remove("nothing", "ann"), errors.UnknownItem),
        (Reserve("new", (("lamp", 6),), 1), errors.OutOfStock),
        (Reserve("new", (("lamp", 1), ("nothing", 1)), 1), errors.UnknownItem),
        (Reserve("held", (("lamp", 1), ("pen", 1)), 1), errors.OrderReused),
        (Reserve("released", (("pen", 1),), 1), errors.OrderReleased),
        (Confirm("nothing"), errors.UnknownOrder),
        (Confirm("released"), errors.OrderReleased),
        (Release("nothing"), errors.UnknownOrder),
        (Release("confirmed"), errors.OrderConfirmed),
    ],
)
def test_a_refused_operation_changes_nothing(store: Store, operation: Operation, error: type[Exception]) -> None:
    store.do(LAMP)
    store.do(LAMP._replace(item="pen"))
    for order, end in (("held", None), ("released", Release("released")), ("confirmed", Confirm("confirmed"))):
        store.do(Reserve(order, (("pen", 1),), HOLD_MS))
        if end is not None:
            store.do(end)
    with pytest.raises(error):
        store.do(operation)
    _changes_nothing(store, encode_operation(operation), error)


VALID: dict[str, Any] = LAMP._asdict() | {"item": "pen"}
BAD_PUTS: list[dict[str, Any]] = [
    {"item": ""},
    {"item": "a" * 37},
    {"item": "a b"},
    {"item": "ä"},
    {"item": 5},
    {"item": None},
    {"seller": "x\0y"},
    {"seller": b"ann"},
    {"name": ""},
    {"name": " lamp"},
    {"name": "lamp\u3000"},
    {"name": "a\nb"},
    {"name": "x" * 65},
    {"name": "e\u0301"},
    {"category": "x" * 33},
    {"category": "a\0"},
    {"keywords": "desk"},
    {"keywords": ("a", "b", "c", "d", "e", "f")},
    {"keywords": ("ninechars",)},
    {"keywords": ("",)},
    {"keywords": ("two w",)},
    {"keywords": (1,)},
    {"keywords": ("a", "a")},
    {"keywords": ({},)},
    {"condition": "broken"},
    {"condition": {}},
    {"price": -1},
    {"price": 10**12 + 1},
    {"price": 1.5},
    {"price": float("nan")},
    {"price": True},
    {"price": "1"},
    {"quantity": 0},
    {"quantity": -1},
    {"quantity": 2**63},
    {"quantity": 2**64 - 1},
    {"quantity": None},
]
RAW = {
    "nothing": b"",
    "cut": b"\x99\x01",
    "bomb": b"\xdd\xff\xff\xff\xff",
    "nested": b"\x91" * 10_000,
    "trailing": dumps((4, "lamp", "ann")) + b"\0",
    "map": dumps({"a": 1}),
    "no kind": dumps(()),
    "unknown kind": dumps((31, "lamp")),
    "a kind of a newer version": dumps((9, "lamp", "ann", 1)),
    "a question": dumps((32, "lamp")),
    "kind of a wrong type": dumps((True, "lamp")),
    "a field less": dumps((4, "lamp")),
    "a field more": dumps((4, "lamp", "ann", 1)),
    "invalid utf-8": b"\x93\x04\xa1\xff\xa3ann",
    "too long": dumps((4, "lamp", "a" * 16_000)),
    "an ext type": b"\x93\x04\xd4\x01\x00\xa3ann",
    "no lines": dumps((5, "o", (), 1)),
    "a line twice": dumps((5, "o", (("lamp", 1), ("lamp", 1)), 1)),
    "a line of three": dumps((5, "o", (("lamp", 1, 1),), 1)),
    "a line of none": dumps((5, "o", (("lamp", 0),), 1)),
    "a hundred and one lines": dumps((5, "o", tuple((f"i{n}", 1) for n in range(101)), 1)),
    "held for ever": dumps((5, "o", (("lamp", 1),), 2**63)),
    "a change of nothing": dumps((3, "lamp", "ann", 0)),
    "a sweep of all": dumps((8, 101)),
}


@pytest.mark.parametrize("bad", BAD_PUTS, ids=str)
def test_a_bad_value_is_refused_by_the_client_and_by_the_store(store: Store, bad: dict[str, Any]) -> None:
    put = Put(**(VALID | bad))
    with pytest.raises(errors.IllegalValue) as caught:
        encode_operation(put)
    assert all(caught.value.details[name] for name in ("what", "value", "limit"))
    assert str(caught.value).isascii()
    store.do(LAMP)
    _changes_nothing(store, dumps((1, *put)), errors.IllegalValue)


@pytest.mark.parametrize("bad", RAW)
def test_bytes_that_are_no_operation_are_answered(store: Store, bad: str) -> None:
    store.do(LAMP)
    _changes_nothing(store, RAW[bad], (errors.BadFrame, errors.IllegalValue))


def _changes_nothing(store: Store, data: bytes, error: Any) -> None:
    """Beside a good neighbour in the same request, the operation is refused and the neighbour is not."""
    other = store.raw(encode_operation(LAMP._replace(item="neighbour")))
    assert other is None
    before = _contents(store)
    sequence = store.sequences[CLIENT] = store.sequences[CLIENT] + 1
    sweep = encode_operation(Sweep(1))
    outcomes = store.request(Operate(CLIENT, sequence, sequence - 1, 0, (sweep, data, sweep)))
    assert [decode_outcome(outcomes[place]) for place in (0, 2)] == [(), ()]
    with pytest.raises(error):
        decode_outcome(outcomes[1])
    assert _contents(store) == before


def _contents(store: Store) -> list[tuple[str, list[tuple[bytes, bytes]]]]:
    """Every table but those that remember the request itself."""
    with store.environment.begin() as transaction:
        return [
            (name, list(transaction.cursor(database)))
            for name, database in store.databases.items()
            if name not in {"meta", "sessions", "outcomes", "used"}
        ]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\xc1", errors.BadFrame),
        (dumps("entry"), errors.BadFrame),
        (dumps(()), errors.BadFrame),
        (dumps((1, 5)), errors.BadFrame),
        (dumps((1, -1, ())), errors.BadFrame),
        (dumps((1, 2**63 - 1, ())), errors.BadFrame),
        (dumps((1, 5, ((b"short", 1, 0, 0, ()),))), errors.BadFrame),
        (dumps((3, "of", "another", "shape")), errors.UnsupportedVersion),
    ],
)
def test_an_entry_that_is_none_is_answered_and_applied(store: Store, data: bytes, error: type[Exception]) -> None:
    store.do(LAMP)
    before, index = _contents(store), store.applied
    result = store.entry(data)
    with pytest.raises(error):
        decode_result(result, 1)
    assert (_contents(store), store.applied) == (before, index + 1)


def test_an_index_is_applied_once_and_none_is_left_out(store: Store) -> None:
    entry = encode_entry(START_US, [Operate(CLIENT, 1, 0, 0, (encode_operation(LAMP),))])
    first, again, empty = store.apply([(1, entry), (1, entry), (2, b"")])
    assert (decode_result(first, 1) != [], again, empty) == (True, b"", b"")
    digest = store.digest
    assert store.apply([(1, entry), (2, entry)]) == [b"", b""]
    assert (store.digest, store.applied) == (digest, 2)
    with pytest.raises(StoreMisuse, match="entry 4 after entry 2"):
        store.apply([(4, entry)])
    assert (store.digest, store.applied) == (digest, 2)


def test_a_transaction_that_is_given_up_is_as_if_it_never_was(store: Store, tmp_path: Path) -> None:
    entry = encode_entry(START_US, [Operate(CLIENT, 1, 0, 0, (encode_operation(LAMP),))])
    with store.environment.begin(write=True, buffers=True) as transaction:
        store.machine.apply(transaction, [(1, entry)])
        transaction.abort()
    assert store.applied == 0
    store.apply([(1, entry)])
    with opened(tmp_path / "other") as other:
        other.apply([(1, entry)])
        assert other.digest == store.digest


def test_a_flipped_bit_is_the_disks_fault_and_no_answer(store: Store) -> None:
    store.do(LAMP)
    with store.environment.begin(write=True) as transaction:
        value = bytearray(transaction.get(b"lamp", db=store.databases["stock"]) or b"")
        value[-1] ^= 1
        transaction.put(b"lamp", bytes(value), db=store.databases["stock"])
    with pytest.raises(RowDamaged):
        store.do(ChangeQuantity("lamp", "ann", 1))
    with store.view() as view, pytest.raises(RowDamaged):
        view.get("lamp")
