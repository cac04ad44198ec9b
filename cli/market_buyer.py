"""`ringcast market buyer ...`: every function of a buyer, a command each."""

from typing import Annotated

import typer

from cli import render
from cli.common import NO, ClusterOption, JsonOption, TimeoutOption, reported
from cli.market import AfterOption, ItemArgument, SessionOption, add_account_commands, done, money, on
from cli.market_seller import COLUMNS, item_rows
from ringcast.market import Buyer, Purchase
from ringcast.market.client import HISTORY_PAGE, PAGE
from ringcast.market.limits import HISTORY_PAGE_MAX
from ringcast.product_store.limits import PAGE_MAX

buyer_app = typer.Typer(help="What a buyer does.", no_args_is_help=True)
add_account_commands(buyer_app, Buyer)

UnitsArgument = Annotated[int, typer.Argument(metavar="[UNITS]", help="How many.")]
OrderArgument = Annotated[str, typer.Argument(metavar="ORDER", help="The order, as the history names it.")]
PURCHASE_COLUMNS = ("order", "time", "item", "name", "seller", "units", "price", "feedback")


@buyer_app.command("search-items")
@reported
def search_items(
    category: Annotated[str, typer.Argument(metavar="CATEGORY", help="As the sellers write it.")],
    keywords: Annotated[list[str] | None, typer.Argument(metavar="[KEYWORD]...", help="Up to five.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=PAGE_MAX, help="Items of a page.")] = PAGE,
    after: AfterOption = "",
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """The items of CATEGORY that have a KEYWORD, those that have most of them first. Exit code 1 if there are none."""
    page = on(
        Buyer, cluster, timeout, session, lambda one: one.search_items(category, keywords or (), after, limit=limit)
    )
    if json:
        items = [match.item._asdict() | {"matched": match.matched} for match in page.entries]
        render.as_json({"items": items, "next": page.next})
    elif page.entries:
        rows = item_rows([match.item for match in page.entries], (*COLUMNS, "seller"))
        render.console().print(render.table((*COLUMNS, "seller"), rows))
        if page.next:
            render.note(f"there are more: --after {page.next}")
    if not page.entries:
        raise typer.Exit(NO)


@buyer_app.command("add-to-cart")
@reported
def add_to_cart(
    item: ItemArgument,
    units: UnitsArgument = 1,
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Put units of an item in the cart; print how many of it are there."""
    held = on(Buyer, cluster, timeout, session, lambda one: one.add_to_cart(item, units))
    done({"id": item, "in_cart": held}, held, json=json)


@buyer_app.command("remove-from-cart")
@reported
def remove_from_cart(
    item: ItemArgument,
    units: UnitsArgument = 1,
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Take units of an item out of the cart; print how many of it are left."""
    held = on(Buyer, cluster, timeout, session, lambda one: one.remove_from_cart(item, units))
    done({"id": item, "in_cart": held}, held, json=json)


@buyer_app.command("clear-cart")
@reported
def clear_cart(
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Take everything out of the cart."""
    on(Buyer, cluster, timeout, session, lambda one: one.clear_cart())
    done({"lines": 0}, "", json=json)


@buyer_app.command("display-cart")
@reported
def display_cart(
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """The cart, with prices as they were when the items were added."""
    cart = on(Buyer, cluster, timeout, session, lambda one: one.display_cart())
    if json:
        render.as_json({"lines": [line._asdict() for line in cart.lines], "total": cart.total})
        return
    rows = [(line.item, line.name, line.seller, line.quantity, money(line.price)) for line in cart.lines]
    render.console().print(render.table(("item", "name", "seller", "units", "price"), rows))
    typer.echo(f"total {money(cart.total)}")


@buyer_app.command("make-purchase")
@reported
def make_purchase(
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Buy what is in the cart at the prices of now, all of it or nothing."""
    purchase = on(Buyer, cluster, timeout, session, lambda one: one.make_purchase())
    if json:
        render.as_json(_document(purchase))
        return
    render.console().print(render.table(PURCHASE_COLUMNS, _rows(purchase)))
    typer.echo(f"total {money(purchase.total)}")


@buyer_app.command("give-feedback")
@reported
def give_feedback(
    order: OrderArgument,
    item: ItemArgument,
    up: Annotated[bool, typer.Option("--up/--down", help="Thumbs up, or down.")],
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Thumbs up or down on an item of a purchase, once."""
    on(Buyer, cluster, timeout, session, lambda one: one.give_feedback(order, item, up=up))
    done({"order": order, "item": item, "up": up}, "", json=json)


@buyer_app.command("get-seller-rating")
@reported
def get_seller_rating(
    seller: Annotated[str, typer.Argument(metavar="SELLER", help="The seller's id, as an item names it.")],
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """A seller's rating: thumbs up, thumbs down."""
    rating = on(Buyer, cluster, timeout, session, lambda one: one.get_seller_rating(seller))
    done({"seller": seller, **rating._asdict()}, f"{rating.up} up, {rating.down} down", json=json)


@buyer_app.command("get-purchase-history")
@reported
def get_purchase_history(
    limit: Annotated[int, typer.Option("--limit", min=1, max=HISTORY_PAGE_MAX, help="Of a page.")] = HISTORY_PAGE,
    after: AfterOption = "",
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """The own purchases, newest first."""
    page = on(Buyer, cluster, timeout, session, lambda one: one.get_purchase_history(after, limit=limit))
    if json:
        render.as_json({"purchases": [_document(one) for one in page.entries], "next": page.next})
        return
    render.console().print(render.table(PURCHASE_COLUMNS, [row for one in page.entries for row in _rows(one)]))
    if page.next:
        render.note(f"there are more: --after {page.next}")


def _document(purchase: Purchase) -> dict[str, object]:
    lines = [line._asdict() for line in purchase.lines]
    return {"order": purchase.order, "time": purchase.time, "lines": lines, "total": purchase.total}


def _rows(purchase: Purchase) -> list[tuple[object, ...]]:
    time = f"{purchase.time:%Y-%m-%d %H:%M:%S}"
    return [
        (purchase.order, time, line.item, line.name, line.seller, line.quantity, money(line.price), line.feedback)
        for line in purchase.lines
    ]
