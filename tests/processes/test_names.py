"""Members by name, and a name server that does not answer (docs/faults.md 53). Needs root and `unshare` with mounts.

Each replica has an /etc/hosts and a name server of its own. What is not in the file is asked for at an address where
nobody ever answers, as it is when a machine takes the name server along, or a container's name goes with it.
"""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicas.local.cluster import LocalCluster
from replicas.local.files import LocalReplica
from tests.processes.agreement import assert_agreement, ring_is_whole, token_holder
from tests.processes.load import Load
from tests.processes.running import running

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

NAME_SERVER = "127.0.0.9"
#: glibc asks twice, five seconds each.
WITHIN_S = 4.0
OWN_FILES = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"'


class NamedCluster(LocalCluster):
    """A local cluster whose members know each other by name."""

    def command(self, replica: LocalReplica) -> list[str]:
        """As of LocalCluster, with name files of its own; `unshare` and the shell become it."""
        files = [str(self.folder / "hosts"), str(self.folder / "resolv.conf")]
        return ["unshare", "--mount", "sh", "-c", OWN_FILES, "sh", *files, *super().command(replica)]

    def know(self, addresses: dict[int, str]) -> None:
        """Only these members' names are known from here on."""
        lines = [f"{address} bus-{member}\n" for member, address in addresses.items()]
        (self.folder / "hosts").write_text("".join(lines))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NamedCluster]:
    """Three replicas, ready."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here: run the tests as root")
    found = NamedCluster.create(tmp_path / "cluster", 3, {"check_invariants": True})
    (found.folder / "resolv.conf").write_text(f"nameserver {NAME_SERVER}\n")
    found.know(dict.fromkeys(found.replicas, "127.0.0.1"))
    for replica in found.replicas.values():
        config = Path(replica.config)
        head, peers = config.read_text().split("[peers]\n")
        for member in found.replicas:
            peers = peers.replace(f'{member} = "127.0.0.1:', f'{member} = "bus-{member}:')
        config.write_text(f"{head}[peers]\n{peers}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((NAME_SERVER, 53))
        with running(found):
            yield found


async def test_a_name_that_nobody_answers_for_holds_nobody_up(cluster: NamedCluster) -> None:
    """libzmq would look it up in the one thread that serves all connections: two were lost with the one."""
    load = Load(cluster.path, clients=2)
    await load.start()
    await load.more(100)
    victim = await token_holder(cluster.path)
    cluster.know(dict.fromkeys(cluster.replicas.keys() - {victim}, "127.0.0.1"))
    cluster.kill(victim)
    began_s = time.monotonic()
    await load.more(200)  # few: what is timed is that it goes on, not how fast
    assert time.monotonic() - began_s < WITHIN_S
    cluster.know(dict.fromkeys(cluster.replicas, "127.0.0.1"))
    cluster.start([victim])
    cluster.wait_ready()
    await ring_is_whole(cluster)
    await load.more(100)
    await load.stop()
    await assert_agreement(cluster, load)
