"""Ringcast: a totally ordered, durable broadcast bus. This package is the client and the wire contract.

    async with ringcast.connect("cluster.json") as bus:
        receipt = await bus.publish("orders", b"42 apples")
        async for message in bus.subscribe("orders", start=receipt.offset):
            print(message.offset, message.payload)

`ringcast.sync` has the same without asyncio. All errors are children of `RingcastError` (`ringcast.errors`).
"""

from ringcast import sync
from ringcast.client import Bus, connect
from ringcast.errors import (
    AlreadyApplied,
    BadFrame,
    ChangeRefused,
    Closed,
    Compacted,
    Disconnected,
    IdReused,
    IllegalTopic,
    NotInQuorum,
    NotReady,
    ProtocolError,
    PublishUnknown,
    Refused,
    RingcastError,
    SequenceGap,
    SessionExpired,
    Timeout,
    TooLarge,
    Unavailable,
    UnknownQuery,
    Unreachable,
    UnsupportedVersion,
    WindowExceeded,
    WrongCluster,
)
from ringcast.joining import Ticket
from ringcast.messages import Batch, Message
from ringcast.publisher import Publisher
from ringcast.subscription import Subscription
from ringcast.types import CursorInfo, Headers, Receipt, Record, Status, TopicInfo

__all__ = [
    "AlreadyApplied",
    "BadFrame",
    "Batch",
    "Bus",
    "ChangeRefused",
    "Closed",
    "Compacted",
    "CursorInfo",
    "Disconnected",
    "Headers",
    "IdReused",
    "IllegalTopic",
    "Message",
    "NotInQuorum",
    "NotReady",
    "ProtocolError",
    "PublishUnknown",
    "Publisher",
    "Receipt",
    "Record",
    "Refused",
    "RingcastError",
    "SequenceGap",
    "SessionExpired",
    "Status",
    "Subscription",
    "Ticket",
    "Timeout",
    "TooLarge",
    "TopicInfo",
    "Unavailable",
    "UnknownQuery",
    "Unreachable",
    "UnsupportedVersion",
    "WindowExceeded",
    "WrongCluster",
    "connect",
    "sync",
]
