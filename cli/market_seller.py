"""`ringcast market seller ...`: every function of a seller, a command each."""

from typing import Annotated, Any

import typer

from cli import render
from cli.common import ClusterOption, JsonOption, TimeoutOption, reported
from cli.market import AfterOption, ItemArgument, SessionOption, add_account_commands, done, money, on
from ringcast import Condition, Item
from ringcast.market import Seller
from ringcast.market.client import PAGE
from ringcast.product_store.limits import PAGE_MAX

seller_app = typer.Typer(help="What a seller does.", no_args_is_help=True)
add_account_commands(seller_app, Seller)

COLUMNS = ("id", "name", "category", "keywords", "condition", "price", "quantity")
QuantityOption = Annotated[int, typer.Option("--quantity", metavar="UNITS", help="How many units.")]


def item_rows(items: list[Item], columns: tuple[str, ...] = COLUMNS) -> list[list[Any]]:
    """Items as rows of a table."""
    shown = {"keywords": " ".join, "price": money}
    return [[shown.get(name, str)(getattr(one, name)) for name in columns] for one in items]  # type: ignore[operator]


@seller_app.command("put-item-for-sale")
@reported
def put_item_for_sale(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    category: Annotated[str, typer.Option("--category", metavar="NAME", help="Buyers search in it.")],
    price: Annotated[int, typer.Option("--price", metavar="CENTS", help="Of one unit, in minor units.")],
    quantity: QuantityOption = 1,
    keyword: Annotated[list[str] | None, typer.Option("--keyword", metavar="WORD", help="Up to five times.")] = None,
    used: Annotated[bool, typer.Option("--used", help="It is not new.")] = False,
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Put an item on sale; print its id."""
    condition = Condition.USED if used else Condition.NEW
    item = on(
        Seller,
        cluster,
        timeout,
        session,
        lambda one: one.put_item_for_sale(
            name, category=category, price=price, quantity=quantity, keywords=keyword or (), condition=condition
        ),
    )
    done({"id": item}, item, json=json)


@seller_app.command("change-price")
@reported
def change_price(
    item: ItemArgument,
    cents: Annotated[int, typer.Argument(metavar="CENTS", help="The new price, in minor units.")],
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Change the sale price of an item, for purchases from now on."""
    on(Seller, cluster, timeout, session, lambda one: one.change_price(item, cents))
    done({"id": item, "price": cents}, "", json=json)


@seller_app.command("remove-units")
@reported
def remove_units(
    item: ItemArgument,
    units: Annotated[int, typer.Argument(metavar="UNITS", help="How many.")],
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Remove units of an item from sale; print how many are left."""
    left = on(Seller, cluster, timeout, session, lambda one: one.remove_units(item, units))
    done({"id": item, "left": left}, left, json=json)


@seller_app.command("display-items")
@reported
def display_items(
    limit: Annotated[int, typer.Option("--limit", min=1, max=PAGE_MAX, help="Items of a page.")] = PAGE,
    after: AfterOption = "",
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """The own items on sale."""
    page = on(Seller, cluster, timeout, session, lambda one: one.display_items(after, limit=limit))
    if json:
        render.as_json({"items": [one._asdict() for one in page.entries], "next": page.next})
        return
    render.console().print(render.table(COLUMNS, item_rows(list(page.entries))))
    if page.next:
        render.note(f"there are more: --after {page.next}")


@seller_app.command("get-rating")
@reported
def get_rating(
    session: SessionOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """The own rating: thumbs up, thumbs down."""
    rating = on(Seller, cluster, timeout, session, lambda one: one.get_rating())
    done(rating._asdict(), f"{rating.up} up, {rating.down} down", json=json)
