"""What interfaces tell the customers (commands, ordered by the bus) and ask them (questions, K3): values and bytes.

A command is `[1, client, sequence, acknowledged, opened, seal, body]`; (client, sequence) is that of the CALL that
caused it, whatever interface sends it, so that it is applied once. Sequence 0: it may be applied often, and is not
remembered. `seal`: digest of the client's function, by which a repetition is told from a reused number. The body holds
what the interface found out (a hash, an item's seller), which may differ from one attempt to the next: the first
attempt that is ordered counts.

Sessions are named by their hash, and passwords by their scrypt key: neither is ever in the log in the clear.
"""

from typing import Any, Final, NamedTuple

from ringcast.bus.batch import DIGEST_BYTES
from ringcast.errors import BadFrame, UnsupportedVersion
from ringcast.kinds import Kinds
from ringcast.market import limits as market
from ringcast.market.limits import CART_LINES_MAX
from ringcast.market.types import Party
from ringcast.product_store import limits
from ringcast.product_store.limits import Limit, illegal, whole
from ringcast.strict import array, bad, binary, dumps, integer, loads
from ringcast.types import CLIENT_ID_BYTES

VERSION: Final = 1
COMMAND_BYTES_MAX: Final = 64 << 10
HASH_BYTES: Final = 32
SALT_BYTES: Final = 16
KEY_BYTES: Final = 32
AUDIT_PAGE_MAX: Final = 500

# ---- commands


class CreateAccount(NamedTuple):
    """-> the account's id. NameTaken."""

    party: str
    name: str
    salt: bytes
    key: bytes


class Login(NamedTuple):
    """-> the account's id. WrongPassword, TooManyAttempts."""

    party: str
    name: str
    key: bytes
    session: bytes


class Logout(NamedTuple):
    """-> None. SessionEnded."""

    session: bytes


class Touch(NamedTuple):
    """The session is in use. -> None. SessionEnded."""

    session: bytes


class AddToCart(NamedTuple):
    """`seller` "": no such item is on sale. -> units of the item in the cart. UnknownItem, TooLarge."""

    session: bytes
    item: str
    quantity: int
    name: str
    seller: str
    price: int


class RemoveFromCart(NamedTuple):
    """-> units left. NotInCart."""

    session: bytes
    item: str
    quantity: int


class ClearCart(NamedTuple):
    """-> None."""

    session: bytes


class Record(NamedTuple):
    """The order's lines of (item, quantity, price) are reserved: the purchase is made, if they are still the cart.

    -> Purchase. EmptyCart, CartChanged, OrderAbandoned: then nothing was bought, and never will be under this order.
    """

    session: bytes
    order: str
    lines: tuple[tuple[str, int, int], ...]


class Refuse(NamedTuple):
    """The call, and the order if there is one, is refused, for a reason that the interface found. -> this error."""

    order: str
    code: str
    details: dict[str, Any]


class Abandon(NamedTuple):
    """Nobody finishes the order: unless it is recorded, it never will be. -> whether it is recorded."""

    order: str


class GiveFeedback(NamedTuple):
    """-> None. NotBought, FeedbackGiven."""

    session: bytes
    order: str
    item: str
    up: bool


# ---- questions; those with a session answer [account, last use, value]


class SessionOf(NamedTuple):
    """-> None."""

    party: str
    session: bytes


class SaltOf(NamedTuple):
    """-> [salt, microseconds since 1970 until which no password is looked at], None without such an account."""

    party: str
    name: str


class CartOf(NamedTuple):
    """-> lines."""

    session: bytes


class RatingOf(NamedTuple):
    """`seller` "": the session's own. -> [up, down]. UnknownSeller."""

    party: str
    session: bytes
    seller: str


class HistoryOf(NamedTuple):
    """-> Page of Purchase."""

    session: bytes
    cursor: str
    limit: int


class OrdersFrom(NamedTuple):
    """For the audit: orders by id behind `cursor`. -> Page of [order, recorded, lines of (item, quantity), time]."""

    cursor: str
    limit: int


def _bytes(size: int) -> Limit:
    def check(what: str, value: Any) -> None:
        if type(value) is not bytes or len(value) != size:
            illegal(what, value, f"{size} bytes")

    return check


def _party(what: str, value: Any) -> None:
    if not isinstance(value, str) or value not in set(Party):
        illegal(what, value, "'seller' or 'buyer'")


def _optional_id(what: str, value: Any) -> None:
    if value != "":
        limits.identifier(what, value)


def _optional_name(what: str, value: Any) -> None:
    if value != "":
        limits.name(what, value)


def _lines(what: str, value: Any) -> None:
    if type(value) is not tuple or len(value) > CART_LINES_MAX:
        illegal(what, value, f"at most {CART_LINES_MAX} lines")
    for line in value:
        if type(line) is not tuple or len(line) != 3:
            illegal("a line", line, "(item, quantity, price)")
        limits.identifier("an item", line[0])
        limits.quantity("a quantity", line[1])
        limits.price("a price", line[2])


def _code(what: str, value: Any) -> None:
    if type(value) is not str or not 1 <= len(value) <= 64:
        illegal(what, value, "an error's code")


def _details(what: str, value: Any) -> None:
    if type(value) is not dict or not all(type(key) is str for key in value):
        illegal(what, value, "an error's details")


_ID, _HASH, _KEY = limits.identifier, _bytes(HASH_BYTES), _bytes(KEY_BYTES)
COMMANDS: Final = Kinds(
    {
        1: (CreateAccount, (_party, market.name, _bytes(SALT_BYTES), _KEY)),
        2: (Login, (_party, market.name, _KEY, _HASH)),
        3: (Logout, (_HASH,)),
        4: (Touch, (_HASH,)),
        5: (AddToCart, (_HASH, _ID, limits.quantity, _optional_name, _optional_id, limits.price)),
        6: (RemoveFromCart, (_HASH, _ID, limits.quantity)),
        7: (ClearCart, (_HASH,)),
        8: (Record, (_HASH, _ID, _lines)),
        9: (Refuse, (_optional_id, _code, _details)),
        10: (Abandon, (_ID,)),
        11: (GiveFeedback, (_HASH, _ID, _ID, market.thumb)),
    },
    COMMAND_BYTES_MAX,
)
QUESTIONS: Final = Kinds(
    {
        32: (SessionOf, (_party, _HASH)),
        33: (SaltOf, (_party, market.name)),
        34: (CartOf, (_HASH,)),
        35: (RatingOf, (_party, _HASH, _optional_id)),
        36: (HistoryOf, (_HASH, market.history_cursor, market.history_page)),
        37: (OrdersFrom, (limits.cursor, whole(1, AUDIT_PAGE_MAX))),
    },
    COMMAND_BYTES_MAX,
)


class Command(NamedTuple):
    """A command and whose it is; `body` is still packed."""

    client: bytes
    sequence: int
    acknowledged: int
    opened: int
    seal: bytes
    body: bytes


_U63 = integer()
_COMMAND = array(binary(CLIENT_ID_BYTES), _U63, _U63, _U63, binary(DIGEST_BYTES), lambda _, value: _is_body(value))


def _is_body(value: Any) -> None:
    if type(value) is not bytes:
        bad("the body", type(value).__name__, "bytes")


def encode_command(command: Command) -> bytes:
    """As it is published."""
    return dumps((VERSION, *command))


def decode_command(data: bytes) -> Command:
    """Raises BadFrame only."""
    fields = loads(data, COMMAND_BYTES_MAX)
    if type(fields) is not tuple or not fields or type(fields[0]) is not int:
        raise BadFrame(what="the command", value=type(fields).__name__, limit="an array [version, ...]")
    if fields[0] != VERSION:
        raise UnsupportedVersion(version=fields[0], supported=VERSION)
    _COMMAND("the command", fields[1:])
    return Command._make(fields[1:])
