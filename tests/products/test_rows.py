"""Files of items: what is read back is what was written, a bad line is named and the next one read."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ringcast
from replicas.products.samples import sample_products
from ringcast.errors import IllegalValue
from ringcast.product_store import limits
from ringcast.product_store.client import ProductStore
from ringcast.product_store.operations import Put, encode_operation
from ringcast.product_store.rows import (
    LINE_CHARACTERS_MAX,
    BadRow,
    Format,
    Row,
    RowWriter,
    export_items,
    format_of,
    import_rows,
    read_rows,
)
from tests.products.group import Group

HEADER = "id,seller,name,category,keywords,condition,price,quantity"
GOOD = "lamp,ann,Desk lamp,home,desk light,new,1999,5"
LAMP = Put("lamp", "ann", "Desk lamp", "home", ("desk", "light"), "new", 1_999, 5)


def written(puts: list[Put], kind: Format) -> str:
    file = io.StringIO(newline="")
    RowWriter(file, kind).write(puts)
    return file.getvalue()


def is_legal(put: Put) -> bool:
    try:
        encode_operation(put)
    except IllegalValue:
        return False
    return True


TEXT = st.text(min_size=1, max_size=limits.CATEGORY_CHARACTERS_MAX)
PUTS = st.builds(
    Put,
    st.from_regex(r"[A-Za-z0-9_.-]{1,36}", fullmatch=True),
    st.just("ann"),
    st.one_of(TEXT, st.sampled_from(['"', ",", '"a",b', "x;y", "'", "\\", "\u00a0x".strip()])),
    TEXT,
    st.lists(st.text(min_size=1, max_size=8), max_size=5, unique=True).map(tuple),
    st.sampled_from(["new", "used"]),
    st.integers(0, limits.PRICE_MAX),
    st.integers(1, limits.QUANTITY_MAX),
).filter(is_legal)


@pytest.mark.parametrize("kind", list(Format))
def test_what_is_written_is_read(kind: Format) -> None:
    @settings(max_examples=100)
    @given(st.lists(PUTS, max_size=5))
    def check(puts: list[Put]) -> None:
        rows = list(read_rows(io.StringIO(written(puts, kind), newline=""), kind))
        first = 2 if kind is Format.CSV else 1
        assert rows == [Row(first + number, put) for number, put in enumerate(puts)]

    check()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("lamp,ann,Desk lamp,home,desk light,new,1999", "8 cells"),
        (GOOD + ",", "8 cells"),
        (GOOD.replace("1999", "19.99"), "price is '19.99', expected a whole number"),
        (GOOD.replace("1999", "-1"), "price is -1"),
        (GOOD.replace("1999", "1_9"), "price is '1_9'"),
        (GOOD.replace("1999", "\u0661"), "price is"),
        (GOOD.replace("1999", "9" * 5_000), "price is"),
        (GOOD.replace(",5", ",0"), "quantity is 0"),
        (GOOD.replace("lamp,ann", "la mp,ann"), "item is 'la mp'"),
        (GOOD.replace("light", "much.too.long"), "a keyword is 'much.too.long'"),
        (GOOD.replace("light", "desk"), "each keyword once"),
        (GOOD.replace("new", "broken"), "condition is 'broken'"),
        (GOOD.replace("Desk", '"Desk'), "one row of CSV"),
        (GOOD.replace("Desk", '"Desk" x'), "one row of CSV"),
        ('lamp,ann,"Desk lamp', "one row of CSV"),
        (GOOD.replace("Desk", "De\udcffsk"), "name is"),
        (GOOD.replace("Desk", "De\0sk"), ""),
        ("x" * 1_000_000, f"at most {LINE_CHARACTERS_MAX} characters"),
    ],
)
def test_a_bad_line_of_csv_is_named_and_the_next_one_read(line: str, reason: str) -> None:
    file = io.StringIO(f"\ufeff{HEADER}\r\n{line}\r\n\r\n{GOOD}\r\n{line}", newline="")
    first, good, last = read_rows(file, Format.CSV)
    assert good == Row(4, LAMP)
    for bad, number in ((first, 2), (last, 5)):
        assert isinstance(bad, BadRow)
        assert bad.line == number
        assert reason in bad.reason
        assert len(bad.reason) < 300


OBJECT = (
    '{"id":"lamp","seller":"ann","name":"Desk lamp","category":"home","keywords":["desk","light"],'
    '"condition":"new","price":1999,"quantity":5}'
)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "a JSON object"),
        ("5", "a JSON object"),
        ("[" * 10_000, ""),
        (OBJECT.replace('"id":"lamp",', ""), "the fields"),
        (OBJECT.replace('"id"', '"id":"x","id"'), "each field once"),
        (OBJECT.replace('"id"', '"colour":"red","id"'), "the fields"),
        (OBJECT.replace("1999", "NaN"), "a whole number"),
        (OBJECT.replace("1999", "1999.0"), "price is 1999.0"),
        (OBJECT.replace("1999", "true"), "price is True"),
        (OBJECT.replace("1999", '"1999"'), "price is '1999'"),
        (OBJECT.replace('["desk","light"]', '"desk"'), "a list"),
        (OBJECT.replace('["desk","light"]', "[[]]"), "a keyword is []"),
        (OBJECT.replace("Desk", "\\ud800"), "name is"),
        (OBJECT + OBJECT, "Extra data"),
    ],
)
def test_a_bad_line_of_json_is_named_and_the_next_one_read(line: str, reason: str) -> None:
    bad, good = read_rows(io.StringIO(f"{line}\n{OBJECT}\n"), Format.JSON_LINES)
    assert good == Row(2, LAMP)
    assert isinstance(bad, BadRow)
    assert bad.line == 1
    assert reason in bad.reason


@pytest.mark.parametrize("header", ["", "id,seller", HEADER + ",colour", GOOD, HEADER.replace("id", "id,id")])
def test_a_csv_file_begins_with_its_header(header: str) -> None:
    with pytest.raises(IllegalValue, match="a header of these columns: id,seller"):
        list(read_rows(io.StringIO(f"{header}\n{GOOD}\n"), Format.CSV))


def test_columns_may_stand_in_any_order() -> None:
    reordered = (
        "price,quantity,id,seller,name,category,keywords,condition\n1999,5,lamp,ann,Desk lamp,home,desk light,new\n"
    )
    assert list(read_rows(io.StringIO(reordered), Format.CSV)) == [Row(2, LAMP)]


def test_the_format_goes_by_the_ending() -> None:
    assert [format_of(name) for name in ("a.csv", "b.JSONL", "c.ndjson", "-")] == ["csv", "jsonl", "jsonl", "csv"]


def test_samples_are_legal_and_the_same_from_the_same_seed() -> None:
    first = list(sample_products(2_000, seed=5))
    assert first == list(sample_products(2_000, seed=5))
    assert first != list(sample_products(2_000, seed=6))
    assert all(map(is_legal, first))
    assert len({put.item for put in first}) == 2_000
    assert len({put.category for put in first}) == 8


async def test_import_twice_then_export(client: ProductStore) -> None:
    puts = list(sample_products(1_500))
    file = written(puts, Format.CSV) + "bad line\n" + written([puts[0]], Format.CSV).splitlines()[1]
    seen = []
    first = await import_rows(
        client, read_rows(io.StringIO(file), Format.CSV), on_progress=lambda now: seen.append(now.rows)
    )
    assert (first.put, first.existing, [bad.line for bad in first.bad]) == (1_500, 1, [1_502])
    assert sorted(seen) == list(range(1, 1_503))
    again = await import_rows(client, read_rows(io.StringIO(file), Format.CSV))
    assert (again.put, again.existing, len(again.bad)) == (0, 1_501, 1)
    out = io.StringIO(newline="")
    writer = RowWriter(out, Format.CSV)
    async for items in export_items(client):
        writer.write(items)
    assert out.getvalue() == written(puts, Format.CSV)


async def test_an_import_through_a_change_of_leader_puts_each_row_once(two: Group) -> None:
    puts = list(sample_products(3_000))

    def rows() -> list[Row]:
        return [Row(number, put) for number, put in enumerate(puts, 2)]

    def kill(imported: object) -> None:
        if two.leader == 1 and two.store.applied > 2:
            two.nodes[0].forgets = 1
            two.leader = 2

    async with ringcast.products(two.endpoints) as store:
        found = await import_rows(store, rows(), on_progress=kill, in_flight=200)
    assert two.leader == 2
    assert (found.put, found.existing, found.bad) == (3_000, 0, [])
    with two.store.view() as view:
        assert view.items == 3_000


async def test_an_import_stops_where_nobody_answers(one: Group) -> None:
    one.leader = None
    async with ringcast.products(one.endpoints, timeout=0.2) as store:
        with pytest.raises(ringcast.Timeout):
            await import_rows(store, [Row(2, LAMP), Row(3, LAMP._replace(item="other"))])
