"""Reads: pages that hold all and nothing twice, the order of a search, and its blocks."""

import random
from collections.abc import Callable

import pytest

from ringcast.errors import IllegalValue
from ringcast.product_store.operations import Put, Remove, encode_operation
from ringcast.product_store.types import Match, Page
from ringcast.product_store.wire import Operate
from store.products import view as view_module
from store.products.entries import encode_entry
from tests.products.store import CLIENT, START_US, Store

WORDS = ("red", "green", "blue", "big", "small", "soft")


def put(item: str, *keywords: str, category: str = "toys", seller: str = "ann") -> Put:
    return Put(item, seller, item, category, keywords, "new", 1, 1)


def fill(store: Store, puts: list[Put]) -> None:
    """All in one entry."""
    operations = tuple(map(encode_operation, puts))
    store.apply([(store.applied + 1, encode_entry(START_US, [Operate(CLIENT, 1, 0, 0, operations)]))])


def pages(store: Store, read: Callable[[str], Page[Match]]) -> list[tuple[int, str]]:
    """(matched, id) of every page."""
    found = []
    cursor = ""
    while True:
        page = read(cursor)
        found += [(match.matched, match.item.id) for match in page.entries]
        cursor = page.next
        if not cursor:
            return found


@pytest.mark.parametrize("block", [1, 2, 3, 512])
@pytest.mark.parametrize("limit", [1, 7, 1_000])
def test_a_search_is_what_sorting_everything_gives(
    store: Store, monkeypatch: pytest.MonkeyPatch, block: int, limit: int
) -> None:
    monkeypatch.setattr(view_module, "BLOCK", block)
    draw = random.Random(7)
    puts = [put(f"i{n:03}", *draw.sample(WORDS, draw.randrange(6))) for n in range(80)]
    fill(store, [*puts, put("x1", *WORDS[:5], category="toys2"), put("x2", *WORDS[:5], category="toy")])
    for count in range(6):
        wanted = tuple(draw.sample(WORDS, count))
        expected = sorted(
            ((len({*one.keywords} & {*wanted}), one.item) for one in puts if not wanted or {*one.keywords} & {*wanted}),
            key=lambda one: (-one[0], one[1]),
        )
        with store.view() as view:
            assert pages(store, lambda cursor, w=wanted: view.search("toys", w, cursor, limit)) == expected  # type: ignore[misc]


def test_a_page_goes_on_behind_what_was_removed_meanwhile(store: Store) -> None:
    for n in range(6):
        store.do(put(f"i{n}", "red", *(["big"] if n % 2 else [])))
    with store.view() as view:
        first = view.search("toys", ("red", "big"), "", 2)
    assert [(one.matched, one.item.id) for one in first.entries] == [(2, "i1"), (2, "i3")]
    store.do(Remove("i3", "ann"))
    store.do(put("i2a", "red", "big"))
    store.do(put("i9", "red", "big"))
    with store.view() as view:
        rest = view.search("toys", ("red", "big"), first.next, 99)
    assert [one.item.id for one in rest.entries] == ["i5", "i9", "i0", "i2", "i4"]


def test_keywords_do_not_run_into_each_other(store: Store) -> None:
    store.do(put("a", "red", category="cat"))
    store.do(put("b", "re", category="cat"))
    store.do(put("c", "red", category="ca"))
    with store.view() as view:
        assert [one.item.id for one in view.search("cat", ("re",), "", 9).entries] == ["b"]
        assert [one.item.id for one in view.search("cat", (), "", 9).entries] == ["a", "b"]
        assert view.search("c", (), "", 9) == Page((), "")


def test_a_sellers_items_in_pages(store: Store) -> None:
    ids = [f"i{n:02}" for n in range(10)]
    fill(store, [put(item, seller="ann" if int(item[1:]) % 2 else "an") for item in ids])
    with store.view() as view:
        first = view.by_seller("ann", "", 3)
        second = view.by_seller("ann", first.next, 2)
        assert [one.id for one in first.entries] == ["i01", "i03", "i05"]
        assert ([one.id for one in second.entries], second.next) == (["i07", "i09"], "")
        assert view.by_seller("nobody", "", 3) == Page((), "")
        some, more = view.all_items("i02", 3)
        assert ([one.id for one in some], more) == (["i03", "i04", "i05"], "i05")
        assert [one.id for one in view.all_items("i07", 9).entries] == ["i08", "i09"]


@pytest.mark.parametrize("cursor", ["3:i1", "0:i1"])
def test_a_cursor_of_another_search_is_refused(store: Store, cursor: str) -> None:
    with store.view() as view, pytest.raises(IllegalValue, match="the cursor is"):
        view.search("toys", ("red", "big"), cursor, 9)
