"""The store against a model in plain Python, and against itself where the same entries come in other portions."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ringcast.errors import RingcastError
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
    decode_outcomes,
    encode_operation,
)
from ringcast.product_store.types import Stock
from ringcast.product_store.wire import Operate
from store.products.entries import decode_result, encode_entry
from tests.products.model import Answer, Model
from tests.products.store import START_US, Store, opened

ITEMS = st.sampled_from(["a", "b", "c", "d"])
SELLERS = st.sampled_from(["ann", "bob"])
ORDERS = st.sampled_from(["o1", "o2", "o3", "o4", "o5"])
CATEGORIES = st.sampled_from(["x", "y"])
KEYWORDS = st.lists(st.sampled_from(["k1", "k2", "k3"]), max_size=3, unique=True).map(tuple)
PRICES = st.integers(0, 50)
QUANTITIES = st.integers(1, 5)
LINES = st.lists(st.tuples(ITEMS, QUANTITIES), min_size=1, max_size=3, unique_by=lambda line: line[0]).map(tuple)
PUTS = st.builds(Put, ITEMS, SELLERS, st.just("thing"), CATEGORIES, KEYWORDS, st.just("new"), PRICES, QUANTITIES)
OPERATIONS = st.one_of(
    PUTS,
    PUTS,
    st.builds(ChangePrice, ITEMS, SELLERS, PRICES),
    st.builds(ChangeQuantity, ITEMS, SELLERS, st.integers(-5, 5).filter(bool)),
    st.builds(Remove, ITEMS, SELLERS),
    st.builds(Reserve, ORDERS, LINES, st.sampled_from([1, 1_000, 60_000])),
    st.builds(Reserve, ORDERS, LINES, st.just(1_000)),
    st.builds(Confirm, ORDERS),
    st.builds(Release, ORDERS),
    st.builds(Sweep, st.integers(1, 3)),
)
CLIENTS = [bytes([number]) * 16 for number in range(3)]


def answer(outcome: bytes) -> Answer:
    """A reservation is told without its due time, as the model does."""
    try:
        value = decode_outcome(outcome)
    except RingcastError as error:
        return error.code, None
    return "", value[:3] if type(value) is tuple and len(value) == 4 and type(value[3]) is int else value


class Stateful(RuleBasedStateMachine):
    """Requests of three clients, some sent twice; after each step both say the same of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store(self.folder)
        self.model = Model(now_us=START_US)
        self.sequences = dict.fromkeys(CLIENTS, 0)
        self.answered: list[tuple[Operate, list[Answer]]] = []

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(client=st.sampled_from(CLIENTS), operations=st.lists(OPERATIONS, min_size=1, max_size=4))
    def request(self, client: bytes, operations: list[Operation]) -> None:
        sequence = self.sequences[client] = self.sequences[client] + 1
        packed = tuple(map(encode_operation, operations))
        request = Operate(client, sequence, 0, 0, packed)
        expected = [self.model.apply(operation) for operation in operations]
        assert list(map(answer, self.store.request(request))) == expected
        self.answered.append((request, expected))

    @rule(data=st.data())
    def request_again(self, data: Any) -> None:
        if self.answered:
            request, expected = data.draw(st.sampled_from(self.answered))
            assert list(map(answer, self.store.request(request))) == expected

    @rule(seconds=st.sampled_from([-5, 1, 30, 90]))
    def time_passes(self, seconds: int) -> None:
        """The store's clock never goes back, whatever a proposer's does."""
        self.store.now_us += seconds * 1_000_000
        self.store.entry(encode_entry(self.store.now_us, []))
        self.model.now_us = max(self.model.now_us, self.store.now_us)
        self.store.now_us = self.model.now_us

    @rule(category=CATEGORIES, keywords=KEYWORDS, limit=st.integers(1, 3))
    def search(self, category: str, keywords: tuple[str, ...], limit: int) -> None:
        found, cursor = [], None
        with self.store.view() as view:
            while cursor != "":
                page = view.search(category, keywords, cursor or "", limit)
                found += [(match.matched, match.item.id) for match in page.entries]
                cursor = page.next
        assert found == self.model.search(category, keywords)

    @invariant()
    def both_hold_the_same(self) -> None:
        with self.store.view() as view:
            assert view.items == len(self.model.sales)
            for item, sale in self.model.sales.items():
                assert view.get(item) == self.model.item(item)
                assert view.stock(item) == Stock(sale.left, sale.reserved, sale.sold)
                assert sale.left + sale.reserved + sale.sold == sale.on_sale
            for order in self.model.orders:
                found = view.reservation(order)
                assert found is not None
                assert (found.order, found.state, found.lines) == self.model.told(order)
            for seller in ("ann", "bob"):
                own = sorted(item for item, sale in self.model.sales.items() if sale.put.seller == seller)
                assert [item.id for item in view.by_seller(seller, "", 9).entries] == own
            due = sorted(
                (one.due_us, name)
                for name, one in self.model.orders.items()
                if one.state == "held" and one.due_us <= self.model.now_us
            )
            assert [(one.due_us, one.order) for one in view.due(self.model.now_us, 9)] == due


TestStateful = Stateful.TestCase
TestStateful.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

REQUESTS = st.tuples(
    st.sampled_from(CLIENTS), st.integers(1, 6), st.integers(0, 3), st.lists(OPERATIONS, min_size=1, max_size=3)
)
ENTRIES = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 10**10), st.lists(REQUESTS, max_size=4)),
        st.sampled_from([b"", b"\xc1", b"\x93\x02\x05\x90"]),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(ENTRIES, st.lists(st.integers(1, 4), min_size=12, max_size=12))
def test_the_same_entries_in_any_portions_make_the_same_state(entries: list[Any], portions: list[int]) -> None:
    log: list[tuple[int, bytes]] = []
    for index, entry in enumerate(entries, 1):
        if type(entry) is bytes:
            log.append((index, entry))
            continue
        time_us, requests = entry
        made = [Operate(who, n, ack, 0, tuple(map(encode_operation, what))) for who, n, ack, what in requests]
        log.append((index, encode_entry(START_US + time_us, made)))
    with (
        tempfile.TemporaryDirectory() as folder,
        opened(Path(folder) / "a", 2) as one,
        opened(Path(folder) / "b", 2) as two,
    ):
        results = one.apply(log)
        again: list[bytes] = []
        rest = log
        for size in portions:
            again += two.apply(rest[:size])
            rest = rest[size:]
        assert again == results
        assert one.digest == two.digest
        for (_, data), result in zip(log, results, strict=True):
            _is_whole(data, result)


def _is_whole(data: bytes, result: bytes) -> None:
    """Every request of an entry has an answer, and every operation of it, or the whole has one."""
    if not data:
        assert result == b""
        return
    try:
        outcomes = decode_outcome(result)
    except RingcastError as error:
        assert error.code in {"bad_frame", "unsupported_version"}  # noqa: PT017 - only some entries are refused
        return
    for outcome in outcomes:
        try:
            decode_outcomes(outcome, len(decode_outcome(outcome)))
        except RingcastError as error:
            assert error.code in {"session_expired", "already_applied", "id_reused", "too_large"}  # noqa: PT017


def test_the_digest_sees_any_change(store: Store) -> None:
    seen = {store.digest}
    put = Put("a", "ann", "thing", "x", ("k1",), "new", 1, 1)
    steps: list[Operation] = [
        put,
        ChangePrice("a", "ann", 2),
        ChangeQuantity("a", "ann", 1),
        Reserve("o", (("a", 1),), 1),
        Confirm("o"),
        Remove("a", "ann"),
    ]
    for number, operation in enumerate(steps, 2):
        store.do(operation)
        seen.add(store.digest)
        assert len(seen) == number
    store.entry(b"")
    assert store.digest not in seen
    assert decode_result(store.entry(encode_entry(START_US, [])), 0) == []
