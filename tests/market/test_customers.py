"""The customers' rules, one by one, and at random against a plain model."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from replicas.customers import commands as c
from replicas.customers.accounts import FREE_FAILURES, IDLE_US, SECOND_US, SESSIONS_MAX, USE_US, WAIT_US_MAX, wait_us
from replicas.customers.machine import Customers
from replicas.customers.orders import REFUSED_US
from ringcast import errors
from ringcast.market import errors as market_errors
from ringcast.market.limits import CART_LINES_MAX
from ringcast.market.types import Party
from ringcast.product_store.limits import QUANTITY_MAX
from tests.market.customers import CLIENT, Clerk, DictStore

SALT = b"s" * 16


def key(password: str) -> bytes:
    return hashlib.sha256(password.encode()).digest()


def session(name: str) -> bytes:
    return hashlib.sha256(b"session " + name.encode()).digest()


def buyer(clerk: Clerk, name: str = "ann", party: Party = Party.BUYER) -> bytes:
    clerk.do(c.CreateAccount(party, name, SALT, key(name)))
    clerk.do(c.Login(party, name, key(name), session(name)))
    return session(name)


def add(clerk: Clerk, who: bytes, item: str = "lamp", quantity: int = 2, seller: str = "s9") -> int:
    return int(clerk.do(c.AddToCart(who, item, quantity, item.title(), seller, 100)))


# ---- accounts and sessions


def test_names_are_taken_once_by_each_party() -> None:
    clerk = Clerk()
    assert clerk.do(c.CreateAccount(Party.BUYER, "ann", SALT, key("x"))) == "b1"
    assert clerk.do(c.CreateAccount(Party.SELLER, "ann", SALT, key("x"))) == "s2"
    with pytest.raises(market_errors.NameTaken, match="buyer named 'ann'"):
        clerk.do(c.CreateAccount(Party.BUYER, "ann", SALT, key("y")))
    assert clerk.do(c.CreateAccount(Party.BUYER, "Ann", SALT, key("x"))) == "b3"


def test_a_session_belongs_to_its_party_and_ends_by_logout() -> None:
    clerk = Clerk()
    who = buyer(clerk)
    assert clerk.ask(c.SessionOf(Party.BUYER, who))[0] == "b1"
    with pytest.raises(market_errors.SessionEnded):
        clerk.ask(c.SessionOf(Party.SELLER, who))
    clerk.do(c.Logout(who))
    for work in (c.ClearCart(who), c.Logout(who), c.Touch(who)):
        with pytest.raises(market_errors.SessionEnded):
            clerk.do(work)


def test_a_session_ends_after_thirty_idle_minutes_and_use_is_written_once_a_minute() -> None:
    clerk = Clerk()
    who = buyer(clerk)
    login_us = clerk.ask(c.CartOf(who))[1]
    clerk.time_us = login_us + USE_US - 1
    clerk.do(c.Touch(who))
    assert clerk.ask(c.CartOf(who))[1] == login_us
    clerk.time_us = used_us = login_us + USE_US
    clerk.do(c.Touch(who))
    assert clerk.ask(c.CartOf(who))[1] == used_us
    clerk.time_us = used_us + IDLE_US
    clerk.do(c.Touch(who))
    used_us += IDLE_US
    clerk.time_us = used_us + IDLE_US + 1
    with pytest.raises(market_errors.SessionEnded):
        clerk.do(c.Touch(who))
    with pytest.raises(market_errors.SessionEnded):
        clerk.ask(c.CartOf(who))
    assert not [row for row in clerk.replicas[0].rows.scan(b"", None) if row[0][:1] in {b"l", b"i"}]


def test_idle_sessions_go_although_nobody_asks_for_them() -> None:
    clerk = Clerk()
    for number in range(40):
        buyer(clerk, f"buyer-{number}")
    clerk.time_us += IDLE_US + 1
    for _ in range(3):
        buyer(clerk, f"late-{clerk.time_us}")
        clerk.time_us += SECOND_US
    assert len(list(clerk.replicas[0].rows.scan(b"l", b"m"))) == 3


def test_an_account_has_so_many_sessions_and_the_oldest_ends() -> None:
    clerk = Clerk()
    clerk.do(c.CreateAccount(Party.BUYER, "ann", SALT, key("ann")))
    for number in range(SESSIONS_MAX + 1):
        clerk.do(c.Login(Party.BUYER, "ann", key("ann"), session(str(number))))
    with pytest.raises(market_errors.SessionEnded):
        clerk.do(c.Touch(session("0")))
    clerk.do(c.Touch(session("1")))


def test_guesses_make_the_account_wait_longer_and_longer() -> None:
    """docs/faults.md 61."""
    clerk = Clerk()
    buyer(clerk)
    for _ in range(FREE_FAILURES):
        with pytest.raises(market_errors.WrongPassword):
            clerk.do(c.Login(Party.BUYER, "ann", key("guess"), session("x")))
    with pytest.raises(market_errors.TooManyAttempts, match="1 s"):
        clerk.do(c.Login(Party.BUYER, "ann", key("ann"), session("x")))
    assert clerk.ask(c.SaltOf(Party.BUYER, "ann"))[1] > clerk.time_us
    clerk.time_us += SECOND_US
    with pytest.raises(market_errors.WrongPassword):
        clerk.do(c.Login(Party.BUYER, "ann", key("guess"), session("x")))
    with pytest.raises(market_errors.TooManyAttempts, match="2 s"):
        clerk.do(c.Login(Party.BUYER, "ann", key("ann"), session("x")))
    clerk.time_us += 2 * SECOND_US
    assert clerk.do(c.Login(Party.BUYER, "ann", key("ann"), session("x"))) == "b1"
    assert clerk.ask(c.SaltOf(Party.BUYER, "ann")) == (SALT, 0)
    with pytest.raises(market_errors.WrongPassword):
        clerk.do(c.Login(Party.BUYER, "nobody", key("ann"), session("y")))
    assert wait_us(10_000) == WAIT_US_MAX


def test_nobody_takes_over_a_session_by_naming_it() -> None:
    clerk = Clerk()
    who = buyer(clerk)
    clerk.do(c.CreateAccount(Party.BUYER, "eve", SALT, key("eve")))
    with pytest.raises(market_errors.WrongPassword):
        clerk.do(c.Login(Party.BUYER, "eve", key("eve"), who))
    assert clerk.ask(c.SessionOf(Party.BUYER, who))[0] == "b1"


# ---- carts


def test_a_cart_adds_up_and_has_limits() -> None:
    clerk = Clerk()
    who = buyer(clerk)
    assert add(clerk, who, quantity=2) == 2
    assert add(clerk, who, quantity=3) == 5
    with pytest.raises(errors.TooLarge, match="units"):
        add(clerk, who, quantity=QUANTITY_MAX)
    with pytest.raises(errors.UnknownItem):
        add(clerk, who, item="gone", seller="")
    with pytest.raises(market_errors.NotInCart, match="holds 5 units"):
        clerk.do(c.RemoveFromCart(who, "lamp", 6))
    assert clerk.do(c.RemoveFromCart(who, "lamp", 4)) == 1
    assert clerk.do(c.RemoveFromCart(who, "lamp", 1)) == 0
    assert clerk.ask(c.CartOf(who))[2] == ()
    for number in range(CART_LINES_MAX):
        add(clerk, who, item=f"item-{number}")
    with pytest.raises(errors.TooLarge, match="101 lines"):
        add(clerk, who, item="one-more")
    assert add(clerk, who, item="item-7") == 4


# ---- purchases


def test_a_purchase_is_recorded_once_and_clears_the_cart() -> None:
    clerk = Clerk()
    who = buyer(clerk)
    add(clerk, who)
    record = c.Record(who, "o-1", (("lamp", 2, 150),))
    order, time_us, lines = clerk.do(record)
    assert (order, lines) == ("o-1", (("lamp", 2, "Lamp", "s9", 150, ""),))
    assert clerk.ask(c.CartOf(who))[2] == ()
    add(clerk, who)
    assert clerk.do(record) == (order, time_us, lines), "whoever sends it again, and whatever is in the cart now"
    assert len(clerk.ask(c.CartOf(who))[2]) == 1
    assert clerk.ask(c.HistoryOf(who, "", 10))[2] == (((order, time_us, lines),), "")
    assert clerk.ask(c.OrdersFrom("", 10)) == ((("o-1", True, (("lamp", 2),), time_us),), "")
    assert clerk.do(c.Abandon("o-1"), sequence=0) is True


@pytest.mark.parametrize("change", ["more", "cleared", "expired"])
def test_what_changed_meanwhile_refuses_the_purchase_for_ever(change: str) -> None:
    """docs/faults.md 60: nothing is half done."""
    clerk = Clerk()
    who = buyer(clerk)
    add(clerk, who)
    if change == "more":
        add(clerk, who)
    elif change == "cleared":
        clerk.do(c.ClearCart(who))
    else:
        clerk.time_us += IDLE_US + USE_US
    wanted = {"more": market_errors.CartChanged, "cleared": market_errors.EmptyCart}
    with pytest.raises(wanted.get(change, market_errors.SessionEnded)):
        clerk.do(c.Record(who, "o-1", (("lamp", 2, 150),)))
    if change == "more":
        clerk.do(c.RemoveFromCart(who, "lamp", 2))
    with pytest.raises(market_errors.OrderAbandoned):
        clerk.do(c.Record(who, "o-1", (("lamp", 2, 150),)))
    assert clerk.ask(c.OrdersFrom("", 10)) == ((("o-1", False, (), 0),), "")


def test_an_abandoned_order_is_never_recorded() -> None:
    """docs/faults.md 57: the sweeper and a slow interface agree."""
    clerk = Clerk()
    who = buyer(clerk)
    add(clerk, who)
    assert clerk.do(c.Abandon("o-1"), sequence=0) is False
    with pytest.raises(market_errors.OrderAbandoned):
        clerk.do(c.Record(who, "o-1", (("lamp", 2, 150),)))
    assert len(clerk.ask(c.CartOf(who))[2]) == 1
    with pytest.raises(errors.OutOfStock, match="'lamp'"):
        clerk.do(c.Refuse("o-2", "out_of_stock", {"item": "lamp", "wanted": 2, "left": 1}))
    with pytest.raises(market_errors.OrderAbandoned):
        clerk.do(c.Record(who, "o-2", (("lamp", 2, 150),)))
    clerk.time_us += REFUSED_US
    buyer(clerk, "later")
    assert clerk.ask(c.OrdersFrom("", 10)) == ((), "")


def test_history_has_pages_newest_first() -> None:
    clerk = Clerk()
    who = buyer(clerk)
    for number in range(5):
        add(clerk, who)
        clerk.do(c.Record(who, f"o-{number}", (("lamp", 2, 1),)))
    found, more = clerk.ask(c.HistoryOf(who, "", 3))[2]
    assert ([one[0] for one in found], bool(more)) == (["o-4", "o-3", "o-2"], True)
    found, more = clerk.ask(c.HistoryOf(who, more, 3))[2]
    assert ([one[0] for one in found], more) == (["o-1", "o-0"], "")


def test_feedback_is_given_once_on_what_was_bought() -> None:
    clerk = Clerk()
    who, other = buyer(clerk), buyer(clerk, "ben")
    seller = clerk.do(c.CreateAccount(Party.SELLER, "sue", SALT, key("sue")))
    add(clerk, who, seller=seller)
    clerk.do(c.Record(who, "o-1", (("lamp", 2, 1),)))
    assert clerk.ask(c.RatingOf(Party.BUYER, who, seller))[2] == (0, 0)
    for bad in (c.GiveFeedback(other, "o-1", "lamp", True), c.GiveFeedback(who, "o-1", "desk", True)):
        with pytest.raises(market_errors.NotBought):
            clerk.do(bad)
    clerk.do(c.GiveFeedback(who, "o-1", "lamp", False))
    with pytest.raises(market_errors.FeedbackGiven):
        clerk.do(c.GiveFeedback(who, "o-1", "lamp", True))
    assert clerk.ask(c.RatingOf(Party.BUYER, who, seller))[2] == (0, 1)
    assert clerk.ask(c.HistoryOf(who, "", 1))[2][0][0][2][0][-1] == "down"
    with pytest.raises(market_errors.UnknownSeller):
        clerk.ask(c.RatingOf(Party.BUYER, who, "s77"))
    with pytest.raises(market_errors.UnknownSeller):
        clerk.ask(c.RatingOf(Party.BUYER, who, "b1"))


# ---- exactly once, and what is no command


def test_a_command_that_is_sent_again_has_its_first_answer() -> None:
    clerk = Clerk()
    who = buyer(clerk)
    work = c.AddToCart(who, "lamp", 2, "Lamp", "s9", 100)
    assert clerk.do(work, sequence=50, seal=b"12345678", client=CLIENT) == 2
    gone = work._replace(name="", seller="")
    assert clerk.do(gone, sequence=50, seal=b"12345678", client=CLIENT) == 2, (
        "the first attempt that was ordered counts"
    )
    with pytest.raises(errors.IdReused):
        clerk.do(work, sequence=50, seal=b"87654321", client=CLIENT)
    assert clerk.replicas[0].recall([clerk.sent[-2]]) == clerk.replicas[0].recall([clerk.sent[-3]])
    assert clerk.ask(c.CartOf(who))[2][0][1] == 2


@pytest.mark.parametrize("message", [b"", b"\xc1", b"\x90", b"\x91\x02", b"\x93\x01\x02\x03", b"\xdd\xff\xff\xff\xff"])
def test_a_message_that_is_no_command_changes_nothing(message: bytes) -> None:
    clerk = Clerk()
    before = list(clerk.replicas[0].rows.scan(b"", None))
    with pytest.raises(errors.BadFrame):
        clerk.publish(message)
    after = [row for row in clerk.replicas[0].rows.scan(b"", None) if row[0] != b"mstate"]
    assert after == before


# ---- at random


@dataclass
class ModelBuyer:
    """What a plain program would keep of a buyer."""

    open: bool = False
    used_us: int = 0
    cart: dict[str, int] = field(default_factory=dict)
    bought: list[tuple[str, dict[str, int]]] = field(default_factory=list)


class Random(RuleBasedStateMachine):
    """Two replicas that write their rows at different times, one of which starts anew now and then, and a model."""

    @initialize()
    def begin(self) -> None:
        self.stores = [DictStore(), DictStore()]
        self.clerk = Clerk(*(Customers(store) for store in self.stores))
        self.model: dict[str, ModelBuyer] = {}
        self.orders = 0
        self.rated: dict[str, list[int]] = {}

    def _use(self, name: str, work: Any) -> Any:
        """The command's value, or None where the model says that there is no session."""
        model, clerk = self.model.get(name), self.clerk
        now_us = clerk.time_us
        if model is None or not model.open or now_us - model.used_us > IDLE_US:
            with pytest.raises(market_errors.SessionEnded):
                clerk.do(work)
            return None
        if now_us - model.used_us >= USE_US:
            model.used_us = now_us
        return clerk.do(work)

    @rule(name=st.sampled_from("abc"))
    def create(self, name: str) -> None:
        work = c.CreateAccount(Party.BUYER, name, SALT, key(name))
        if name in self.model:
            with pytest.raises(market_errors.NameTaken):
                self.clerk.do(work)
        else:
            self.clerk.do(work)
            self.model[name] = ModelBuyer()

    @rule(name=st.sampled_from("abc"))
    def login(self, name: str) -> None:
        work = c.Login(Party.BUYER, name, key(name), session(name))
        if name in self.model:
            self.model[name].open, self.model[name].used_us = True, self.clerk.time_us
            self.clerk.do(work)
        else:
            with pytest.raises(market_errors.WrongPassword):
                self.clerk.do(work)

    @rule(name=st.sampled_from("abc"))
    def logout(self, name: str) -> None:
        if name in self.model and self.model[name].open and self.clerk.time_us - self.model[name].used_us <= IDLE_US:
            self.clerk.do(c.Logout(session(name)))
            self.model[name].open = False

    @rule(name=st.sampled_from("abc"), item=st.sampled_from("xyz"), quantity=st.integers(1, 5))
    def add(self, name: str, item: str, quantity: int) -> None:
        left = self._use(name, c.AddToCart(session(name), item, quantity, item, "s1", 10))
        if left is not None:
            cart = self.model[name].cart
            cart[item] = cart.get(item, 0) + quantity
            assert left == cart[item]

    @rule(name=st.sampled_from("abc"), item=st.sampled_from("xyz"), quantity=st.integers(1, 5))
    def remove(self, name: str, item: str, quantity: int) -> None:
        held = self.model[name].cart.get(item, 0) if name in self.model else 0
        try:
            left = self._use(name, c.RemoveFromCart(session(name), item, quantity))
        except market_errors.NotInCart:
            assert quantity > held
            return
        if left is not None:
            assert left == held - quantity
            self.model[name].cart[item] = left
            if not left:
                del self.model[name].cart[item]

    @rule(name=st.sampled_from("abc"), wrong=st.booleans(), abandoned=st.booleans())
    def buy(self, name: str, wrong: bool, abandoned: bool) -> None:
        self.orders += 1
        order = f"o-{self.orders}"
        cart = dict(self.model[name].cart) if name in self.model else {}
        lines = tuple((item, quantity + wrong, 7) for item, quantity in sorted(cart.items()))
        if abandoned:
            assert self.clerk.do(c.Abandon(order), sequence=0) is False
            with pytest.raises(market_errors.OrderAbandoned):
                self.clerk.do(c.Record(session(name), order, lines))
            return
        try:
            found = self._use(name, c.Record(session(name), order, lines))
        except market_errors.EmptyCart:
            assert not cart
        except market_errors.CartChanged:
            assert wrong
        else:
            if found is not None:
                assert cart
                assert not wrong
                self.model[name].bought.append((order, cart))
                self.model[name].cart = {}

    @rule(seconds=st.sampled_from([1, 70, 1_000, 2_000]))
    def wait(self, seconds: int) -> None:
        self.clerk.time_us += seconds * SECOND_US

    @rule()
    def again(self) -> None:
        """The last command comes a second time, through another gateway."""
        if self.clerk.sent:
            before = self.clerk.replicas[0].recall([self.clerk.sent[-1]])
            assert self.clerk.replicas[1].recall([self.clerk.sent[-1]]) == before

    @rule(replica=st.integers(0, 1))
    def save(self, replica: int) -> None:
        self.stores[replica].write(self.clerk.replicas[replica])

    @rule()
    def restart(self) -> None:
        self.stores[1].write(self.clerk.replicas[1])
        self.clerk.replicas[1] = Customers(self.stores[1])

    @invariant()
    def as_the_model_says(self) -> None:
        first, second = self.clerk.replicas
        assert first.state_digest() == second.state_digest()
        for name, model in self.model.items():
            question = c.CartOf(session(name))
            try:
                _, _, lines = self.clerk.ask(question)
            except market_errors.SessionEnded:
                continue
            assert {line[0]: line[1] for line in lines} == model.cart
            history = self.clerk.ask(c.HistoryOf(session(name), "", 100))[2][0]
            bought = [(order, {line[0]: line[1] for line in lines}) for order, _, lines in history]
            assert bought == model.bought[::-1]


TestRandom = Random.TestCase
TestRandom.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_client_that_was_forgotten_is_told_so() -> None:
    """More clients than are remembered: what comes late from the oldest must not look new."""
    clerk = Clerk(Customers(sessions_max=4))
    for number in range(6):
        clerk.do(c.CreateAccount(Party.BUYER, f"n{number}", SALT, key("x")), client=bytes([number]) * 16)
    with pytest.raises(errors.SessionExpired):
        clerk.do(c.CreateAccount(Party.BUYER, "late", SALT, key("x")), client=bytes(16), sequence=2)
    clerk.do(c.CreateAccount(Party.BUYER, "new", SALT, key("x")))
