"""`ringcast dashboard`: the cluster as a page for the browser."""

from typing import Annotated

import typer

from cli import render
from cli.common import ClusterOption, JsonOption, TimeoutOption, cluster_of, reported, run


def register(app: typer.Typer) -> None:
    """Add `dashboard`."""
    app.command("dashboard")(dashboard)


@reported
def dashboard(
    cluster: ClusterOption = None,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Of the page; 0 takes any free one.")] = 0,
    timeout: TimeoutOption = 5.0,
    json: JsonOption = False,
) -> None:
    """Serve one page that shows the cluster live: ring and token, throughput, latency, replicas, Raft group, events.

    It only reads. It goes on while replicas or the whole cluster are away, and says so. Whoever reaches the address can
    read the page, so it is this machine's alone unless --host says otherwise. With --json: one line with its URL, then
    it serves. Exit codes: 0 ended by Ctrl-C or SIGTERM; 2 a wrong option, or keys that cannot be used; 3 no replica
    answers at the start; 4 the cluster named is none; 7 it cannot listen at the address.
    """
    from replicas.dashboard.serving import Place, serve

    where = cluster_of(cluster)

    def announce(place: Place) -> None:
        if json:
            render.json_line({"url": place.url, "host": place.host, "port": place.port, "cluster": where})
            return
        typer.echo(f"the dashboard of {where} is at {place.url}")
        if not place.private:
            render.error(f"whoever reaches {place.host} can read this page: there is no password")
        render.note("Ctrl-C ends it")

    run(serve(where, host, port, timeout, announce))
