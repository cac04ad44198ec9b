"""What can go wrong while measuring.

BenchError
├── PeerMissing        what a system needs is not on this machine; it is skipped and said
├── NotMeasurable      the system has no such thing (no failover, no batches)
└── ProcessFailed      a server or client process ended or did not answer in time
"""


class BenchError(Exception):
    """A measurement could not be made; the text says which and what to do."""


class PeerMissing(BenchError):
    """A program or package that a system needs is not installed."""


class NotMeasurable(BenchError):
    """A system does not have what was to be measured."""


class ProcessFailed(BenchError):
    """A process of the benchmark ended, or did not become ready or answer in time."""
