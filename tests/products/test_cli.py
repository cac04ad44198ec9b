"""`ringcast products` on a gateway in this process, whose loop runs in a thread of its own."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.app import app
from replicas.products.samples import sample_products
from tests.products.group import Group

Products = Callable[..., Result]
LAMP = ("put", "Desk lamp", "--seller", "ann", "--category", "home", "--price", "1999", "--id", "lamp")


@pytest.fixture
def products(served: Group, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Products:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RINGCAST_CLUSTER", served.endpoints[0])

    def call(*arguments: str, stdin: str | None = None, code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["products", *arguments], input=stdin)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return call


def test_put_get_search_price_remove(products: Products) -> None:
    assert products(*LAMP, "--quantity", "3", "--keyword", "desk", "--keyword", "light").stdout == "lamp\n"
    other = json.loads(products("put", "Chair", *LAMP[2:8], "--used", "--json").stdout)["id"]
    assert json.loads(products("get", "lamp", "--json").stdout) == {
        "id": "lamp",
        "seller": "ann",
        "name": "Desk lamp",
        "category": "home",
        "keywords": ["desk", "light"],
        "condition": "new",
        "price": 1_999,
        "quantity": 3,
    }
    assert "desk light" in products("get", "lamp", "--local").stdout
    products("price", "lamp", "500", "--seller", "ann")
    found = json.loads(products("search", "home", "light", "soft", "--json").stdout)
    assert [(one["id"], one["matched"], one["price"]) for one in found["items"]] == [("lamp", 1, 500)]
    first = json.loads(products("search", "home", "--limit", "1", "--json").stdout)
    rest = json.loads(products("search", "home", "--after", first["next"], "--json").stdout)
    assert {one["id"] for one in first["items"] + rest["items"]} == {"lamp", other}
    assert "matched" in products("search", "home").stdout
    assert products("remove", "lamp", "--seller", "ann").stdout == "3\n"
    assert json.loads(products("remove", other, "--seller", "ann", "--json").stdout) == {"id": other, "left": 1}


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (("get", "nothing"), 1, "no item 'nothing' is on sale"),
        (("search", "nothing"), 1, ""),
        (("price", "lamp", "1", "--seller", "bob"), 4, "item 'lamp' is not 'bob''s"),
        (("price", "nothing", "1", "--seller", "ann"), 4, "no item 'nothing'"),
        (("remove", "lamp", "--seller", "bob"), 4, "only the seller"),
        (LAMP, 4, "item 'lamp' is on sale already"),
        (("put", "a\nb", *LAMP[2:8]), 4, "name is 'a\\nb', expected 1 to 64 characters"),
        (("put", "Lamp", *LAMP[2:6], "--price", "-5"), 4, "price is -5"),
        (("search", "home", "a", "b", "c", "d", "e", "f"), 4, "at most 5 keywords"),
        (("import", "missing.csv"), 2, "No such file"),
        (("export", "missing/file.csv"), 2, "No such file"),
    ],
)
def test_what_goes_wrong(products: Products, command: tuple[str, ...], code: int, text: str) -> None:
    products(*LAMP)
    assert text in products(*command, code=code).output


def test_nobody_leads(served: Group, products: Products) -> None:
    served.leader = None
    assert "does not lead" in products("get", "lamp", "--timeout", "0.2", code=3).output


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl"])
def test_sample_import_export(products: Products, name: str) -> None:
    products("sample", "300", name, "--seed", "7")
    found = products("import", name)
    assert found.stdout == "300 put on sale, 0 were already, 0 bad\n"
    products("export", "out-" + name)
    assert Path("out-" + name).read_bytes() == Path(name).read_bytes()
    assert json.loads(products("import", name, "--json").stdout) == {"put": 0, "existing": 300, "bad": []}


def test_pipes(products: Products) -> None:
    text = products("sample", "3").stdout
    assert [row["id"] for row in csv.DictReader(io.StringIO(text))] == [put.item for put in sample_products(3)]
    products("import", "-", stdin=text)
    lines = products("export", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [put.item for put in sample_products(3)]


def test_bad_rows_are_named_and_the_others_go_on(products: Products, served: Group) -> None:
    products("sample", "3", "items.csv")
    path = Path("items.csv")
    lines = path.read_bytes().splitlines()
    lines[2:2] = [b"bad line", lines[1].replace(b"s1-0000000", b"other").replace(b"seller", b"\xff")]
    path.write_bytes(b"\n".join(lines))
    found = products("import", "items.csv", "--json", code=4)
    summary = json.loads(found.stdout)
    assert (summary["put"], [bad["line"] for bad in summary["bad"]]) == (3, [3, 4])
    assert "items.csv, line 3: the line is 'bad line', expected 8 cells" in found.stderr
    assert "items.csv, line 4: seller is" in found.stderr
    assert "3 were already, 2 bad" in products("import", "items.csv", code=4).stdout
    path.write_text("no header\n")
    assert "a header of these columns" in products("import", "items.csv", code=4).output
