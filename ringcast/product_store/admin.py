"""What an operator tells a replica of the product store. They travel as questions do, one in a frame, in ASK and FOUND.

Each may be sent again: what is done already is an answer, not an error. So they follow the leader as questions do.
"""

import re
from typing import Any, NamedTuple, TypeAlias

from ringcast.product_store.limits import Limit, illegal, whole

MEMBER_ID_MAX = 63
ADDRESS_CHARACTERS_MAX = 256
SNAPSHOT_CHUNKS_MAX = 1 << 31

_SNAPSHOT = re.compile(r"[0-9]{20}-[0-9a-f]{8}", re.ASCII)


class Transfer(NamedTuple):
    """Member `leader` hands the leadership over to `target` (0: to the voter that has most of the log).

    -> the id of whom it was handed to, or who leads instead of `leader` by now. Refused.
    """

    leader: int
    target: int


class AddMember(NamedTuple):
    """Let a member in that runs at this address: as a learner, until it has caught up. -> None, when it votes.

    ChangeRefused.
    """

    member: int
    address: str


class RemoveMember(NamedTuple):
    """-> None, when the members without it are committed; the leader hands over first. ChangeRefused."""

    member: int


class MakeSnapshot(NamedTuple):
    """Write a snapshot of what is applied here. -> a map: cluster, replica, name, index, term, chunks, bytes."""


class ReadChunk(NamedTuple):
    """A chunk of a snapshot of the replica that answers. -> bytes, which check themselves. UnknownQuery: it is gone."""

    name: str
    number: int


Instruction: TypeAlias = Transfer | AddMember | RemoveMember | MakeSnapshot | ReadChunk


def _address(what: str, value: Any) -> None:
    if type(value) is not str or not 1 <= len(value) <= ADDRESS_CHARACTERS_MAX or not value.isascii():
        illegal(what, value, f"'host:peer port[:client port]' of at most {ADDRESS_CHARACTERS_MAX} ASCII characters")


def _snapshot(what: str, value: Any) -> None:
    if type(value) is not str or _SNAPSHOT.fullmatch(value) is None:
        illegal(what, value, "the name of a snapshot, as MakeSnapshot answers it")


_MEMBER = whole(1, MEMBER_ID_MAX)
#: Kind on the wire -> (class, the limit of each field), for product_store/operations.py.
INSTRUCTIONS: dict[int, tuple[type[Instruction], tuple[Limit, ...]]] = {
    64: (Transfer, (_MEMBER, whole(0, MEMBER_ID_MAX))),
    65: (AddMember, (_MEMBER, _address)),
    66: (RemoveMember, (_MEMBER,)),
    67: (MakeSnapshot, ()),
    68: (ReadChunk, (_snapshot, whole(0, SNAPSHOT_CHUNKS_MAX))),
}
