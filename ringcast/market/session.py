"""A client's standing with the marketplace: some interface replica at a time, and each call applied once.

Everything that the product store's session does, with calls in place of operations: a call travels alone, since each is
answered when the databases behind the interface have done it.
"""

from typing import Any, ClassVar

from ringcast import wire
from ringcast.market.wire import Call
from ringcast.product_store.lanes import Request
from ringcast.product_store.session import ProductSession


class MarketSession(ProductSession):
    """Connects to one interface replica at a time; they are all alike."""

    what: ClassVar[str] = "marketplace client"
    _opened_at = (0, 0)

    async def call(self, what: str, function: bytes, seconds: float) -> Any:
        """Call a function of changes; its value. Raises its refusal, Timeout (it stays pending), OutcomeUnknown."""
        return await self._request(self._changes, what, function, seconds, alone=True)

    def _open(self, welcome: wire.Welcome) -> None:
        super()._open(welcome)
        self._opened_at = (welcome.opened, welcome.view[0])

    def _change_frame(self, request: Request) -> wire.Message:
        (function,) = request.items
        return Call(self.client, request.number, self._changes.acknowledged, self._opened_at, function)
