"""What a value of the product store may be. The client checks before it sends, the store again where it applies.

Replicas must judge alike whatever Python they run on, so nothing here asks the interpreter's Unicode tables: the one
question about normal forms goes to the tables of Unicode 3.2, which every Python carries unchanged.
"""

import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias
from unicodedata import ucd_3_2_0 as unicode

from ringcast.errors import IllegalValue
from ringcast.product_store.types import Condition

ID_CHARACTERS_MAX = 36
NAME_CHARACTERS_MAX = 64
CATEGORY_CHARACTERS_MAX = 32
KEYWORD_CHARACTERS_MAX = 8
KEYWORDS_MAX = 5
PRICE_MAX = 10**12
QUANTITY_MAX = 10**9
LINES_MAX = 100
HOLD_MS_MAX = 24 * 3600 * 1_000
PAGE_MAX = 1_000
SWEEP_MAX = 100

#: A field's check: raises IllegalValue(what, value, limit).
Limit: TypeAlias = Callable[[str, Any], None]

_CONDITIONS = frozenset(Condition)
_SHOWN = 60
_SEEN_MAX = 16_384
_ID = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SPACES = " \u00a0\u3000"
_SPACE = re.compile(f"[{_SPACES}]")
_CURSOR = re.compile(rf"[0-{KEYWORDS_MAX}]:[A-Za-z0-9_.-]{{1,{ID_CHARACTERS_MAX}}}", re.ASCII)


def illegal(what: str, value: object, limit: str) -> NoReturn:
    """Raise IllegalValue; the value is cut short, as it came from outside, and ASCII: repr() has Unicode tables."""
    raise IllegalValue(what=what, value=ascii(value)[:_SHOWN], limit=limit)


def whole(low: int, high: int, *, but: int | None = None) -> Limit:
    """An int in [low, high] other than `but`; bool is none."""
    limit = f"a whole number from {low} to {high}" + ("" if but is None else f", not {but}")

    def check(what: str, value: Any) -> None:
        if type(value) is not int or not low <= value <= high or value == but:
            illegal(what, value, limit)

    return check


def identifier(what: str, value: Any) -> None:
    """The id of an item, seller or order: what fits a file name, a URL and a CSV field as it is."""
    if type(value) is not str or len(value) > ID_CHARACTERS_MAX or _ID.fullmatch(value) is None:
        illegal(what, value, f"1 to {ID_CHARACTERS_MAX} characters of A-Z a-z 0-9 _ . -")


def words(characters_max: int) -> Limit:
    """Text for the eye: in normal form C (or two spellings would look alike), no control characters, no outer space."""
    limit = f"1 to {characters_max} characters, without control characters or space around them"

    def check(what: str, value: Any) -> None:
        if (
            type(value) is not str
            or not 1 <= len(value) <= characters_max
            or value.strip(_SPACES) != value
            or (not value.isprintable() if value.isascii() else _CONTROL.search(value))
        ):
            illegal(what, value, limit)
        if not value.isascii() and (normal := unicode.normalize("NFC", value)) != value:
            illegal(what, value, f"its normal form C, {normal!a}")

    return check


def repeated(check: Limit) -> Limit:
    """The same check for text that comes again and again: what was good once is good."""
    seen: set[str] = set()

    def check_once(what: str, value: Any) -> None:
        if type(value) is str and value in seen:
            return
        check(what, value)
        if len(seen) >= _SEEN_MAX:
            seen.clear()
        seen.add(value)

    return check_once


_keyword = words(KEYWORD_CHARACTERS_MAX)


def keyword(what: str, value: Any) -> None:
    """One word."""
    _keyword(what, value)
    if _SPACE.search(value):
        illegal(what, value, "one word, without spaces")


_known_keyword = repeated(keyword)


def keywords(what: str, value: Any) -> None:
    """Up to five different keywords."""
    if type(value) is not tuple or len(value) > KEYWORDS_MAX:
        illegal(what, value, f"at most {KEYWORDS_MAX} keywords")
    for one in value:
        _known_keyword("a keyword", one)
    if len(set(value)) != len(value):
        illegal(what, value, "each keyword once")


def condition(what: str, value: Any) -> None:
    """ "new" or "used"."""
    if type(value) is not str or value not in _CONDITIONS:
        illegal(what, value, "'new' or 'used'")


def lines(what: str, value: Any) -> None:
    """The (item, quantity) pairs of an order, each item once."""
    if type(value) is not tuple or not 1 <= len(value) <= LINES_MAX:
        illegal(what, value, f"1 to {LINES_MAX} lines of (item, quantity)")
    for line in value:
        if type(line) is not tuple or len(line) != 2:
            illegal("a line", line, "(item, quantity)")
        identifier("an item", line[0])
        quantity("a quantity", line[1])
    if len({item for item, _ in value}) != len(value):
        illegal(what, value, "each item once")


def cursor(what: str, value: Any) -> None:
    """Where a page of a seller's items begins: "" or the `next` of the page before."""
    if value != "":
        identifier(what, value)


def search_cursor(what: str, value: Any) -> None:
    """Where a page of a search begins: "" or the `next` of the page before, "matched:item"."""
    if type(value) is not str or (value and _CURSOR.fullmatch(value) is None):
        illegal(what, value, "'' or the `next` of the page before")


name: Limit = words(NAME_CHARACTERS_MAX)
category: Limit = repeated(words(CATEGORY_CHARACTERS_MAX))
seller: Limit = repeated(identifier)
price: Limit = whole(0, PRICE_MAX)
quantity: Limit = whole(1, QUANTITY_MAX)
change: Limit = whole(-QUANTITY_MAX, QUANTITY_MAX, but=0)
hold_ms: Limit = whole(1, HOLD_MS_MAX)
page: Limit = whole(1, PAGE_MAX)
sweep: Limit = whole(1, SWEEP_MAX)
