"""A gapless subscriber of one topic, written from docs/wire.md alone: zmq, struct and msgpack, nothing else."""

# mypy: ignore-errors
# (annotations would need one import more)

import struct

import msgpack
import zmq

CONTROL = b"\x01control\x00"


def unpack(packed):
    """The payloads of a packed batch ("Packed batch")."""
    (count,) = struct.unpack_from("<I", packed)
    lengths = struct.unpack_from(f"<{2 * count}I", packed, 4)
    start = 4 + 8 * count + sum(lengths[count:])
    for length in lengths[:count]:
        yield packed[start : start + length]
        start += length


def subscribe(address, topic, position=0):
    """Yield (offset, payload) of every message on `topic` from `position` on, for ever."""
    context = zmq.Context.instance()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(address)
    dealer.send(msgpack.packb([1, 0, 0, 1, b"any 16 bytes do.", 0]))  # HELLO
    welcome = msgpack.unpackb(dealer.recv(), strict_map_key=False)
    cluster, feed_address = welcome[1], welcome[10]
    feed = context.socket(zmq.SUB)
    feed.subscribe(topic.encode() + b"\x00")
    feed.subscribe(CONTROL)
    feed.connect(feed_address)

    def batch(first, packed, position):
        for offset, payload in enumerate(unpack(packed), first):
            if offset >= position:
                yield offset, payload

    behind = True
    while True:
        while behind:  # FETCH until next_offset = end
            dealer.send(msgpack.packb([1, cluster, 0, 6, 1, topic, position, 0, 1000, 1 << 20, 1]))
            kind = 0
            while kind != 7:  # FETCHED; MEMBERS may come before it
                header, *payloads = dealer.recv_multipart()
                _, _, _, kind, *fields = msgpack.unpackb(header)
            _, batches, next_offset, end, _ = fields
            for (_, first, *_), packed in zip(batches, payloads, strict=True):
                yield from batch(first, packed, position)
            position, behind = max(position, next_offset), next_offset < end
        if not feed.poll(1000):  # no control message for a second
            behind = True
            continue
        name, header, *payloads = feed.recv_multipart()
        if name == CONTROL:
            _, _, _, next_offset, since, changed = msgpack.unpackb(header)
            behind = next_offset > position and (since > position or changed.get(topic, -1) >= position)
            position = position if behind else max(position, next_offset)
            continue
        _, _, _, first, messages, previous, *_ = msgpack.unpackb(header)
        if first + messages <= position:
            continue
        if previous >= position:
            behind = True
            continue
        yield from batch(first, payloads[0], position)
        position = first + messages
