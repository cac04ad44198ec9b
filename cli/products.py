"""`ringcast products put|get|search|price|remove|import|export|sample`; what operators need is in products_admin.py."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

import typer

import ringcast
from cli import render
from cli.common import NO, REFUSED, ClusterOption, JsonOption, TimeoutOption, cluster_of, reported, run
from ringcast.product_store.client import PAGE
from ringcast.product_store.limits import PAGE_MAX
from ringcast.product_store.rows import Format, Imported, RowWriter, export_items, format_of, import_rows, read_rows

T = TypeVar("T")

ItemArgument = Annotated[str, typer.Argument(metavar="ITEM", help="The item's id.")]
SellerOption = Annotated[str, typer.Option("--seller", metavar="ID", help="Whose item it is.")]
CategoryOption = Annotated[str, typer.Option("--category", metavar="NAME", help="As it is written.")]
KeywordOption = Annotated[list[str] | None, typer.Option("--keyword", metavar="WORD", help="Up to five times.")]
LocalOption = Annotated[bool, typer.Option("--local", help="What one replica has applied, without asking the others.")]
FileArgument = Annotated[str, typer.Argument(metavar="FILE|-", help="By its ending: CSV, or JSON lines (.jsonl).")]
FormatOption = Annotated[Format | None, typer.Option("--format", help="Not by the file's ending.")]

products_app = typer.Typer(help="The product store: items on sale.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(products_app, name="products")


def _on(cluster: str | None, timeout: float, work: Callable[[ringcast.ProductStore], Awaitable[T]]) -> T:
    """Do something with a client."""

    async def connected() -> T:
        async with ringcast.products(cluster_of(cluster), timeout=timeout) as store:
            return await work(store)

    return run(connected())


def _print_items(items: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    rows = [[" ".join(one[name]) if name == "keywords" else one[name] for name in columns] for one in items]
    render.console().print(render.table(columns, rows))


COLUMNS = ringcast.Item._fields


@products_app.command("put")
@reported
def put(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    seller: SellerOption,
    category: CategoryOption,
    price: Annotated[int, typer.Option("--price", metavar="CENTS", help="Of one unit, in minor units.")],
    quantity: Annotated[int, typer.Option("--quantity", metavar="UNITS", help="How many are on sale.")] = 1,
    keyword: KeywordOption = None,
    used: Annotated[bool, typer.Option("--used", help="It is not new.")] = False,
    item: Annotated[str | None, typer.Option("--id", metavar="ID", help="Its id (default: a random one).")] = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Put an item on sale; print its id."""
    condition = ringcast.Condition.USED if used else ringcast.Condition.NEW
    found = _on(
        cluster,
        timeout,
        lambda store: store.put(
            name,
            seller=seller,
            category=category,
            price=price,
            quantity=quantity,
            keywords=keyword or (),
            condition=condition,
            id=item,
        ),
    )
    if json:
        render.as_json({"id": found})
    else:
        typer.echo(found)


@products_app.command("get")
@reported
def get(
    item: ItemArgument,
    local: LocalOption = False,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """One item. Exit code 1 if none of this id is on sale."""
    found = _on(cluster, timeout, lambda store: store.get(item, consistency="local" if local else "linearizable"))
    if found is None:
        render.error(f"no item {item!r} is on sale: `ringcast products search CATEGORY` shows what is")
        raise typer.Exit(NO)
    if json:
        render.as_json(found._asdict())
    else:
        _print_items([found._asdict()], COLUMNS)


@products_app.command("search")
@reported
def search(
    category: Annotated[str, typer.Argument(metavar="CATEGORY", help="As it is written.")],
    keywords: Annotated[list[str] | None, typer.Argument(metavar="[KEYWORD]...", help="Up to five.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=PAGE_MAX, help="Items of a page.")] = PAGE,
    after: Annotated[str, typer.Option("--after", metavar="CURSOR", help="Where the page before ended.")] = "",
    local: LocalOption = False,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """The items of CATEGORY that have a KEYWORD, those that have most of them first. Exit code 1 if there are none."""
    page = _on(
        cluster,
        timeout,
        lambda store: store.search(
            category, keywords or (), after, limit=limit, consistency="local" if local else "linearizable"
        ),
    )
    found = [match.item._asdict() | {"matched": match.matched} for match in page.entries]
    if json:
        render.as_json({"items": found, "next": page.next})
    elif found:
        _print_items(found, (*COLUMNS, "matched"))
        if page.next:
            render.note(f"there are more: --after {page.next}")
    if not found:
        raise typer.Exit(NO)


@products_app.command("price")
@reported
def price(
    item: ItemArgument,
    cents: Annotated[int, typer.Argument(metavar="CENTS", help="The new price, in minor units.")],
    seller: SellerOption,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
) -> None:
    """Change the price of an item, for orders from now on."""
    _on(cluster, timeout, lambda store: store.change_price(item, seller, cents))


@products_app.command("remove")
@reported
def remove(
    item: ItemArgument,
    seller: SellerOption,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Take an item off sale; print how many units were left."""
    left = _on(cluster, timeout, lambda store: store.remove(item, seller))
    if json:
        render.as_json({"id": item, "left": left})
    else:
        typer.echo(left)


# ------------------------------------------------------------------ files


@contextmanager
def _opened(name: str, mode: str) -> Iterator[IO[str]]:
    """A file of rows, as ringcast/product_store/rows.py wants it; - is stdin or stdout."""
    if name == "-":
        stream = sys.stdin if mode == "r" else sys.stdout
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape" if mode == "r" else "strict", newline="")
        yield stream
        return
    try:
        with Path(name).open(mode, encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
    except OSError as error:
        raise typer.BadParameter(f"{name}: {error.strerror}", param_hint="FILE") from None


@products_app.command("import")
@reported
def import_file(
    file: FileArgument,
    kind: FormatOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 30.0,
    json: JsonOption = False,
) -> None:
    """Put every row of FILE on sale. What is on sale already stays as it is, so that a file may be imported again.

    A bad row is named with its line on stderr, and the others go on; the exit code is 4 then.
    """
    with _opened(file, "r") as source:
        rows = read_rows(source, kind or format_of(file))
        with _progress() as show:
            found = _on(cluster, timeout, lambda store: import_rows(store, rows, on_progress=show))
    for bad in found.bad:
        render.error(f"{file}, line {bad.line}: {bad.reason}")
    if json:
        bad_rows = [{"line": bad.line, "reason": bad.reason} for bad in found.bad]
        render.as_json({"put": found.put, "existing": found.existing, "bad": bad_rows})
    else:
        typer.echo(f"{found.put} put on sale, {found.existing} were already, {len(found.bad)} bad")
    if found.bad:
        raise typer.Exit(REFUSED)


@contextmanager
def _progress() -> Iterator[Callable[[Imported], None]]:
    """A line on a terminal's stderr."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("importing")

        def show(imported: Imported) -> None:
            if imported.rows % 100 == 0:
                bar.update(task, description=f"{imported.rows:,} rows")

        yield show


@products_app.command("export")
@reported
def export_file(
    file: FileArgument = "-",
    kind: FormatOption = None,
    cluster: ClusterOption = None,
    timeout: TimeoutOption = 30.0,
) -> None:
    """Write every item on sale to FILE (stdout), by id, as `import` reads it."""

    async def write(store: ringcast.ProductStore) -> None:
        with _opened(file, "w") as target:
            writer = RowWriter(target, kind or format_of(file))
            async for items in export_items(store):
                writer.write(items)

    _on(cluster, timeout, write)


@products_app.command("sample")
@reported
def sample(
    count: Annotated[int, typer.Argument(min=1, metavar="COUNT", help="How many.")],
    file: FileArgument = "-",
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same items.")] = 1,
    kind: FormatOption = None,
) -> None:
    """Write made-up items to FILE (stdout), to try `import` with."""
    from replicas.products.samples import sample_products

    with _opened(file, "w") as target:
        RowWriter(target, kind or format_of(file)).write(sample_products(count, seed))
