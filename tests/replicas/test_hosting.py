"""What every replica's process checks before it does anything."""

import pytest
import zmq

from replicas.hosting import LIBZMQ_MIN, check_libzmq
from replicas.settings import ConfigError


@pytest.mark.parametrize("version", [(4, 3, 1), (4, 2, 9), (2, 1, 0)])
def test_a_libzmq_with_known_holes_is_refused(version: tuple[int, int, int]) -> None:
    """Fault 41: CVE-2019-6250 and CVE-2019-13132."""
    with pytest.raises(ConfigError, match=r"4\.3\.2 or newer is needed: install pyzmq from its wheel"):
        check_libzmq(version)


def test_the_one_that_is_installed_is_new_enough() -> None:
    assert zmq.zmq_version_info() >= LIBZMQ_MIN
    check_libzmq()
