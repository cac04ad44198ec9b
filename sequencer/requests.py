"""Requests that are not ordered yet: what others sent, and our own until they are delivered (A1, A2)."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from sequencer.types import Change, Entry, Incarnation, MembersChange, Ordered, Request, SlotRecord


class Gap(NamedTuple):
    """Requests first..last (inclusive) of a sender's incarnation that are missing though a later one is known."""

    sender: int
    incarnation: Incarnation
    first: int
    last: int


class _Sender:
    """One sender's unordered requests, of its newest incarnation only (A2). `size`: their bytes."""

    __slots__ = ("by_lsn", "incarnation", "newest", "size")

    def __init__(self, incarnation: Incarnation) -> None:
        self.incarnation = incarnation
        self.newest = 0
        self.size = 0
        self.by_lsn: dict[int, Request] = {}

    def keep(self, request: Request, bytes_max: int) -> bool:
        """Keep it, if need be instead of later ones: the next to be ordered must fit, and what goes is NACKed (A8)."""
        if request.lsn in self.by_lsn:
            return True
        while self.by_lsn and self.size + request.size > bytes_max:
            latest = max(self.by_lsn)
            if latest < request.lsn:
                return False
            self.forget(latest)
        self.by_lsn[request.lsn] = request
        self.size += request.size
        return True

    def forget(self, lsn: int) -> None:
        request = self.by_lsn.pop(lsn, None)
        if request is not None:
            self.size -= request.size


class RequestBuffer:
    """Unordered requests by sender; of each at most `per_sender_max` lsns beyond the ordered one, and so many bytes.

    A sender has no more bytes under way that nobody has ordered (A9); a member that lags could hold what others have.
    """

    def __init__(self, per_sender_max: int, per_sender_bytes_max: int) -> None:
        self._per_sender_max = per_sender_max
        self._per_sender_bytes_max = per_sender_bytes_max
        self._senders: dict[int, _Sender] = {}

    @property
    def size(self) -> int:
        """Bytes of all unordered requests."""
        return sum(known.size for known in self._senders.values())

    def _sender(self, sender: int, incarnation: Incarnation) -> _Sender | None:
        known = self._senders.get(sender)
        if known is None or known.incarnation < incarnation:
            known = self._senders[sender] = _Sender(incarnation)
        return known if known.incarnation == incarnation else None

    def add(self, request: Request, ordered: Ordered | None) -> bool:
        """Keep a request; False if it is old, ordered already, too far ahead or too much."""
        last = _last(ordered, request.incarnation)
        if last is None or not last < request.lsn <= last + self._per_sender_max:
            return False
        sender = self._sender(request.sender, request.incarnation)
        if sender is None:
            return False
        sender.newest = max(sender.newest, request.lsn)
        return sender.keep(request, self._per_sender_bytes_max)

    def told_newest(self, sender: int, incarnation: Incarnation, lsn: int) -> None:
        """The sender says that `lsn` is its newest, so that a lost last REQUEST is a gap too (A1)."""
        known = self._sender(sender, incarnation)
        if known is not None and lsn > known.newest:
            known.newest = lsn

    def find(self, entry: Entry) -> tuple[Request, ...] | None:
        """The requests that an entry orders, if all are here with the digests it names (A3)."""
        known = self._senders.get(entry.sender)
        if known is None or known.incarnation != entry.incarnation:
            return None
        found = []
        for lsn, digest in enumerate(entry.digests, entry.first_lsn):
            request = known.by_lsn.get(lsn)
            if request is None or request.digest != digest:
                return None
            found.append(request)
        return tuple(found)

    def eligible(
        self, senders: Mapping[int, Ordered], requests_max: int, bytes_max: int, waits: Callable[[Change], bool]
    ) -> list[list[Request]]:
        """A2: runs of contiguous requests that may be ordered next, one run a sender, up to the caps (at least one).

        A run ends before a change that `waits` (V12, D7).
        """
        runs: list[list[Request]] = []
        count = total = 0
        for sender_id in sorted(self._senders):
            known = self._senders[sender_id]
            if not known.by_lsn:
                continue
            last = _last(senders.get(sender_id), known.incarnation)
            if last is None:
                continue
            run: list[Request] = []
            while (request := known.by_lsn.get(last + 1)) is not None:
                if count >= requests_max or (count and total + request.size > bytes_max):
                    break
                if request.change is not None and waits(request.change):
                    break
                run.append(request)
                count += 1
                total += request.size
                last += 1
            if run:
                runs.append(run)
        return runs

    def ordered(self, record: SlotRecord) -> None:
        """A slot orders these requests: drop them, and all of older incarnations of their senders (A2)."""
        for entry in record.sequence.entries:
            known = self._senders.get(entry.sender)
            if known is None or known.incarnation > entry.incarnation:
                continue
            if known.incarnation < entry.incarnation:
                del self._senders[entry.sender]
                continue
            for lsn in range(entry.first_lsn, entry.last_lsn + 1):
                known.forget(lsn)

    def drop(self, sender: int) -> bool:
        """V10: drop the unordered requests of a member that is not live; were there any?"""
        known = self._senders.pop(sender, None)
        return known is not None and bool(known.by_lsn)

    def senders(self) -> tuple[tuple[int, Incarnation], ...]:
        """Who has a buffer here, and of which incarnation."""
        return tuple((sender, known.incarnation) for sender, known in self._senders.items())

    def get(self, sender: int, incarnation: Incarnation, lsn: int) -> Request | None:
        """One unordered request."""
        known = self._senders.get(sender)
        return known.by_lsn.get(lsn) if known is not None and known.incarnation == incarnation else None

    def gaps(self, senders: Mapping[int, Ordered], span_max: int) -> Iterator[Gap]:
        """The first gap of each sender, at most `span_max` lsns long."""
        for sender_id, known in self._senders.items():
            last = _last(senders.get(sender_id), known.incarnation)
            if last is None or known.newest <= last:
                continue
            first = last + 1
            while first in known.by_lsn:
                first += 1
            if first > known.newest:
                continue
            end = first
            while end <= known.newest and end not in known.by_lsn and end - first < span_max:
                end += 1
            yield Gap(sender_id, known.incarnation, first, end - 1)


def _last(ordered: Ordered | None, incarnation: Incarnation) -> int | None:
    """The last ordered lsn of this incarnation; None when a newer incarnation is ordered already (A2)."""
    if ordered is None or ordered.incarnation < incarnation:
        return 0
    return ordered.last_lsn if ordered.incarnation == incarnation else None


class OwnRequests:
    """A1: what this incarnation submitted and has not seen delivered, in lsn order; bounded by A9."""

    def __init__(self) -> None:
        self.newest_lsn = 0
        self.size = 0
        self._pending: dict[int, Request] = {}
        self._sent_us: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, request: Request, now_us: int) -> None:
        """Keep a request until it is delivered."""
        self.newest_lsn = request.lsn
        self._pending[request.lsn] = request
        self._sent_us[request.lsn] = now_us
        self.size += request.size

    def delivered(self, lsn: int) -> None:
        """The request is delivered: nothing more is owed."""
        request = self._pending.pop(lsn, None)
        if request is not None:
            del self._sent_us[lsn]
            self.size -= request.size

    def get(self, lsn: int) -> Request | None:
        """One pending request."""
        return self._pending.get(lsn)

    def asks_change(self) -> bool:
        """Is a change of members asked for and not delivered (V12)?"""
        return any(isinstance(request.change, MembersChange) for request in self._pending.values())

    def unordered(self, last_lsn: int) -> Iterator[Request]:
        """Requests beyond the last ordered lsn, in order."""
        return (request for lsn, request in self._pending.items() if lsn > last_lsn)

    def due(self, last_lsn: int, now_us: int, interval_us: int, bytes_max: int) -> list[Request]:
        """A1: unordered requests last sent `interval_us` ago or longer, up to a byte cap; marks them sent now."""
        due: list[Request] = []
        total = 0
        for request in self.unordered(last_lsn):
            if now_us - self._sent_us[request.lsn] < interval_us:
                continue
            total += request.size
            if due and total > bytes_max:
                break
            self._sent_us[request.lsn] = now_us
            due.append(request)
        return due
