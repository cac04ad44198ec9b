"""Whatever bytes come: an answer, the same on every replica, and never an exception (docs/faults.md 38)."""

from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ringcast.errors import BadFrame, IllegalValue, RingcastError
from ringcast.product_store.operations import (
    BySeller,
    ChangeQuantity,
    Confirm,
    Put,
    Reserve,
    Search,
    decode_operation,
    decode_outcome,
    decode_question,
    encode_operation,
)
from ringcast.product_store.wire import Operate
from ringcast.strict import dumps
from store.products.entries import encode_entry
from tests.products.store import CLIENT, START_US, opened

LAMP = Put("lamp", "ann", "Desk lamp", "home", ("desk", "light"), "new", 1_999, 5)
OPERATIONS = [
    encode_operation(LAMP),
    encode_operation(ChangeQuantity("lamp", "ann", 1)),
    encode_operation(Reserve("o", (("lamp", 1),), 1)),
    encode_operation(Confirm("o")),
]
QUESTIONS = [encode_operation(BySeller("ann", "", 3)), encode_operation(Search("home", ("desk",), "1:lamp", 3))]
ENTRY = encode_entry(START_US, [Operate(CLIENT, 1, 0, 0, tuple(OPERATIONS)), Operate(CLIENT, 2, 1, 0, ())])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=40),
    st.binary(max_size=40),
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


def damaged(data: bytes, seed: int) -> bytes:
    """The same with some bytes changed, cut out or doubled."""
    random = Random(seed)
    found = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(found)) if found else 0
        match random.randrange(3):
            case 0:
                found[place : place + 1] = random.randbytes(1)
            case 1:
                del found[place : place + random.randrange(4)]
            case _:
                found[place:place] = found[place : place + random.randrange(8)]
    return bytes(found)


def _code(outcome: bytes) -> str:
    """The code of the error that it holds, whose sentence is short and ASCII; "" = none."""
    try:
        decode_outcome(outcome)
    except RingcastError as error:
        assert str(error).isascii()  # noqa: PT017 - some are refused and some are not
        assert len(str(error)) < 400  # noqa: PT017
        return error.code
    return ""


REFUSALS = {
    "item_exists",
    "unknown_item",
    "not_the_seller",
    "out_of_stock",
    "unknown_order",
    "order_reused",
    "order_released",
    "order_confirmed",
}
BYTES = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda kind, rest: dumps((kind, *rest)), st.integers(0, 40), st.lists(PLAIN, max_size=8)),
    st.builds(damaged, st.sampled_from([*OPERATIONS, *QUESTIONS]), st.integers(0, 2**32)),
)


@settings(max_examples=500)
@given(BYTES)
def test_decoding_raises_typed_errors_only(data: bytes) -> None:
    for decode in (decode_operation, decode_question):
        try:
            decode(data)
        except (BadFrame, IllegalValue):
            continue


@settings(max_examples=60)
@given(entries=st.lists(st.one_of(st.builds(damaged, st.just(ENTRY), st.integers(0, 2**32)), PLAIN.map(dumps))))
def test_any_entry_has_a_result(tmp_path_factory: Any, entries: list[bytes]) -> None:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    with opened(folder / "a") as one, opened(folder / "b") as two:
        log = list(enumerate(entries, 1))
        results = one.apply(log)
        assert [two.apply([entry])[0] for entry in log] == results
        assert one.digest == two.digest
        assert one.applied == len(entries)
        for data, result in zip(entries, results, strict=True):
            assert _code(result) in {"", "bad_frame", "unsupported_version"} if data else result == b""


@settings(max_examples=100)
@given(st.lists(BYTES, min_size=1, max_size=6))
def test_any_operation_has_an_outcome(tmp_path_factory: Any, operations: list[bytes]) -> None:
    with opened(tmp_path_factory.mktemp("fuzz")) as store:
        store.do(LAMP)
        outcomes = store.request(Operate(b"other client 16.", 1, 0, 0, tuple(operations)))
        assert len(outcomes) == len(operations)
        assert {*map(_code, outcomes)} <= {"", "bad_frame", "illegal_value", *REFUSALS}
