"""The payload frames of a peer message: requests and records in the order in which the header names their sizes.

Many small payloads are joined into one frame: each frame of ZeroMQ costs more than the copy of a few KiB, and a message
may have 4,096 of them at most. Which of the two it is shows by the number of frames.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

from replicas.bus.parts import REQUESTS_MAX, each, number, pack_head, read_head
from replicas.bus.record_codec import decode_record, encode_record
from ringcast.strict import Plain, bad
from sequencer.chain import digest
from sequencer.types import Request, SlotRecord

RECORDS_MAX = 65_536
#: More payloads than this are joined if they are smaller than _JOIN_BYTES on average, or more than _FRAMES_SENT_MAX.
_JOIN_ABOVE = 3
_JOIN_BYTES = 8 << 10
_FRAMES_SENT_MAX = 1_024

Payload = list[bytes]


def pack_requests(requests: Iterable[Request], payload: Payload) -> Plain:
    """The heads of requests for the header; their frames go to `payload`."""
    heads = []
    for request in requests:
        heads.append(pack_head(request))
        payload.extend(request.frames)
    return tuple(heads)


def pack_records(records: Iterable[SlotRecord], payload: Payload) -> Plain:
    """The sizes of records for the header; each is one payload, as in the log."""
    return pack_bodies([b"".join(encode_record(record)) for record in records], payload)


def pack_bodies(bodies: Sequence[bytes], payload: Payload) -> Plain:
    """The same for records that are bytes already."""
    payload.extend(bodies)
    return tuple(map(len, bodies))


def frames_of(payload: Payload) -> Payload:
    """The frames that carry the payloads: as they are, or joined."""
    count = len(payload)
    if count > _JOIN_ABOVE and (count > _FRAMES_SENT_MAX or sum(map(len, payload)) < _JOIN_BYTES * count):
        return [b"".join(payload)]
    return payload


class PayloadReader:
    """Hands out the payloads in order, from frames of their own or from the joined one; knows if all were taken."""

    __slots__ = ("_at", "_frames", "_joined", "_wants_published")

    def __init__(self, frames: Sequence[bytes], *, wants_published: bool = True) -> None:
        self._wants_published = wants_published
        self._joined = frames[1] if len(frames) == 2 else None
        self._frames = frames
        self._at = 0 if self._joined is not None else 1  # frame 0 is the header

    def take(self, sizes: tuple[int, ...]) -> tuple[bytes, ...]:
        """The next payloads, which must have these sizes."""
        if self._joined is not None:
            ends = tuple(accumulate(sizes, initial=self._at))
            if ends[-1] > len(self._joined):
                bad("the payload frame", f"{len(self._joined)} bytes", f"at least the {ends[-1]} that the header names")
            self._at = ends[-1]
            return tuple([self._joined[start:end] for start, end in pairwise(ends)])
        end = self._at + len(sizes)
        taken = tuple(self._frames[self._at : end])
        if tuple(map(len, taken)) != sizes:
            bad("the payload frames", [len(frame) for frame in taken][:8], f"the sizes {sizes[:8]} of the header")
        self._at = end
        return taken

    def rest(self) -> bytes:
        """The one payload that is left."""
        if self._joined is None or self._at:
            bad("the number of payload frames", len(self._frames) - 1, "1")
        self._at = len(self._joined)
        return self._joined

    def close(self) -> None:
        """Everything must have been taken."""
        whole = len(self._frames) if self._joined is None else len(self._joined)
        if self._at != whole:
            bad("the payload", f"{whole} frames or bytes", f"{self._at} as the header says")

    def request(self, value: Any) -> Request:
        """One request, with the digest of what came (A3, A10)."""
        sender, incarnation, lsn, sizes, change = read_head(value)
        frames = self.take(sizes)
        return Request(sender, incarnation, lsn, frames, digest(frames, change), change)

    def requests(self, value: Any) -> tuple[Request, ...]:
        """All requests of a message."""
        return each("the requests", value, REQUESTS_MAX, self.request)

    def published(self, value: Any) -> tuple[Request, ...]:
        """The same for what may be lost at any time (A8): nothing at all if nobody wants it."""
        if self._wants_published:
            return self.requests(value)
        self._at = len(self._frames) if self._joined is None else len(self._joined)
        return ()

    def records(self, value: Any) -> tuple[SlotRecord, ...]:
        """Records of other members: their payloads are hashed again."""
        sizes = each("the records", value, RECORDS_MAX, _size)
        return tuple([decode_record(body, hashed=False) for body in self.take(sizes)])


def _size(value: Any) -> int:
    return number("a size", value)
