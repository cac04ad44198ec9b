"""What every replica's process checks before it does anything, and what it does when a part of it fails."""

import asyncio

import pytest
import zmq

from replicas.hosting import CONFIGURATION, DISK, HALTED, LIBZMQ_MIN, STOPPED, ReplicaProcess, check_libzmq
from replicas.market.config import MarketConfig
from replicas.settings import ConfigError
from ringcast.errors import UnsupportedVersion
from store.errors import StoreError


@pytest.mark.parametrize("version", [(4, 3, 1), (4, 2, 9), (2, 1, 0)])
def test_a_libzmq_with_known_holes_is_refused(version: tuple[int, int, int]) -> None:
    """Fault 41: CVE-2019-6250 and CVE-2019-13132."""
    with pytest.raises(ConfigError, match=r"4\.3\.2 or newer is needed: install pyzmq from its wheel"):
        check_libzmq(version)


def test_the_one_that_is_installed_is_new_enough() -> None:
    assert zmq.zmq_version_info() >= LIBZMQ_MIN
    check_libzmq()


class Process(ReplicaProcess[MarketConfig]):
    """One that does nothing."""

    async def start(self) -> None:
        pass

    async def leave(self) -> None:
        await asyncio.sleep(0)

    def close_parts(self) -> None:
        pass


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (UnsupportedVersion(what="version", value=9, limit=1), CONFIGURATION),
        (StoreError("the disk is gone"), DISK),
        (ValueError("nobody expected this"), HALTED),
    ],
)
async def test_what_goes_on_beside_it_and_fails_ends_the_process(raised: Exception, code: int) -> None:
    process = Process(MarketConfig(id=1, bus="127.0.0.1:1", products="127.0.0.1:2"))

    async def work() -> None:
        raise raised

    process.background(work())
    assert await asyncio.wait_for(process.finished, 5) == code
    process.close()


async def test_what_fails_while_it_leaves_changes_nothing() -> None:
    process = Process(MarketConfig(id=1, bus="127.0.0.1:1", products="127.0.0.1:2"))
    leaving = asyncio.Event()

    async def work() -> None:
        await leaving.wait()
        raise ValueError("its session is closed")

    process.background(work())
    await asyncio.sleep(0)
    process.ask_to_stop()
    leaving.set()
    assert await asyncio.wait_for(process.finished, 5) == STOPPED
    process.close()
