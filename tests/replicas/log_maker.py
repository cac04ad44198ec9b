"""Makes slot records of client batches, and keeps them in a store as the shell would."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from replicas.bus.record_codec import decode_record, encode_record
from ringcast.bus.batch import digest, pack
from ringcast.bus.cursors import CursorOperation, encode_operation
from ringcast.bus.request import BatchHeader, encode_batch_headers
from sequencer.types import GENESIS_CHAIN, Entry, Incarnation, Request, SlotRecord, ViewNumber
from sequencer.types import Sequence as Sequenced
from store.contract import Append, Operation, PutRow
from store.memory import MemoryStore

VIEW = ViewNumber(1, 1)
Batch = tuple[BatchHeader, bytes]

__all__ = ["Log", "batch", "client_id", "cursor_batch", "decode_record", "request"]


def client_id(number: int) -> bytes:
    """The 16-byte id of test client `number`."""
    return number.to_bytes(16, "big")


def batch(
    topic: str, client: int, sequence: int, payloads: Sequence[bytes] = (b"x",), opened: int = 0, salt: bytes = b""
) -> Batch:
    """One client batch with its header; another `salt` is another content."""
    packed = pack([payload + salt for payload in payloads])
    header = BatchHeader(topic, client_id(client), sequence, len(payloads), opened, 0, digest(packed))
    return header, packed


def cursor_batch(client: int, sequence: int, *operations: CursorOperation) -> Batch:
    """A batch of cursor operations."""
    return batch("_cursors", client, sequence, [encode_operation(operation) for operation in operations])


def request(batches: Iterable[Batch], sender: int = 1, lsn: int = 1) -> Request:
    """A request that carries these batches."""
    listed = list(batches)
    frames = (encode_batch_headers([header for header, _ in listed]), *(packed for _, packed in listed))
    return raw_request(frames, sender, lsn)


def raw_request(frames: tuple[bytes, ...], sender: int = 1, lsn: int = 1) -> Request:
    """A request of any frames."""
    content = blake2b(b"".join(frames), digest_size=16).digest()
    return Request(sender, Incarnation(1, 7), lsn, frames, content)


class Log:
    """A log that grows slot by slot. `time_us` of slot k is `1_000 + 10 * k` unless told otherwise."""

    def __init__(self) -> None:
        self.records: list[SlotRecord] = []
        self._lsns: dict[int, int] = {}

    def slot(self, *requests: Request, time_us: int | None = None) -> SlotRecord:
        """Order requests in a new slot; they get the next lsns of their senders."""
        slot = len(self.records)
        numbered = []
        for one in requests:
            lsn = self._lsns[one.sender] = self._lsns.get(one.sender, 0) + 1
            numbered.append(Request(one.sender, one.incarnation, lsn, one.frames, one.digest, one.change))
        entries = tuple(Entry(one.sender, one.incarnation, one.lsn, one.lsn, (one.digest,)) for one in numbered)
        chain = blake2b(self.chain + b"%d" % slot, digest_size=16).digest()
        sequence = Sequenced(VIEW, slot, 1_000 + 10 * slot if time_us is None else time_us, entries, chain)
        self.records.append(SlotRecord(sequence, tuple(numbered)))
        return self.records[-1]

    def batches(self, *batches: Batch, sender: int = 1) -> SlotRecord:
        """One request with these batches in a slot of its own."""
        return self.slot(request(batches, sender))

    @property
    def chain(self) -> bytes:
        """The chain at the end."""
        return self.records[-1].sequence.chain if self.records else GENESIS_CHAIN

    def appends(self, first: int, end: int) -> list[Operation]:
        """The store's operations for the slots [first, end)."""
        return [self._append(slot) for slot in range(first, end)]

    def _append(self, slot: int) -> Append:
        previous = self.records[slot - 1].sequence.chain if slot else GENESIS_CHAIN
        record = self.records[slot]
        return Append(slot, record.sequence.chain, previous, encode_record(record))


def stored(log: Log, rows: Sequence[PutRow] = ()) -> MemoryStore:
    """A store with the whole log and some rows."""
    store = MemoryStore()
    store.recover()
    store.commit([*log.appends(0, len(log.records)), *rows])
    return store
