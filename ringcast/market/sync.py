"""The marketplace's clients without asyncio: `with ringcast.sync.Seller(cluster) as seller`, and `Buyer`."""

from typing import TypeVar

from ringcast.blocking import BlockingClient, blocking
from ringcast.endpoints import Cluster, Keys
from ringcast.following import TIMEOUT_S
from ringcast.market import client as market_client

C = TypeVar("C", bound=market_client.MarketClient)


class _Client(BlockingClient[C]):
    """What sellers and buyers share."""

    #: The client that this one waits for.
    twin: type[C]

    def __init__(
        self, cluster: Cluster, *, timeout: float = TIMEOUT_S, session: bytes | None = None, keys: Keys = None
    ) -> None:
        super().__init__(self.twin(cluster, timeout=timeout, session=session, keys=keys))

    @property
    def session(self) -> bytes | None:
        """The secret of the login, 32 bytes; None without one. Who has it is logged in."""
        return self.inner.session

    create_account = blocking(market_client.MarketClient.create_account)
    login = blocking(market_client.MarketClient.login)
    logout = blocking(market_client.MarketClient.logout)
    status = blocking(market_client.MarketClient.status)


class Seller(_Client[market_client.Seller]):
    """`ringcast.Seller`, waiting."""

    twin = market_client.Seller

    put_item_for_sale = blocking(market_client.Seller.put_item_for_sale)
    change_price = blocking(market_client.Seller.change_price)
    remove_units = blocking(market_client.Seller.remove_units)
    display_items = blocking(market_client.Seller.display_items)
    get_rating = blocking(market_client.Seller.get_rating)


class Buyer(_Client[market_client.Buyer]):
    """`ringcast.Buyer`, waiting."""

    twin = market_client.Buyer

    search_items = blocking(market_client.Buyer.search_items)
    add_to_cart = blocking(market_client.Buyer.add_to_cart)
    remove_from_cart = blocking(market_client.Buyer.remove_from_cart)
    clear_cart = blocking(market_client.Buyer.clear_cart)
    display_cart = blocking(market_client.Buyer.display_cart)
    make_purchase = blocking(market_client.Buyer.make_purchase)
    give_feedback = blocking(market_client.Buyer.give_feedback)
    get_seller_rating = blocking(market_client.Buyer.get_seller_rating)
    get_purchase_history = blocking(market_client.Buyer.get_purchase_history)
