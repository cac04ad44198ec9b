"""Ringcast: a totally ordered, durable broadcast bus. This package is the client and the wire contract.

    async with ringcast.connect("cluster.json") as bus:
        receipt = await bus.publish("orders", b"42 apples")
        async with bus.subscribe("orders", start=receipt.offset) as messages:
            async for message in messages:
                print(message.offset, message.payload)

    async with ringcast.products("cluster.json") as store:
        await store.put("Desk lamp", seller="ann", category="home", keywords=["light"], price=1_999, quantity=3)

    async with ringcast.market.Buyer("cluster.json") as buyer:
        await buyer.login("ann", "correct horse")

`ringcast.sync` has the same without asyncio. All errors are children of `RingcastError` (`ringcast.errors`).
"""

from ringcast import market, sync
from ringcast.bus.client import Bus, connect
from ringcast.bus.joining import Ticket
from ringcast.bus.messages import Batch, Message
from ringcast.bus.publisher import Publisher
from ringcast.bus.subscription import Subscription
from ringcast.errors import (
    AlreadyApplied,
    BadFrame,
    ChangeRefused,
    Closed,
    Compacted,
    Disconnected,
    Forked,
    HandshakeRefused,
    IdReused,
    IllegalTopic,
    IllegalValue,
    ItemExists,
    KeysUnusable,
    NotAllowed,
    NotInQuorum,
    NotLeader,
    NotReady,
    NotTheSeller,
    OrderConfirmed,
    OrderReleased,
    OrderReused,
    OutcomeUnknown,
    OutOfStock,
    Overloaded,
    ProtocolError,
    PublishUnknown,
    Refused,
    RingcastError,
    SequenceGap,
    SessionExpired,
    Timeout,
    TooLarge,
    Unavailable,
    UnknownItem,
    UnknownOrder,
    UnknownQuery,
    Unreachable,
    UnsupportedVersion,
    WindowExceeded,
    WrongCluster,
)
from ringcast.product_store.client import ProductStore, products
from ringcast.product_store.types import Condition, Item, Match, OrderState, Page, Reservation, SoldLine, Stock
from ringcast.types import CursorInfo, Headers, Receipt, Record, Status, TopicInfo

__all__ = [
    "AlreadyApplied",
    "BadFrame",
    "Batch",
    "Bus",
    "ChangeRefused",
    "Closed",
    "Compacted",
    "Condition",
    "CursorInfo",
    "Disconnected",
    "Forked",
    "HandshakeRefused",
    "Headers",
    "IdReused",
    "IllegalTopic",
    "IllegalValue",
    "Item",
    "ItemExists",
    "KeysUnusable",
    "Match",
    "Message",
    "NotAllowed",
    "NotInQuorum",
    "NotLeader",
    "NotReady",
    "NotTheSeller",
    "OrderConfirmed",
    "OrderReleased",
    "OrderReused",
    "OrderState",
    "OutOfStock",
    "OutcomeUnknown",
    "Overloaded",
    "Page",
    "ProductStore",
    "ProtocolError",
    "PublishUnknown",
    "Publisher",
    "Receipt",
    "Record",
    "Refused",
    "Reservation",
    "RingcastError",
    "SequenceGap",
    "SessionExpired",
    "SoldLine",
    "Status",
    "Stock",
    "Subscription",
    "Ticket",
    "Timeout",
    "TooLarge",
    "TopicInfo",
    "Unavailable",
    "UnknownItem",
    "UnknownOrder",
    "UnknownQuery",
    "Unreachable",
    "UnsupportedVersion",
    "WindowExceeded",
    "WrongCluster",
    "connect",
    "market",
    "products",
    "sync",
]
