"""Do the replicas agree? Each one tells the others the digest of its state every CHECKPOINT_SLOTS (docs/faults.md 56).

The digests are records of the order itself, on the topic `_digests`, which no client may publish to: who applies one
has applied the slot that it speaks of, so all compare the same positions, and `ringcast verify` can look later. A
difference means that a state machine is not a function of the log, or that memory or a disk lied: it is never mended
here, but said by every replica that sees it.
"""

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Protocol

from broker.gateway import Standing
from replicas.bus.batches import messages_of
from replicas.bus.topics import CHECKPOINT_SLOTS, FeedEntry, Topics
from ringcast.bus.batch import digest, pack
from ringcast.bus.request import BatchHeader, encode_batch_headers
from ringcast.bus.topics import DIGESTS_TOPIC
from ringcast.errors import BadFrame, RingcastError
from ringcast.strict import array, binary, dumps, integer, loads
from ringcast.types import CLIENT_ID_BYTES

_BYTES_MAX: Final = 256
_DIGEST = array(integer(), integer(), binary(16))


class Ring(Protocol):
    """What is asked of the shell."""

    counters: Counter[str]
    log: Any

    def submit(self, frames: tuple[bytes, ...]) -> None:
        """Order a request (A1)."""

    def unready(self) -> RingcastError | None:
        """Why nothing can be ordered here now, else None."""

    def standing(self) -> Standing:
        """`opened`: the committed end."""


class Agreement:
    """One member's half of it."""

    def __init__(self, member: int, ring: Ring) -> None:
        self._member = member
        self._ring = ring
        self._client = b""
        self._opened = 0
        self._sequence = 0
        self._seen = 0  # of our numbers, in the order
        self._differs: set[int] = set()  # members whose state is known to differ

    def delivered(self, topics: Topics, before: int, feed: Iterable[FeedEntry]) -> None:
        """Slots from `before` on were applied: compare what others told, and tell if a checkpoint was passed."""
        for entry in feed:
            if entry.info.topic == DIGESTS_TOPIC:
                self._compare(topics, entry)
        checkpoint = topics.applied - topics.applied % CHECKPOINT_SLOTS
        if checkpoint > before:
            self._tell(topics, checkpoint)

    def _tell(self, topics: Topics, slot: int) -> None:
        state, end = topics.digest_at(slot), self._ring.standing().opened
        if state is None or end - slot >= CHECKPOINT_SLOTS or self._ring.unready() is not None:
            return  # a long log is replayed, or nothing can be ordered here
        if self._seen != self._sequence or not self._client:
            # The last one was refused, or went with another life of this log: a number is never given up (K2).
            self._client, self._opened = os.urandom(CLIENT_ID_BYTES), end
            self._sequence = self._seen = 0
        self._sequence += 1
        packed = pack([dumps((self._member, slot, state))])
        header = BatchHeader(DIGESTS_TOPIC, self._client, self._sequence, 1, self._opened, 0, digest(packed))
        self._ring.submit((encode_batch_headers([header]), packed))

    def _compare(self, topics: Topics, entry: FeedEntry) -> None:
        if entry.info.client == self._client:
            self._seen += 1
        for message in messages_of(entry.packed, entry.info.messages):
            try:
                fields = loads(message, _BYTES_MAX)
                _DIGEST("a digest", fields)
            except BadFrame:
                continue
            member, slot, told = fields
            ours = topics.digest_at(slot)
            if ours is not None:
                self._judge(member, slot, ours, told)

    def _judge(self, member: int, slot: int, ours: bytes, told: bytes) -> None:
        self._ring.counters["states_compared"] += 1
        if ours == told:
            self._differs.discard(member)
        elif member not in self._differs:
            self._differs.add(member)
            self._ring.counters["states_differ"] += 1
            self._ring.log.critical(
                "states_differ",
                peer=member,
                first_differing_slots=(slot - CHECKPOINT_SLOTS, slot),
                ours=ours.hex(),
                told=told.hex(),
                next="`ringcast verify` says whether the logs agree; keep the folders of both, and wipe the one that "
                "differs from the majority so that it fetches the state anew",
            )
