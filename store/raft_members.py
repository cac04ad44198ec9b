"""A configuration as the bytes of a log entry."""

from typing import Any

from ringcast.errors import BadFrame
from ringcast.product_store.admin import ADDRESS_CHARACTERS_MAX, MEMBER_ID_MAX
from ringcast.strict import U64_MAX, array, bad, dumps, flag, integer, loads, many, text
from store.raft_contract import Member, Members

MEMBERS_MAX = 15
MEMBERS_BYTES_MAX = MEMBERS_MAX * (ADDRESS_CHARACTERS_MAX * 4 + 64)

member_id = integer(1, MEMBER_ID_MAX)
_check = many(array(member_id, integer(0, U64_MAX), flag, text(ADDRESS_CHARACTERS_MAX)), MEMBERS_MAX)


def encode_members(members: Members) -> bytes:
    """The data of a MEMBERS entry."""
    return dumps(tuple(tuple(member) for member in members))


def decode_members(data: bytes) -> Members:
    """Raises BadFrame."""
    return read_members(loads(data, MEMBERS_BYTES_MAX))


def read_members(fields: Any) -> Members:
    """The configuration of decoded fields. Raises BadFrame."""
    _check("members", fields)
    members = Members(Member(*one) for one in fields)
    ids = [member.id for member in members]
    if ids != sorted(set(ids)):
        bad("members", ids, "each id once, in order")
    return members


def is_members(data: bytes) -> bool:
    """Whether the bytes say a configuration."""
    try:
        decode_members(data)
    except BadFrame:
        return False
    return True
