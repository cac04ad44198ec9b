"""Where the replicas are: a list of endpoints, one endpoint, or the path of a `cluster.json`."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from ringcast.errors import Refused
from ringcast.keys import PLAIN, Credentials, find_credentials
from ringcast.wire import ANY_CLUSTER

#: What `connect` takes.
Cluster: TypeAlias = str | os.PathLike[str] | Iterable[str]
Keys: TypeAlias = str | os.PathLike[str] | None

_SCHEMES = ("tcp://", "ipc://", "inproc://")


class Endpoints(NamedTuple):
    """The cluster's id (0 = learn it from the first replica), the client endpoints of one role's replicas, our keys."""

    cluster: int
    addresses: tuple[str, ...]
    credentials: Credentials = PLAIN
    #: Member -> its client and its feed endpoint as they are reached from here, whatever it says of itself: a
    #: cluster.json with `"published": true` is for clients beyond published ports or an address translation.
    published: Mapping[int, tuple[str, str]] = MappingProxyType({})

    def client_of(self, member: int, told: str) -> str:
        """Where a member's clients go, if it tells of this address."""
        return self.published[member][0] if member in self.published else told

    def feed_of(self, member: int, told: str) -> str:
        """Where a member's subscribers go, if it tells of this address."""
        return self.published[member][1] if member in self.published else told


def find(cluster: Cluster, role: str = "bus", keys: Keys = None) -> Endpoints:
    """Read a `cluster` argument; of a file, the replicas of one role. `keys`: see `ringcast.keys`.

    Raises Refused: the place, what to correct; KeysUnusable.
    """
    if isinstance(cluster, str | os.PathLike):
        path = file_of(cluster)
        if path is not None:
            return _from_file(path, role, keys)
        cluster = os.fspath(cluster).split(",")
    addresses = tuple(cluster)
    for address in addresses:
        if not address.startswith(_SCHEMES):
            raise Refused(reason=f"{address!r} is no endpoint, write it as tcp://host:port")
    if not addresses:
        raise Refused(reason="the list of endpoints is empty, name at least one replica as tcp://host:port")
    return Endpoints(ANY_CLUSTER, addresses, find_credentials(keys, ""))


def file_of(cluster: "str | os.PathLike[str]") -> Path | None:
    """The cluster.json that is named, by itself or by its folder; None: endpoints are."""
    if isinstance(cluster, str) and cluster.startswith(_SCHEMES):
        return None
    path = Path(cluster)
    return path / "cluster.json" if path.is_dir() else path


def _from_file(path: Path, role: str, keys: Keys) -> Endpoints:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(reason=f"cannot read {path}: {error.strerror}; name a cluster.json or endpoints") from error
    except ValueError as error:
        raise Refused(reason=f"{path} is not JSON: {error}; `up` writes this file") from error
    try:
        named = [replica for replica in document["replicas"] if replica.get("role", "bus") == role]
        reached = {int(one["id"]): (str(one["client"]), str(one.get("feed", ""))) for one in named}
        # A spare one is a member only where the cluster says so: nobody begins there.
        begin = sorted(int(one["id"]) for one in named if not one.get("spare", False))
        addresses = tuple(reached[member][0] for member in begin)
        published = reached if document.get("published", False) else {}
        cluster = _cluster_id(document.get(f"{role}_cluster", document["cluster"]))
        beside = str(document.get("keys", ""))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(reason=f"{path} lacks or garbles {error}; `up` writes this file") from error
    if not addresses:
        raise Refused(reason=f"{path} names no {role} replica; `up` writes this file")
    return Endpoints(cluster, addresses, find_credentials(keys, beside), published)


def _cluster_id(value: Any) -> int:
    """An id is a u64, in JSON also as hex text (a JavaScript number cannot hold it)."""
    number = int(value, 16) if isinstance(value, str) else int(value)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"cluster id {value!r}, not within 64 bits")
    return number
