"""What a leader knows of one follower's log (etcd's Progress): probing, streaming, or sending a snapshot."""

from collections import deque
from enum import Enum

from store.raft_contract import Snapshot


class Mode(Enum):
    """How a follower is sent the log."""

    PROBE = "probe"  # one message per answer or heartbeat, until one fits
    STREAM = "stream"  # pipelined: `next` moves with what is sent (R11)
    SNAPSHOT = "snapshot"  # the log does not reach back to it (R15)


class Progress:
    """0 <= match < next. `storage`: the disk that it speaks of, 0 while nothing was heard."""

    def __init__(self, next_index: int) -> None:
        self.storage = 0
        self.match = 0
        self.next = next_index
        self.mode = Mode.PROBE
        self.asked = False  # a probe is under way
        self.round = 0  # the newest request_id that was answered
        self.heard = float("-inf")  # when that was, in seconds of the loop
        self.refills = False  # its tables are damaged: it is sent a snapshot though the log reaches it (R24)
        self.snapshot: Snapshot | None = None  # in mode SNAPSHOT; None while it is being made
        self.chunk_sent = 0  # chunks below it are on their way
        self.chunk_next = 0  # chunks below it are durable there
        self._inflight: deque[tuple[int, int]] = deque()  # (last index, bytes), only in mode STREAM
        self._inflight_bytes = 0

    def probe(self, next_index: int) -> None:
        """Find out where the logs fit, from here."""
        self.mode = Mode.PROBE
        self.asked = False
        self.next = max(self.match + 1, next_index)
        self.snapshot = None
        self.refills = False
        self._inflight.clear()
        self._inflight_bytes = 0

    def another_disk(self, storage: int) -> None:
        """The member speaks for a disk that holds nothing of what was known."""
        self.storage = storage
        self.match = 0
        self.round = 0
        self.probe(self.next)

    def send_snapshot(self) -> None:
        """The log does not reach back far enough."""
        self.probe(self.next)
        self.mode = Mode.SNAPSHOT
        self.chunk_sent = self.chunk_next = 0

    def sent(self, last_index: int, size_bytes: int) -> None:
        """Entries up to `last_index` left."""
        if self.mode is Mode.PROBE:
            self.asked = True
            return
        self.next = last_index + 1
        self._inflight.append((last_index, size_bytes))
        self._inflight_bytes += size_bytes

    def may_send(self, inflight_bytes_max: int) -> bool:
        """Whether there is room for more entries."""
        if self.mode is Mode.PROBE:
            return not self.asked
        return self.mode is Mode.STREAM and self._inflight_bytes < inflight_bytes_max

    def fits(self, last_index: int) -> None:
        """The follower's log fits up to here, durably."""
        self.match = max(self.match, last_index)
        self.next = max(self.next, self.match + 1)
        while self._inflight and self._inflight[0][0] <= self.match:
            self._inflight_bytes -= self._inflight.popleft()[1]
        if self.mode is Mode.PROBE:
            self.mode = Mode.STREAM
            self.asked = False

    def differs(self, prev_index: int, next_index: int) -> bool:
        """The log does not fit at `prev_index`: probe from `next_index`. False: an old answer, nothing follows."""
        old = prev_index != self.next - 1 if self.mode is Mode.PROBE else prev_index <= self.match
        if old or self.mode is Mode.SNAPSHOT:
            return False
        self.probe(min(prev_index, next_index))
        return True
