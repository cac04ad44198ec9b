"""What the marketplace refuses, beside what the product store does (errors.py).

Refused
├── NameTaken                  another account of this role has the name
├── WrongPassword              no account of this role has this name with this password
├── TooManyAttempts            wrong passwords came too often: the account waits before it looks at another
├── SessionEnded               logged out, idle for too long, or never there
├── UnknownSeller              no seller of this id
├── EmptyCart                  nothing to buy
├── NotInCart                  the cart holds fewer units of the item than were to be removed
├── CartChanged                the cart changed while it was being bought
├── OrderAbandoned             the purchase took so long that it was given up
├── NotBought                  this order of the buyer's has no such item
└── FeedbackGiven              the item of this order has its feedback already
"""

from ringcast.errors import Refused


class NameTaken(Refused):
    """Details: role, name."""

    code = "name_taken"
    sentence = "a {role} named {name} is there already: take another name, or log in"


class WrongPassword(Refused):
    """Details: role. Which of the two is wrong is not told."""

    code = "wrong_password"
    sentence = "no {role} has this name with this password: check both; repeated guesses make the account wait"


class TooManyAttempts(Refused):
    """Details: seconds. The password was not looked at."""

    code = "too_many_attempts"
    sentence = "too many wrong passwords for this account: try again in {seconds} s"


class SessionEnded(Refused):
    """Details: minutes, of idle time that end a session."""

    code = "session_ended"
    sentence = "there is no such session: log in (a session ends by logout, or after {minutes} idle minutes)"


class UnknownSeller(Refused):
    """Details: seller."""

    code = "unknown_seller"
    sentence = "there is no seller {seller!r}: take the id from an item, or from a purchase"


class EmptyCart(Refused):
    """Nothing was bought."""

    code = "empty_cart"
    sentence = "the cart is empty, so nothing was bought: add an item first"


class NotInCart(Refused):
    """Details: item, wanted, held."""

    code = "not_in_cart"
    sentence = "the cart holds {held} units of item {item!r}, so {wanted} can't be removed: display the cart"


class CartChanged(Refused):
    """Details: order. Nothing was bought, and the cart is as the other change left it."""

    code = "cart_changed"
    sentence = "the cart changed while it was being bought, so nothing was: display it, and buy again"


class OrderAbandoned(Refused):
    """Details: order. Nothing was bought, and the cart is as it was."""

    code = "order_abandoned"
    sentence = "order {order!r} took so long that it was given up, so nothing was bought: buy again"


class NotBought(Refused):
    """Details: order, item."""

    code = "not_bought"
    sentence = "you have no order {order!r} with item {item!r}: the purchase history names both"


class FeedbackGiven(Refused):
    """Details: order, item."""

    code = "feedback_given"
    sentence = "item {item!r} of order {order!r} has its feedback already, and it is given once"
