"""The one module that imports raftos (R23): its base classes, without the line that it prints when it is imported."""

import logging

from replicas.raft.errors import RaftosMissing


def _quiet(record: logging.LogRecord) -> bool:
    """R20, R23: it warns that it encrypts nothing; none of its encryption is reachable from here."""
    return record.module != "cryptors"


logging.getLogger("raftos").addFilter(_quiet)

try:
    from raftos.conf import Configuration
    from raftos.server import Node
    from raftos.state import BaseState, Candidate, Follower, Leader, State
    from raftos.timer import Timer
except ModuleNotFoundError as error:
    raise RaftosMissing from error

__all__ = ["BaseState", "Candidate", "Configuration", "Follower", "Leader", "Node", "State", "Timer"]
