"""A10: digests and the chain."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sequencer.chain import digest, extend
from sequencer.types import CHAIN_BYTES, GENESIS_CHAIN, Entry, Incarnation, ViewNumber
from tests.sequencer.builders import entries, request

FRAMES = st.lists(st.binary(max_size=6), max_size=4)
U64 = st.integers(0, (1 << 64) - 1)
ENTRIES = st.lists(
    st.builds(
        Entry,
        sender=st.integers(1, 63),
        incarnation=st.builds(Incarnation, counter=st.integers(0, 3), nonce=U64),
        first_lsn=st.integers(1, 5),
        last_lsn=st.integers(1, 5),
        digests=st.lists(st.binary(min_size=16, max_size=16), max_size=2).map(tuple),
    ),
    max_size=3,
)


@given(FRAMES, FRAMES)
def test_different_frames_have_different_digests(one: list[bytes], other: list[bytes]) -> None:
    """Frame borders count: no byte can move from one frame to the next, or from the batch headers to a batch."""
    assert (digest(one) == digest(other)) == (one == other)
    assert len(digest(one)) == CHAIN_BYTES


def test_the_batch_headers_are_part_of_the_digest() -> None:
    """A10: the hash of every request includes its batch headers, which are frame 0."""
    assert digest([b"headers", b"batch"]) != digest([b"Headers", b"batch"])


@given(ENTRIES, ENTRIES)
def test_the_chain_tells_entries_apart(one: list[Entry], other: list[Entry]) -> None:
    """A10: two members with the same chain at k have the same log up to k."""
    number = ViewNumber(1, 1)
    same = extend(GENESIS_CHAIN, number, 0, 0, one) == extend(GENESIS_CHAIN, number, 0, 0, other)
    assert same == (one == other)


def test_every_part_of_a_slot_is_in_the_chain() -> None:
    """chain(k) = hash(chain(k-1), view, k, time, entries)."""
    listed = entries([request(1, 1), request(1, 2), request(2, 1)])
    number = ViewNumber(2, 1)
    chains = {
        extend(GENESIS_CHAIN, number, 7, 99, listed),
        extend(b"another previous", number, 7, 99, listed),
        extend(GENESIS_CHAIN, ViewNumber(3, 1), 7, 99, listed),
        extend(GENESIS_CHAIN, ViewNumber(2, 2), 7, 99, listed),
        extend(GENESIS_CHAIN, number, 8, 99, listed),
        extend(GENESIS_CHAIN, number, 7, 100, listed),
        extend(GENESIS_CHAIN, number, 7, 99, listed[:1]),
        extend(GENESIS_CHAIN, number, 7, 99, (listed[0]._replace(digests=listed[0].digests[::-1]), listed[1])),
        extend(GENESIS_CHAIN, number, 7, 99, ()),
    }
    assert len(chains) == 9
    assert extend(GENESIS_CHAIN, number, 7, 99, iter(listed)) in chains  # any iterable, read once


def test_requests_are_values() -> None:
    """A request's size counts all frames; equal content is equal."""
    made = request(1, 1, b"12345")
    assert made.size == len(b"headers") + 5
    assert made == replace(made)
