"""What replicas say, for the tests here."""

from typing import Any

from replicas.dashboard.snapshot import ProductReplica, Replica, Snapshot


def row(member: int, **changed: Any) -> dict[str, Any]:
    """Of the query `status`, of a member of three that serves."""
    plain = {
        "replica": member,
        "state": "serving",
        "view": (3, 1),
        "ring": (1, 2, 3),
        "members": (1, 2, 3),
        "in_quorum": True,
        "token_holder": None,
        "end": 10,
        "committed": 10,
        "applied": 10,
        "next_offset": 100,
        "cluster": "00ff",
        "durability": "majority",
    }
    return {**plain, **changed}


def gone(member: int) -> dict[str, Any]:
    """Of one that does not answer."""
    return {"replica": member, "error": "no answer within 1 s: is its process running?"}


def product(member: int, **changed: Any) -> dict[str, Any]:
    """Of a product replica; 1 leads."""
    plain = {
        "replica": member,
        "state": "serving",
        "role": "leader" if member == 1 else "follower",
        "term": 2,
        "leader": 1,
        "commit": 5,
        "lag": 0,
        "items": 3,
        "members": [{"member": one} for one in (1, 2, 3)],
    }
    return {**plain, **changed}


def snapshot(*rows: dict[str, Any], products: list[dict[str, Any]] | None = None) -> Snapshot:
    """A look at three that serve, but for `rows`."""
    found = {**{member: row(member) for member in (1, 2, 3)}, **{int(one["replica"]): one for one in rows}}
    group = None if products is None else tuple(map(ProductReplica.read, products))
    return Snapshot(tuple(Replica.read(found[member]) for member in sorted(found)), group)
