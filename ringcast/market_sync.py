"""The marketplace's clients without asyncio: `with ringcast.sync.Seller(cluster) as seller`, and `Buyer`."""

from typing import TypeVar

from ringcast import market_client
from ringcast.blocking import BlockingClient, blocking
from ringcast.endpoints import Cluster, Keys

C = TypeVar("C", market_client.Seller, market_client.Buyer)


class _Client(BlockingClient[C]):
    """What sellers and buyers share."""

    @property
    def replica(self) -> int:
        """The id of the interface replica that we are connected to, or were last."""
        return self.inner.replica

    @property
    def session(self) -> bytes | None:
        """The secret of the login, 32 bytes; None without one. Who has it is logged in."""
        return self.inner.session


class Seller(_Client[market_client.Seller]):
    """`ringcast.Seller`, waiting."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        timeout: float = market_client.TIMEOUT_S,
        session: bytes | None = None,
        keys: Keys = None,
    ) -> None:
        super().__init__(market_client.Seller(cluster, timeout=timeout, session=session, keys=keys))

    create_account = blocking(market_client.Seller.create_account)
    login = blocking(market_client.Seller.login)
    logout = blocking(market_client.Seller.logout)
    status = blocking(market_client.Seller.status)
    put_item_for_sale = blocking(market_client.Seller.put_item_for_sale)
    change_price = blocking(market_client.Seller.change_price)
    remove_units = blocking(market_client.Seller.remove_units)
    display_items = blocking(market_client.Seller.display_items)
    get_rating = blocking(market_client.Seller.get_rating)


class Buyer(_Client[market_client.Buyer]):
    """`ringcast.Buyer`, waiting."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        timeout: float = market_client.TIMEOUT_S,
        session: bytes | None = None,
        keys: Keys = None,
    ) -> None:
        super().__init__(market_client.Buyer(cluster, timeout=timeout, session=session, keys=keys))

    create_account = blocking(market_client.Buyer.create_account)
    login = blocking(market_client.Buyer.login)
    logout = blocking(market_client.Buyer.logout)
    status = blocking(market_client.Buyer.status)
    search_items = blocking(market_client.Buyer.search_items)
    add_to_cart = blocking(market_client.Buyer.add_to_cart)
    remove_from_cart = blocking(market_client.Buyer.remove_from_cart)
    clear_cart = blocking(market_client.Buyer.clear_cart)
    display_cart = blocking(market_client.Buyer.display_cart)
    make_purchase = blocking(market_client.Buyer.make_purchase)
    give_feedback = blocking(market_client.Buyer.give_feedback)
    get_seller_rating = blocking(market_client.Buyer.get_seller_rating)
    get_purchase_history = blocking(market_client.Buyer.get_purchase_history)
