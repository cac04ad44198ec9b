"""broker/grants.py: patterns, roles, and what a key sees of queries and of the feed."""

import pytest

from broker.grants import ANYTHING, PRODUCTS, Grant, covers
from ringcast.bus.batch import pack
from ringcast.bus.cursors import COMMIT, CursorOperation, encode_operation
from ringcast.bus.feed import CONTROL, prefix
from ringcast.errors import NotAllowed
from ringcast.wire import FORWARD, LINEARIZABLE, Answer, Fetch, Query

BILLING = Grant("billing", publish=("orders.>", "bills"), subscribe=("orders.>",), cursors=("billing", "billing.>"))
READER = Grant("reader", subscribe=(">",), cursors=(">",))


def fetch(pattern: str) -> Fetch:
    return Fetch(1, pattern, 0, FORWARD, 10, 1_000, LINEARIZABLE)


def query(name: str, /, **arguments: str) -> Query:
    return Query(1, name, dict(arguments), LINEARIZABLE)


@pytest.mark.parametrize(
    ("granted", "wanted", "covered"),
    [
        ("a", "a", True),
        ("a", "a.b", False),
        ("a", "a.>", False),
        ("a.>", "a.b", True),
        ("a.>", "a", False),
        ("a.>", "a.b.>", True),
        ("a.>", "ab.c", False),
        ("a.b.>", "a.>", False),
        (">", "a.>", True),
        (">", ">", True),
        ("a.>", ">", False),
        (">", "_cursors", False),
        (">", "_products", False),
        ("_products", "_products", True),
        ("_x.>", "_x.y", True),
    ],
)
def test_patterns(granted: str, wanted: str, covered: bool) -> None:
    assert covers(granted, wanted) is covered


def test_publish_needs_the_role_and_the_topic() -> None:
    packed = pack([b"x"])
    assert BILLING.refuse_publish("orders.eu", packed) is None
    assert BILLING.refuse_publish("bills", packed) is None
    denied = BILLING.refuse_publish("salaries", packed)
    assert isinstance(denied, NotAllowed)
    assert denied.details == {
        "key": "billing",
        "role": "publish",
        "what": "publish to 'salaries'",
        "granted": "orders.>, bills",
    }
    assert "it lacks the role 'publish'" in str(denied)
    assert READER.refuse_publish("orders.eu", packed) is not None
    assert ANYTHING.refuse_publish("salaries", packed) is None


def test_what_is_remembered_of_topics_is_bounded() -> None:
    grant = Grant("many", publish=("a.>",))
    for number in range(10_000):
        assert grant.may_publish(f"a.{number}")
        assert not grant.may_publish(f"b.{number}")
    assert len(grant._publishes) <= 4_096


def test_a_cursor_is_moved_by_who_may_and_an_empty_filler_by_anybody() -> None:
    own = encode_operation(CursorOperation(COMMIT, "billing.daily", "orders.>", 5))
    other = encode_operation(CursorOperation(COMMIT, "shipping", "orders.>", 5))
    assert BILLING.refuse_publish("_cursors", pack([own])) is None
    assert BILLING.refuse_publish("_cursors", pack([b""])) is None  # K1: a refused number must be used
    denied = BILLING.refuse_publish("_cursors", pack([own, other]))
    assert denied is not None
    assert denied.details["role"] == "cursors"
    assert ANYTHING.refuse_publish("_cursors", pack([other])) is None


@pytest.mark.parametrize("pattern", ["orders", "salaries", "salaries.>", ">", "_cursors"])
def test_a_fetch_beyond_the_patterns(pattern: str) -> None:
    denied = BILLING.refuse_request(fetch(pattern))
    assert denied is not None
    assert denied.details["role"] == "subscribe"
    assert ANYTHING.refuse_request(fetch(pattern)) is None


def test_a_fetch_within_them() -> None:
    assert BILLING.refuse_request(fetch("orders.>")) is None
    assert BILLING.refuse_request(fetch("orders.eu")) is None


@pytest.mark.parametrize("name", ["change_members", "recover", "digests", "chains"])
def test_operators_queries_need_admin(name: str) -> None:
    denied = READER.refuse_request(query(name))
    assert denied is not None
    assert denied.details["role"] == "admin"
    assert ANYTHING.refuse_request(query(name)) is None


def test_named_queries_show_what_may_be_read() -> None:
    assert BILLING.refuse_request(query("topic", name="salaries")) is not None
    assert BILLING.refuse_request(query("cursor", name="shipping")) is not None
    assert READER.refuse_request(query("customers")) is not None
    assert Grant("buyers", subscribe=("_customers",)).refuse_request(query("customers")) is None
    assert BILLING.refuse_request(query("status")) is None
    topics = Answer(1, {"topics": [("orders.eu", 1, 0), ("salaries", 1, 1)], "complete": True}, 2)
    shown = BILLING.show("topics", topics)
    assert isinstance(shown, Answer)
    assert shown.result == {"topics": [("orders.eu", 1, 0)], "complete": True}
    cursors = BILLING.show("cursors", Answer(1, {"cursors": [("billing", ">", 1), ("shipping", ">", 1)]}, 2))
    assert isinstance(cursors, Answer)
    assert cursors.result == {"cursors": [("billing", ">", 1)]}
    assert isinstance(BILLING.show("record", Answer(1, {"topic": "salaries"}, 2)), NotAllowed)
    assert ANYTHING.show("topics", topics) is topics


@pytest.mark.parametrize(
    ("grant", "pattern", "prefixes"),
    [
        (BILLING, "orders.>", (b"orders.",)),
        (BILLING, "orders.eu", (b"orders.eu\0",)),
        (BILLING, "salaries", ()),
        (BILLING, ">", ()),
        (READER, "salaries", (b"salaries\0",)),
        (READER, "_cursors", ()),
        (ANYTHING, "_cursors", (b"_cursors\0",)),
    ],
)
def test_the_prefixes_of_the_feed(grant: Grant, pattern: str, prefixes: tuple[bytes, ...]) -> None:
    assert grant.feed_prefixes(prefix(pattern)) == prefixes


@pytest.mark.parametrize("wanted", [b"ord", b"orders", b"\x01", b"\x01control\0orders.>\0", b"orders.eu\0x", b"\xff\0"])
def test_prefixes_that_are_no_topic_and_no_pattern(wanted: bytes) -> None:
    for grant in (BILLING, READER):
        assert grant.feed_prefixes(wanted) == ()


def test_the_whole_feed_is_not_the_control_topics_of_others() -> None:
    for grant in (READER, ANYTHING):
        prefixes = grant.feed_prefixes(b"")
        assert all(not BILLING.control.startswith(one) for one in prefixes)
        assert any(b"orders\0".startswith(one) for one in prefixes)
        assert any(b"_cursors\0".startswith(one) for one in prefixes) is grant.admin


def test_each_set_of_patterns_has_a_control_topic_and_none_begins_like_another() -> None:
    names = [grant.control for grant in (BILLING, READER, ANYTHING, Grant("x", subscribe=("orders.>", "a")))]
    assert len(set(names)) == len(names)
    assert all(one.startswith(CONTROL) for one in names)
    assert not any(one != other and one.startswith(other) for one in names for other in names)
    assert Grant("y", subscribe=("a", "orders.>")).control == names[3]


def test_the_product_store_is_a_name_in_patterns() -> None:
    seller = Grant("seller", publish=("_products",), subscribe=("_products",))
    assert seller.refuse_service(PRODUCTS, change=True) is None
    assert seller.refuse_service(PRODUCTS, change=False) is None
    assert READER.refuse_service(PRODUCTS, change=False) is not None
    assert ANYTHING.refuse_service(PRODUCTS, change=True) is None
