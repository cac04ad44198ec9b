"""An operator's instructions, carried out on a Raft member (ringcast/product_store/admin.py says what each answers)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from replicas.products.config import MemberAddress
from ringcast.errors import ChangeRefused, NotReady, RingcastError, UnknownQuery
from ringcast.product_store.admin import AddMember, Instruction, MakeSnapshot, ReadChunk, RemoveMember, Transfer
from store.raft_contract import Snapshot

if TYPE_CHECKING:
    from replicas.products.member import ProductMember


class ProductAdmin:
    """Of one member. `carry_out` returns at once; its future fails with RingcastError."""

    def __init__(self, member: ProductMember) -> None:
        self._member = member
        self._node = member.node
        self._store = member.store
        self._loop = asyncio.get_running_loop()
        self._snapshot_waiters: list[asyncio.Future[Any]] = []

    def carry_out(self, instruction: Instruction) -> asyncio.Future[Any]:
        """On the loop."""
        match instruction:
            case Transfer(leader, target):
                return self._transfer(leader, target)
            case AddMember(member, address):
                return self._add(member, address)
            case RemoveMember(member):
                return self._member.translated(self._node.remove_member(member))
            case MakeSnapshot():
                return self._make_snapshot()
            case ReadChunk(name, number):
                return self._read_chunk(name, number)

    def _transfer(self, leader: int, target: int) -> asyncio.Future[Any]:
        node = self._node
        if node.leads and (leader != node.member or target == node.member):
            return self._done(node.member)  # it was handed over already
        return self._member.translated(node.transfer(target or None))

    def _add(self, member: int, address: str) -> asyncio.Future[Any]:
        try:
            whole = str(MemberAddress.parse(address))
        except ValueError as error:
            change, advice = f"adding member {member}", "say host:peer port[:client port], as the others reach it"
            return self._failed(ChangeRefused(change=change, why=str(error), next=advice, passes=False))
        return self._member.translated(self._node.add_member(member, whole))

    # -------------------------------------------------------------- snapshots

    def _make_snapshot(self) -> asyncio.Future[Any]:
        """Who asks while one is being made has the next one, which is as new as the question."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._snapshot_waiters.append(future)
        if len(self._snapshot_waiters) == 1:
            self._begin_snapshot()
        return future

    def _begin_snapshot(self) -> None:
        served = list(self._snapshot_waiters)
        self._store.make_snapshot(lambda made: self._made(served, made))

    def _made(self, served: list[asyncio.Future[Any]], made: Snapshot | None) -> None:
        answer = None if made is None else self._described(made)
        for future in served:
            if future.done():
                continue
            if answer is None:
                state = "unable to write a snapshot: its disk is full, or it stops"
                future.set_exception(NotReady(replica=self._node.member, state=state))
            else:
                future.set_result(answer)
        del self._snapshot_waiters[: len(served)]
        if self._snapshot_waiters:
            self._begin_snapshot()

    def _described(self, made: Snapshot) -> dict[str, Any] | None:
        file = next((one for one in self._store.snapshots() if one.name == made.name), None)
        if file is None:
            return None
        return {
            "cluster": f"{self._node.state.cluster:016x}",
            "replica": self._node.member,
            "name": made.name,
            "index": made.base.index,
            "term": made.base.term,
            "chunks": made.count,
            "bytes": file.size_bytes,
        }

    def _read_chunk(self, name: str, number: int) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()

        def read(work: asyncio.Future[bytes | None]) -> None:
            if future.done():
                return
            data = work.result()
            if data is None:
                future.set_exception(UnknownQuery(what="snapshot chunk", name=f"{name}/{number}"))
            else:
                future.set_result(data)

        self._loop.run_in_executor(None, self._store.read_chunk, name, number).add_done_callback(read)
        return future

    # -------------------------------------------------------------- answers that are there

    def _done(self, value: object) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        future.set_result(value)
        return future

    def _failed(self, error: RingcastError) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        future.set_exception(error)
        return future
