"""D7: the ring's time was far ahead for a while, and is set back: sessions and accounts of customers."""

import pytest

from replicas.customers import commands as c
from replicas.customers.accounts import IDLE_US, USE_US
from ringcast.market import errors as market_errors
from ringcast.market.types import Party
from tests.market.customers import Clerk
from tests.market.test_customers import buyer


def test_after_a_reset_of_the_rings_time_sessions_and_accounts_go_on_as_before() -> None:
    """D7: sessions that were used in the meantime end 30 idle minutes later, and no account is locked for years."""
    clerk = Clerk()
    begun = clerk.time_us
    clerk.time_us = begun + 100_000 * IDLE_US
    who = buyer(clerk)
    for _ in range(5):
        with pytest.raises((market_errors.WrongPassword, market_errors.TooManyAttempts)):
            clerk.do(c.Login(Party.BUYER, "ann", b"0" * 32, b"1" * 32))
    clerk.time_us = begun
    clerk.do(c.Touch(who))
    with pytest.raises(market_errors.WrongPassword):
        clerk.do(c.Login(Party.BUYER, "ann", b"0" * 32, b"1" * 32))
    clerk.time_us = begun + IDLE_US + USE_US
    with pytest.raises(market_errors.SessionEnded):
        clerk.do(c.Touch(who))
