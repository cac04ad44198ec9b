"""Which versions run here: ours, and of the libraries that a replica stands on."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

import zmq

from store.engine import engine_version


def our_version() -> str:
    """Of the installed package."""
    try:
        return version("ringcast")
    except PackageNotFoundError:
        return "unknown"


VERSION: Final = our_version()


def libraries() -> dict[str, str]:
    """Name -> version."""
    return {
        "libzmq": zmq.zmq_version(),
        "pyzmq": zmq.__version__,
        "lmdb": engine_version(),
        "msgpack": version("msgpack"),
    }
