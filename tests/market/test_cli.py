"""`ringcast market ...`, as a user types it, on a small cluster of real processes."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from replicas.local.market import LocalMarket

pytestmark = [pytest.mark.processes, pytest.mark.timeout(90)]


@pytest.fixture
def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalMarket]:
    made = LocalMarket.create(tmp_path / "market", bus=1, products=1, sellers=1, buyers=1)
    monkeypatch.setenv("RINGCAST_CLUSTER", str(made.path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    try:
        made.start()
        yield made
    finally:
        made.kill_all()


def ringcast(*arguments: str, code: int = 0, stdin: str | None = None) -> str:
    result = CliRunner().invoke(app, ["market", *arguments], input=stdin)
    assert result.exit_code == code, (arguments, result.output, result.exception)
    return result.output


def document(*arguments: str, code: int = 0) -> Any:
    return json.loads(ringcast(*arguments, "--json", code=code))


def test_a_seller_and_a_buyer(market: LocalMarket, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    enter = ("--password-file", str(password))
    assert "log in" in ringcast("seller", "display-items", code=4)
    assert document("seller", "create-account", "sue", *enter)["account"] == "s1"
    assert "take another name" in ringcast("seller", "create-account", "sue", *enter, code=4)
    ringcast("seller", "login", "sue", "--password-file", "-", stdin="wrong horse\n", code=4)
    ringcast("seller", "login", "sue", *enter)
    kept = next((tmp_path / "home").rglob("market-seller.json"))
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "correct" not in kept.read_text()
    put = ("put-item-for-sale", "Desk lamp", "--category", "home", "--price", "1999", "--quantity", "5")
    item = document("seller", *put, "--keyword", "light")["id"]
    ringcast("seller", "change-price", item, "1499")
    assert document("seller", "remove-units", item, "1")["left"] == 4
    assert "14.99" in ringcast("seller", "display-items")

    session = ("--session", str(tmp_path / "ann.json"))
    ringcast("buyer", "create-account", "ann", *enter)
    ringcast("buyer", "login", "ann", *enter, *session)
    assert document("buyer", "search-items", "home", "light", *session)["items"][0]["id"] == item
    ringcast("buyer", "search-items", "nothing", *session, code=1)
    assert "is empty" in ringcast("buyer", "make-purchase", *session, code=4)
    assert document("buyer", "add-to-cart", item, "3", *session)["in_cart"] == 3
    assert document("buyer", "remove-from-cart", item, *session)["in_cart"] == 2
    assert document("buyer", "display-cart", *session)["total"] == 2_998
    order = document("buyer", "make-purchase", *session)["order"]
    ringcast("buyer", "give-feedback", order, item, "--up", *session)
    ringcast("buyer", "give-feedback", order, item, "--down", *session, code=4)
    assert document("buyer", "get-seller-rating", "s1", *session) == {"seller": "s1", "up": 1, "down": 0}
    assert ringcast("seller", "get-rating").strip() == "1 up, 0 down"
    (bought,) = document("buyer", "get-purchase-history", *session)["purchases"]
    assert (bought["order"], bought["lines"][0]["feedback"]) == (order, "up")
    ringcast("buyer", "clear-cart", *session)
    ringcast("buyer", "logout", *session)
    ringcast("buyer", "display-cart", *session, code=4)
    ringcast("seller", "logout")

    made = document("seed", "--sellers", "2", "--items", "6", "--buyers", "2")
    assert (len(made["sellers"]), made["items"], len(made["buyers"])) == (2, 6, 2)
    found = document("audit")
    assert (found["clean"], found["recorded"]) == (True, 1 + made["purchases"])
