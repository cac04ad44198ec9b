"""What a value of the marketplace may be, beside those of the product store (product_store/limits.py).

Names of accounts are taken as they are written and only in normal form C, so that no two accounts look alike; a
password in another form of the same text is the same password (RFC 8265, OpaqueString), so it is normalized.
"""

import re
from typing import Any
from unicodedata import ucd_3_2_0 as unicode

from ringcast.errors import IllegalValue
from ringcast.market.types import SESSION_BYTES
from ringcast.product_store.limits import Limit, illegal, whole, words

NAME_CHARACTERS_MAX = 64
PASSWORD_CHARACTERS_MIN = 8
PASSWORD_CHARACTERS_MAX = 128
CART_LINES_MAX = 100
HISTORY_PAGE_MAX = 100

_SURROGATE = re.compile("[\ud800-\udfff]")
_CURSOR = re.compile(r"[0-9]{1,19}", re.ASCII)

name: Limit = words(NAME_CHARACTERS_MAX)
history_page: Limit = whole(1, HISTORY_PAGE_MAX)


def password(what: str, value: Any) -> None:
    """Any text; a password is never named in an error."""
    if type(value) is not str or _SURROGATE.search(value):
        raise IllegalValue(what=what, value="no text", limit="Unicode text")
    length = len(value)
    if not PASSWORD_CHARACTERS_MIN <= length <= PASSWORD_CHARACTERS_MAX:
        limit = f"{PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters"
        raise IllegalValue(what=what, value=f"{length} characters long", limit=limit)


def password_bytes(value: str) -> bytes:
    """What is hashed: the same for every way to write the same text."""
    return unicode.normalize("NFC", value).encode()


def session(what: str, value: Any) -> None:
    """The secret of a session; never named in an error."""
    if type(value) is not bytes or len(value) != SESSION_BYTES:
        raise IllegalValue(what=what, value="something else", limit=f"{SESSION_BYTES} bytes, as login made them")


def thumb(what: str, value: Any) -> None:
    """True: up; False: down."""
    if type(value) is not bool:
        illegal(what, value, "true (thumbs up) or false (thumbs down)")


def history_cursor(what: str, value: Any) -> None:
    """Where a page of purchases begins: "" or the `next` of the page before."""
    if type(value) is not str or (value and _CURSOR.fullmatch(value) is None):
        illegal(what, value, "'' or the `next` of the page before")
