"""The product store's client without asyncio: `with ringcast.sync.products(cluster) as store`."""

from ringcast.blocking import BlockingClient, blocking
from ringcast.endpoints import Cluster, Keys
from ringcast.following import TIMEOUT_S
from ringcast.product_store import client as products_client


def products(cluster: Cluster, *, timeout: float = TIMEOUT_S, keys: Keys = None) -> "ProductStore":
    """A product store to enter with `with`; the arguments and errors of `ringcast.products`."""
    return ProductStore(products_client.products(cluster, timeout=timeout, keys=keys))


class ProductStore(BlockingClient[products_client.ProductStore]):
    """`ringcast.ProductStore`, waiting."""

    put = blocking(products_client.ProductStore.put)
    get = blocking(products_client.ProductStore.get)
    stock = blocking(products_client.ProductStore.stock)
    change_price = blocking(products_client.ProductStore.change_price)
    change_quantity = blocking(products_client.ProductStore.change_quantity)
    remove = blocking(products_client.ProductStore.remove)
    by_seller = blocking(products_client.ProductStore.by_seller)
    items = blocking(products_client.ProductStore.items)
    search = blocking(products_client.ProductStore.search)
    reserve = blocking(products_client.ProductStore.reserve)
    confirm = blocking(products_client.ProductStore.confirm)
    release = blocking(products_client.ProductStore.release)
    reservation = blocking(products_client.ProductStore.reservation)
    due = blocking(products_client.ProductStore.due)
    sweep = blocking(products_client.ProductStore.sweep)
    status = blocking(products_client.ProductStore.status)
    instruct = blocking(products_client.ProductStore.instruct)
