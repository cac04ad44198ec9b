"""etcd by grpc.aio: its requests are encoded here, so that no generated stubs are needed (etcd's rpc.proto).

PutRequest  { bytes key = 1; bytes value = 2; }
RequestOp   { PutRequest request_put = 2; }
TxnRequest  { repeated RequestOp success = 2; }
TxnResponse { bool succeeded = 2; }
RangeRequest { bytes key = 1; bool serializable = 7; }
"""

import itertools
from collections.abc import Awaitable
from functools import partial
from typing import Self

import grpc
import grpc.aio

from bench.clients import OPEN_TIMEOUT_S, READ_KEYS, RETRY_AFTER_S, Where
from bench.loads import Load, in_tasks, keep_open

BATCH = 128
_PUT, _TXN, _RANGE = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn", "/etcdserverpb.KV/Range"
_KEY, _VALUE, _OPERATION = 0x0A, 0x12, 0x12  # field number << 3 | 2 (length-delimited)
_SERIALIZABLE = b"\x38\x01"  # field 7, a varint: true


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def part(tag: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return bytes((tag,)) + varint(len(body)) + body


def put_request(key: bytes, value: bytes) -> bytes:
    """PutRequest."""
    return part(_KEY, key) + part(_VALUE, value)


def txn_request(puts: list[bytes]) -> bytes:
    """TxnRequest that does all puts, under no condition."""
    return b"".join(part(_OPERATION, part(_VALUE, put)) for put in puts)


def range_request(key: bytes, *, serializable: bool) -> bytes:
    """RangeRequest of one key; a serializable one is answered by whichever member is asked."""
    return part(_KEY, key) + (_SERIALIZABLE if serializable else b"")


class EtcdClient:
    """One channel; each message is a key of its own, in order."""

    transient: tuple[type[BaseException], ...] = (grpc.aio.AioRpcError, TimeoutError)

    def __init__(self, where: Where) -> None:
        self._endpoints = where.endpoints
        self._numbers = itertools.count()

    async def __aenter__(self) -> Self:
        addresses = ",".join(self._endpoints)
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
        self._channel = grpc.aio.insecure_channel(f"ipv4:{addresses}", options=options)
        self._put = self._channel.unary_unary(_PUT)
        self._txn = self._channel.unary_unary(_TXN)
        self._range = self._channel.unary_unary(_RANGE)
        await self._put(put_request(b"ready", b""), wait_for_ready=True, timeout=20.0)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._channel.close()

    def attached(self) -> str:
        """gRPC does not say."""
        return ""

    def _next(self, payload: bytes) -> bytes:
        return put_request(b"%012d" % next(self._numbers), payload)

    async def publish(self, payload: bytes, within_s: float = RETRY_AFTER_S) -> object:
        """One put."""
        return await self._put(self._next(payload), wait_for_ready=True, timeout=within_s)

    async def pipelined(self, load: Load) -> int:
        """Single puts."""

        async def send() -> Awaitable[object]:
            call: Awaitable[object] = self._put(self._next(load.payload))
            return call

        return await keep_open(load, send)

    async def batched(self, load: Load) -> int:
        """Transactions of 128 puts, which is etcd's default limit."""

        async def send() -> Awaitable[object]:
            call: Awaitable[object] = self._txn(txn_request([self._next(load.payload) for _ in range(BATCH)]))
            return call

        return await keep_open(load, send, BATCH)

    async def tasks(self, load: Load) -> int:
        """Many concurrent puts. Of thousands some wait for longer than a failover may take, and nobody fails here."""
        return await in_tasks(load, partial(self.publish, within_s=OPEN_TIMEOUT_S))

    async def prepare(self) -> None:
        """The keys that are read."""
        puts = [put_request(b"read-%d" % number, bytes(100)) for number in range(READ_KEYS)]
        for first in range(0, READ_KEYS, BATCH):
            await self._txn(txn_request(puts[first : first + BATCH]))

    async def read(self, *, local: bool) -> object:
        """A range of one key."""
        key = b"read-%d" % (next(self._numbers) % READ_KEYS)
        return await self._range(range_request(key, serializable=local), wait_for_ready=True, timeout=OPEN_TIMEOUT_S)


CLIENT = EtcdClient
