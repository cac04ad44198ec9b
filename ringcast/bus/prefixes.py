"""Which prefixes a SUB socket subscribes to for many topics and patterns, within what a replica takes. No I/O.

A replica cuts a connection that sends too many subscriptions (broker/feed.py) or too many bytes of them
(broker/ports.py). Beyond that the client subscribes to what several topics have in common, and leaves out the rest.
"""

from collections.abc import Iterable, Iterator

from ringcast.bus.feed import SEPARATOR

#: Subscriptions and cancellations that one connection sends, below the 1,000 that a replica with keys takes.
MESSAGES_MAX = 900
#: A fresh connection leaves room for what changes later.
PREFIXES_MAX = 600
#: Of the 512 KiB that a replica takes; each one travels with some bytes of its own.
BYTES_MAX = 256 << 10
OVERHEAD_BYTES = 16


def parents(prefix: bytes) -> Iterator[bytes]:
    """All shorter prefixes that receive everything that this one does, the longest one first."""
    while prefix:
        prefix = parent(prefix)
        yield prefix


def parent(prefix: bytes) -> bytes:
    """The prefix of all that has the same first words but the last one: `a.` of `a.b` and of `a.b.`."""
    words = prefix.removesuffix(SEPARATOR).removesuffix(b".")
    return words[: words.rfind(b".") + 1]


def cover(prefixes: Iterable[bytes]) -> set[bytes]:
    """Prefixes that receive all of this, few enough: those of the most words give way to their parents."""
    found = set(prefixes)
    while len(found) > PREFIXES_MAX or bytes_of(found) > BYTES_MAX:
        # Reserved names are few, and the empty prefix of a key that may read `>` leaves them out.
        wanted = {one for one in found if one and not one.startswith(b"_")}
        if not wanted:
            break
        deepest = max(map(_words, wanted))
        found = {parent(one) if one in wanted and _words(one) == deepest else one for one in found}
    return {one for one in found if one.startswith(b"_") or not any(wide in found for wide in parents(one))}


def bytes_of(prefixes: Iterable[bytes]) -> int:
    """What these subscriptions travel with."""
    return sum(len(one) + OVERHEAD_BYTES for one in prefixes)


def _words(prefix: bytes) -> int:
    return prefix.count(b".") + prefix.endswith(SEPARATOR)
