"""D7: the tables' time was far ahead for a while, and is set back: holds, sessions and ended orders go on as before."""

from ringcast.product_store.operations import ChangeQuantity, Confirm, Put, Reserve, Sweep, encode_operation
from ringcast.product_store.wire import Operate
from store.products.entries import encode_entry
from store.products.machine import SET_BACK_US
from store.products.operations import FINISHED_US
from tests.products.store import Store, new_client

DAY_US = 86_400_000_000
LAMP = Put("lamp", "ann", "Desk lamp", "home", (), "new", 1_999, 50)


def entry(store: Store, *, sets_back: bool) -> None:
    """One more unit, by a client of its own."""
    request = Operate(new_client(), 1, 0, store.applied, (encode_operation(ChangeQuantity("lamp", "ann", 1)),))
    store.entry(encode_entry(store.now_us, [request], sets_back=sets_back))


def time_us(store: Store) -> int:
    with store.view() as view:
        return view.meta.time_us


def test_time_falls_only_where_an_entry_says_so_and_by_more_than_a_minute(store: Store) -> None:
    store.do(LAMP)
    begun = store.now_us
    store.now_us += DAY_US
    entry(store, sets_back=False)
    store.now_us = begun
    entry(store, sets_back=False)
    assert time_us(store) == begun + DAY_US
    store.now_us = begun + DAY_US - SET_BACK_US
    entry(store, sets_back=True)
    assert time_us(store) == begun + DAY_US
    store.now_us = begun
    entry(store, sets_back=True)
    assert time_us(store) == begun


def test_holds_and_ended_orders_of_the_meantime_are_due_as_long_from_now(store: Store) -> None:
    store.do(LAMP)
    begun = store.now_us
    store.do(Reserve("before", (("lamp", 1),), 3_600_000))
    store.now_us = begun + 30 * DAY_US
    store.do(Reserve("meanwhile", (("lamp", 1),), 60_000))
    store.do(Reserve("sold", (("lamp", 1),), 60_000))
    store.do(Confirm("sold"))
    store.now_us = begun
    entry(store, sets_back=True)
    assert store.do(Sweep(10)) == ()
    store.now_us = begun + 59_000_000
    assert store.do(Sweep(10)) == ()
    store.now_us = begun + 61_000_000
    assert store.do(Sweep(10)) == ("meanwhile",)
    store.now_us = begun + 3_601_000_000
    assert store.do(Sweep(10)) == ("before",)
    store.now_us = begun + FINISHED_US + 1_000_000
    entry(store, sets_back=False)
    with store.view() as view:
        assert view.reservation("sold") is None


def test_sessions_of_the_meantime_live_on_and_end_when_they_are_idle(store: Store) -> None:
    store.do(LAMP)
    begun, client, opened = store.now_us, new_client(), store.applied
    store.now_us = begun + 30 * DAY_US
    more = encode_operation(ChangeQuantity("lamp", "ann", 1))
    store.request(Operate(client, 1, 0, opened, (more,)))
    store.now_us = begun
    entry(store, sets_back=True)
    store.request(Operate(client, 2, 0, opened, (more,)))
    with store.view() as view:
        sessions = view.meta.sessions
    store.now_us = begun + 2 * 3_600_000_000
    for _ in range(2):
        entry(store, sets_back=False)
    with store.view() as view:
        assert view.meta.sessions < sessions + 2
