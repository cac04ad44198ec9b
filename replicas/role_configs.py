"""The configuration of a replica of any role, by the role's name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from replicas.bus import config
from replicas.local.files import BUS, BUYERS, PRODUCTS, SELLERS
from replicas.market import config as market_config
from replicas.products import config as products_config
from replicas.settings import Loaded

Load: TypeAlias = Callable[[Path | None, Mapping[str, Any] | None], Loaded[Any]]

#: Role -> how its configuration is read (settings.load). Raises ConfigError.
LOADERS: Final[Mapping[str, Load]] = {
    BUS.name: config.load,
    PRODUCTS.name: products_config.load,
    SELLERS.name: market_config.load,
    BUYERS.name: market_config.load,
}
