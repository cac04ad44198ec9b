"""How much of a disk one replica takes: the bounds that follow from its settings (docs/operations.md, "Disk space")."""

from typing import Final

from replicas.bus.config import BusConfig

#: What is reckoned with unless told otherwise: topics, cursors, clients and customers, as rows and in each snapshot.
STATE_BYTES: Final = 256 << 20
#: The journal, and what names the folder.
JOURNAL_BYTES: Final = 16 << 20


def log_bytes_never_trimmed(config: BusConfig) -> int:
    """What may be under way: slots that are not delivered yet, or the window that answers members a little behind."""
    group = config.group_config
    undelivered = group.uncommitted_bytes_max + group.slot_bytes_max + group.request_bytes_max
    return max(group.window_bytes, undelivered)


def log_bytes_hard(config: BusConfig) -> int:
    """C2: beyond it a member that lags no longer holds the log."""
    return max(config.retention_bytes + config.snapshot_bytes // 2, config.group_config.window_bytes)


def log_bytes_max(config: BusConfig) -> int:
    """The log is never larger."""
    return max(config.retention_bytes, log_bytes_never_trimmed(config)) + config.snapshot_bytes


def volume_bytes(config: BusConfig, state_bytes: int = STATE_BYTES) -> int:
    """What a replica's volume has to hold, with so large a state: the database file, three snapshots, the journal."""
    log = log_bytes_max(config)
    return log + log // 4 + 4 * state_bytes + JOURNAL_BYTES
