"""The dashboard in headless Chromium: desktop and phone, light and dark, while the token holder is killed under load.

The screenshots go to .cache/dashboard; docs/dashboard*.png are three of them.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ringcast
from replicas.dashboard.board import EVENTS_MAX, Board
from replicas.dashboard.measures import PUBLISH, Buckets
from replicas.local.cluster import LocalCluster
from replicas.local.files import BUS, PRODUCTS
from replicas.products.samples import sample_products
from tests.dashboard.nouns import gone, snapshot
from tests.dashboard.serving import dashboard, served
from tests.deploy import browser as chromium
from tests.processes.agreement import token_holder
from tests.processes.load import Load
from tests.project.sources import ROOT

pytestmark = pytest.mark.processes

SHOTS = ROOT / ".cache/dashboard"
#: Name -> width, height, colour scheme.
WINDOWS = {
    "desktop-light": (1280, 900, "light"),
    "desktop-dark": (1280, 900, "dark"),
    "phone-light": (360, 780, "light"),
    "phone-dark": (360, 780, "dark"),
}
#: So long the charts fill before something happens: there is to be something to see.
CHART_POINTS = int(os.environ.get("RINGCAST_DASHBOARD_POINTS", "8"))


US = 1_000_000
EVENTS = "document.getElementById('events')"
LABELS = "[...document.querySelectorAll('.chart svg .axis')]"
CUT_LABELS = f"{LABELS}.filter((one) => one.getBBox().x < 0).map((one) => one.textContent)"


@pytest.fixture
def browser() -> Iterator[chromium.Browser]:
    why = chromium.trouble()
    if why is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(f"{why}: `make test-deploy` installs it (Debian, as root)")
    with chromium.browser() as found:
        yield found


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[dict[str, LocalCluster]]:
    """A bus and a product store of three, in one folder."""
    made = {role.name: LocalCluster.create(tmp_path / "data", 3, role=role) for role in (BUS, PRODUCTS)}
    try:
        for one in made.values():
            one.start()
        for one in made.values():
            one.wait_ready()
        yield made
    finally:
        for one in made.values():
            for member in one.running():
                one.kill(member)


async def test_the_page_shows_a_kill_under_load(browser: chromium.Browser, clusters: dict[str, LocalCluster]) -> None:
    bus = clusters["bus"]
    async with ringcast.products(str(bus.path), timeout=30) as store:
        for item in sample_products(20):
            await store.put_item(item)
    load = Load(bus.path, clients=3, pause_s=0.005)
    await load.start()
    with dashboard("--cluster", str(bus.path)) as url:
        pages = {name: browser.page(url, *window) for name, window in WINDOWS.items()}
        await load.more(50)
        for page in pages.values():
            await asyncio.to_thread(assert_alive, page)
        points = (
            f"document.querySelectorAll('#throughput-chart .line').length > 0 && performance.now() > {CHART_POINTS}e3"
        )
        await asyncio.to_thread(pages["phone-dark"].wait, points, CHART_POINTS + 30)
        victim = await token_holder(bus.path)
        await asyncio.to_thread(bus.kill, victim)
        for page in pages.values():
            await asyncio.to_thread(assert_lost, page, victim)
        await load.more(100)
        SHOTS.mkdir(parents=True, exist_ok=True)
        for name, page in pages.items():
            await asyncio.to_thread(page.wait, "document.querySelector('#throughput-chart .mark') !== null")
            await asyncio.to_thread(page.screenshot, SHOTS / f"{name}.png")
        await asyncio.to_thread(bus.restart, victim)
        await asyncio.to_thread(bus.wait_ready, [victim])
        for page in pages.values():
            await asyncio.to_thread(page.wait, "document.getElementById('health').textContent === 'healthy 3/3'")
        await load.stop()
        # All of them away: the page goes on, says so, and comes back by itself.
        page = pages["desktop-light"]
        for member in bus.replicas:
            await asyncio.to_thread(bus.kill, member)
        await asyncio.to_thread(page.wait, "document.getElementById('health').textContent === 'no replica answers'")
        await asyncio.to_thread(bus.start)
        await asyncio.to_thread(bus.wait_ready)
        await asyncio.to_thread(page.wait, "document.getElementById('health').textContent === 'healthy 3/3'")
    deadline = time.monotonic() + 20
    while "away" not in page.value("document.getElementById('connection').textContent"):
        assert time.monotonic() < deadline, page.text()
        await asyncio.sleep(0.05)
    # What the browser itself says of the server that was ended is no error of the page.
    assert [error for error in browser.errors if "ERR_CONNECTION" not in error and "ERR_INCOMPLETE" not in error] == []


def assert_alive(page: chromium.Page) -> None:
    """Everything is drawn, and fits the width."""
    page.wait("document.getElementById('connection').textContent === 'live'")
    page.wait("document.getElementById('health').textContent === 'healthy 3/3'")
    page.wait("document.querySelectorAll('#ring .member').length === 3")
    page.wait("document.querySelectorAll('#replicas tr[data-level=good]').length === 3")
    page.wait("document.querySelectorAll('#products tr').length === 3")
    page.wait("document.querySelector('#ring .token-arm').getAttribute('visibility') === 'visible'")
    page.wait("document.getElementById('throughput').textContent.includes('messages/s')")
    page.wait("document.getElementById('p99').textContent.includes('ms')")
    page.wait("document.querySelectorAll('#latency-chart .line').length >= 2")
    assert page.value("document.documentElement.scrollWidth <= innerWidth"), "wider than its window"
    assert page.value(CUT_LABELS) == [], "labels of an axis are cut"


def assert_lost(page: chromium.Page, victim: int) -> None:
    """The page shows who is gone, and the view without it."""
    page.wait(f"document.querySelector('#replicas tr[data-replica=\"{victim}\"]').dataset.level === 'bad'")
    page.wait("document.getElementById('health').textContent === 'degraded 2/3'")
    page.wait("document.querySelectorAll('#events li[data-kind=lost]').length > 0")
    page.wait("document.querySelectorAll('#events li[data-kind=view]').length > 0")
    assert f"replica {victim} lost" in page.text()


async def test_labels_are_whole_and_the_events_scroll(browser: chromium.Browser) -> None:
    """A latency of 800 ms must not read as 300 ms; the list of events scrolls, and all that are kept are in it."""
    board = Board("cluster.json", "")
    for second in range(EVENTS_MAX + 20):
        board.look(snapshot(gone(3)) if second % 2 else snapshot(), second * US)
        published = second * 10.0
        slow = Buckets({0.1: 0.0, 1_000.0: published, math.inf: published}, published * 800)
        board.measure({1: {PUBLISH: slow}}, float(second), second * US)
    async with served(board) as url:
        for window in WINDOWS.values():
            await asyncio.to_thread(assert_readable, browser.page, url, *window)


def assert_readable(open_page: Callable[..., chromium.Page], *window: Any) -> None:
    """The longest label there is stands whole in the chart; the list is no higher than its window needs."""
    page = open_page(*window)
    page.wait("document.querySelectorAll('#latency-chart .line').length >= 2")
    assert page.value(CUT_LABELS) == [], "labels of an axis are cut"
    assert "1000000 ms" in page.value(f"{LABELS}.map((one) => one.textContent)")
    page.wait(f"document.querySelectorAll('#events li').length === {EVENTS_MAX}")
    list_height, whole_height = page.value(
        f"(({{ clientHeight, scrollHeight }}) => [clientHeight, scrollHeight])({EVENTS})"
    )
    assert list_height <= 360 < whole_height
