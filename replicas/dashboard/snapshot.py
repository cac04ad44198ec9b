"""One look at everything: what each replica said last, as values that can be compared with the look before."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from replicas.bus.overview import lacks, verdict
from sequencer.quorum import majority

#: Said of a member before its first answer or its first failure.
NOT_ASKED = "not heard yet"
#: Said of one whose answer lacks something: it is of another version.
NOT_UNDERSTOOD = "its answer is of another version: use the dashboard of that one"


@dataclass(frozen=True, slots=True)
class Said(ABC):
    """What a replica of either kind says of itself. `error`: why it said nothing; then every other field is empty."""

    id: int
    error: str | None = None
    state: str = "no answer"
    members: tuple[int, ...] = ()
    alarms: tuple[str, ...] = ()

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Self:
        """Of a row of an overview: `replica`, and `error` or the fields."""
        member = int(row["replica"])
        if "error" in row:
            return cls(member, error=str(row["error"]))
        try:
            return cls._read(member, row)
        except (KeyError, TypeError, ValueError):
            return cls(member, error=NOT_UNDERSTOOD)

    @classmethod
    @abstractmethod
    def _read(cls, member: int, row: Mapping[str, Any]) -> Self:
        """Of a row that holds the fields. Raises KeyError, TypeError, ValueError: it is of another version."""


@dataclass(frozen=True, slots=True)
class Replica(Said):
    """A replica of the bus; its row is that of the query `status`."""

    view: tuple[int, ...] = ()
    ring: tuple[int, ...] = ()
    in_quorum: bool = False
    holds_token: bool = False
    end: int = 0
    committed: int = 0
    applied: int = 0
    next_offset: int = 0
    clients: int = 0
    suspects: tuple[int, ...] = ()
    durability: str = ""
    cluster: str = ""
    cluster_name: str = ""

    @classmethod
    def _read(cls, member: int, row: Mapping[str, Any]) -> Self:
        return cls(
            member,
            state=str(row["state"]),
            view=tuple(row["view"]),
            ring=tuple(row["ring"]),
            members=tuple(row["members"]),
            in_quorum=bool(row["in_quorum"]),
            holds_token=row.get("token_holder") == member,
            end=int(row["end"]),
            committed=int(row["committed"]),
            applied=int(row["applied"]),
            next_offset=int(row["next_offset"]),
            clients=int(row.get("clients", 0)),
            suspects=tuple(row.get("suspects", ())),
            alarms=_alarms(row),
            durability=str(row.get("durability", "")),
            cluster=str(row.get("cluster", "")),
            cluster_name=str(row.get("cluster_name", "")),
        )


def _alarms(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What does not mend itself, or is not to be overlooked."""
    told = {
        "disk_full": "its disk is full",
        "damaged": "damaged records are being repaired",
        "wiped": "its disk was wiped: no vote until it is readmitted",
        "possible_loss": "an operator accepted that messages may be lost",
    }
    found = [text for key, text in told.items() if row.get(key)]
    if row.get("links") and not row.get("in_ring"):
        found.append(f"outside the ring: {row['links']}")
    found += [text for text in (lacks(row), row.get("advice")) if text]
    return tuple(map(str, found))


@dataclass(frozen=True, slots=True)
class ProductReplica(Said):
    """A replica of the product store, as replicas/products/overview.py asks it. `leader`: as far as it knows."""

    role: str = ""
    term: int = 0
    leader: int | None = None
    commit: int = 0
    lag: int = 0
    items: int = 0

    @classmethod
    def _read(cls, member: int, row: Mapping[str, Any]) -> Self:
        return cls(
            member,
            state=str(row["state"]),
            role=str(row["role"]),
            term=int(row["term"]),
            leader=row["leader"],
            commit=int(row["commit"]),
            lag=int(row["lag"]),
            items=int(row.get("items", 0)),
            members=tuple(sorted(int(one["member"]) for one in row["members"])),
            alarms=("its disk is full",) if row.get("disk_full") else (),
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`replicas` by id. `products`: None where the cluster has no product store; empty while none of it answers.

    `installed`: whoever said the newest view so far; in the middle of a view change nobody has a ring.
    """

    replicas: tuple[Replica, ...]
    products: tuple[ProductReplica, ...] | None = None
    installed: Replica | None = None

    def after(self, before: "Snapshot | None") -> "Snapshot":
        """The same look, which remembers what was installed before it."""
        last, now = before.installed if before is not None else None, self.leading
        newer = now is not None and (last is None or now.view > last.view)
        return replace(self, installed=now if newer else last)

    @property
    def heard(self) -> Sequence[Replica]:
        """Those that answer."""
        return [one for one in self.replicas if one.error is None]

    @property
    def leading(self) -> Replica | None:
        """Whose view is the newest one that has a ring."""
        return max((one for one in self.heard if one.ring), key=lambda one: (one.view, one.committed), default=None)

    @property
    def members(self) -> tuple[int, ...]:
        """Of the present configuration, as the one that knows most says."""
        newest = max(self.heard, key=lambda one: (one.view, one.committed), default=None)
        return newest.members if newest is not None else tuple(one.id for one in self.replicas)

    @property
    def quorum(self) -> int:
        """How many have to serve."""
        return majority(self.members)

    @property
    def serving(self) -> int:
        """How many can acknowledge now."""
        return sum(one.in_quorum for one in self.heard)

    @property
    def health(self) -> str:
        """Healthy, degraded, down."""
        return verdict(self.serving, self.members)

    @property
    def committed(self) -> int:
        """Slots that somebody knows to be committed."""
        return max((one.committed for one in self.heard), default=0)

    @property
    def next_offset(self) -> int | None:
        """Messages ever, as far as anybody has applied; None while nobody answers."""
        return max((one.next_offset for one in self.heard), default=None)

    def lag(self, replica: Replica) -> int:
        """Slots that are committed somewhere and that it has not applied."""
        return max(0, self.committed - replica.applied)

    @property
    def products_leader(self) -> ProductReplica | None:
        """Who leads the product store and answers, in the newest term."""
        leaders = [one for one in self.products or () if one.error is None and one.role == "leader"]
        return max(leaders, key=lambda one: one.term, default=None)
