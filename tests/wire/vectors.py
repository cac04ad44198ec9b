"""The test vectors of docs/wire.md: each named frame, made by the encoder."""

from ringcast import wire
from ringcast.bus import feed
from ringcast.bus.batch import digest, pack
from ringcast.bus.cursors import COMMIT, CursorOperation, encode_operation
from ringcast.bus.request import BatchHeader, encode_batch_headers
from ringcast.errors import SequenceGap
from ringcast.types import pack_headers

CLUSTER, RING = 0xC0FFEE, 0
CLIENT = bytes(range(16))
INFO = wire.BatchInfo("orders.eu", 41, 2, 38, 1_700_000_000_000_000, CLIENT, 7)
PACKED = pack([b"one", b"three"], [b"", pack_headers({"k": "v"})])

MESSAGES: dict[str, wire.Message] = {
    "hello": wire.Hello(CLIENT, 1_048_576),
    "welcome": wire.Welcome(
        replica=2,
        incarnation=(3, 0x0123456789ABCDEF),
        view=(4, 1),
        opened=7,
        credit=1_048_576,
        limits=wire.Limits(1_048_576, 4_096, 255, 128),
        feed="tcp://10.0.0.2:7001",
        next_offset=41,
        members=(wire.Endpoint(2, "tcp://10.0.0.2:7000"), wire.Endpoint(4, "tcp://10.0.0.4:7000")),
    ),
    "publish": wire.Publish("orders.eu", CLIENT, 5, 2, 7),
    "receipt": wire.Receipt(CLIENT, 5, 41, 2, 7, 1_700_000_000_000_000, 1_048_576),
    "refused": wire.refusal(CLIENT, 6, SequenceGap(sequence=6, last=4), 4),
    "fetch": wire.Fetch(1, "orders.>", 40, wire.FORWARD, 1_000, 1_048_576, wire.LOCAL),
    "fetched": wire.Fetched(1, (INFO,), 43, 43, 0),
    "query": wire.Query(2, "topics", {"pattern": ">"}, wire.LINEARIZABLE),
    "answer": wire.Answer(2, {"topics": (("orders.eu", 12, 42),)}, 43),
    "failed": wire.Failed(3, "unknown_query", {"what": "query", "name": "x"}),
    "ping": wire.Ping(9),
    "pong": wire.Pong(9, True, 1_048_576, 43),
    "goodbye": wire.Goodbye("leaving"),
    "members": wire.Members((wire.Endpoint(4, "tcp://10.0.0.4:7000"),)),
}

VECTORS: dict[str, bytes] = {
    **{name: wire.encode(CLUSTER, RING, message) for name, message in MESSAGES.items()},
    "packed batch": PACKED,
    "digest of the packed batch": digest(PACKED),
    **{f"feed frame {n}": frame for n, frame in enumerate(feed.encode_batch(CLUSTER, RING, INFO, PACKED)[:2])},
    **{
        f"control frame {n}": frame
        for n, frame in enumerate(feed.encode_control(CLUSTER, RING, 43, 41, {"orders.eu": 42}))
    },
    "cursor operation": encode_operation(CursorOperation(COMMIT, "billing", "orders.>", 43)),
    "batch headers of a request": encode_batch_headers([BatchHeader("orders.eu", CLIENT, 5, 2, 7, 0, digest(PACKED))]),
}


def as_block(name: str) -> str:
    """The block of the page that shows a vector: hex, 40 bytes a line."""
    data = VECTORS[name].hex()
    lines = [data[start : start + 80] for start in range(0, len(data), 80)]
    return "\n".join([f"```vector {name}", *lines, "```"])


if __name__ == "__main__":
    print("\n\n".join(map(as_block, VECTORS)))
