"""Every overlay, rendered by kubectl, is valid; and what its pods are given starts replicas that find each other.

No API server runs here. A container stands for each pod: its arguments, its environment as the kubelet would make it
(ConfigMaps, fields, $(NAME)), its DNS names, its volume, and what its security context forbids.
"""

import asyncio
import json
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import kubernetes_validate
import pytest

from tests.deploy.engine import (
    docker,
    health,
    inspect,
    labelled,
    networks,
    operators_key,
    run,
    wait_until,
    write_cluster,
)
from tests.deploy.load import publishing
from tests.processes.agreement import same_everywhere
from tests.project.manifests import Container, Document, base, documents, of_kind, pods
from tests.project.policies import Pod, open_ports
from tests.project.test_kubernetes import VERSIONS

OVERLAYS = {"three": 3, "five": 5, "dev": 3, "prod": 5}
KUBECTL_MIN = (1, 27)
LABEL = "ringcast.test.pods"
KEYS = "/etc/ringcast/keys"

pytestmark = pytest.mark.usefixtures("engine")


def render(overlay: str) -> list[Document]:
    """What `kubectl apply --kustomize` would send."""
    assert shutil.which("kubectl"), "kubectl is missing: `make test-deploy` installs it"
    return documents(run("kubectl", "kustomize", f"k8s/overlays/{overlay}"))


def test_kubectl_is_new_enough() -> None:
    found = re.search(
        r"v(\d+)\.(\d+)", json.loads(run("kubectl", "version", "--client", "-o", "json"))["clientVersion"]["gitVersion"]
    )
    assert found is not None
    assert (int(found[1]), int(found[2])) >= KUBECTL_MIN


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_is_valid(overlay: str) -> None:
    found = render(overlay)
    for document in found:
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
    members = OVERLAYS[overlay]
    names = [pod.name for pod in pods(found)]
    assert [name for name in names if name.startswith("bus-")] == [f"bus-{member}" for member in range(1, members + 1)]
    for pod in pods(found):
        if pod.arguments[1] in {"bus", "products"}:
            assert pod.environment["RINGCAST_PEERS"].startswith(f"1..{members}={pod.arguments[1]}-{{id}}."), pod.name


def test_python_renders_the_base_as_kubectl_does() -> None:
    """tests/project checks what Python makes of the base: it has to be the same."""
    ours = {pod.name: pod for pod in pods(base())}
    theirs = {pod.name: pod for pod in pods(render("three"))}
    assert ours == theirs


NAME, COMPONENT, NAMESPACE_NAME = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
    "kubernetes.io/metadata.name",
)
CLIENT_PORTS = {"bus": {7103, 7104}, "products": {7202}, "sellers": {7401}, "buyers": {7401}}
METRICS_PORTS = {"bus": {7105}, "products": {7203}, "sellers": {7402}, "buyers": {7402}}
PEER_PORTS = {"bus": {7101, 7102}, "products": {7201}}
SHOP = {NAME: "shop", "ringcast/client": "true"}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("role", CLIENT_PORTS)
def test_network_policies_let_in_who_is_documented_and_no_other(overlay: str, role: str) -> None:
    """docs/operations.md, "Kubernetes". An application's pod has another name; the client's label alone is ours."""
    found = render(overlay)
    here, elsewhere = {NAMESPACE_NAME: "ringcast"}, {NAMESPACE_NAME: "shop"}
    target = of_kind(found, "StatefulSet")[role]["spec"]["template"]["metadata"]["labels"]

    def reached(labels: Mapping[str, str], namespace: Mapping[str, str] = here) -> set[int] | None:
        return open_ports(of_kind(found, "NetworkPolicy").values(), target, here, Pod(labels, namespace))

    assert reached(SHOP) == CLIENT_PORTS[role]
    assert reached({"ringcast/client": "true"}) == CLIENT_PORTS[role]
    assert reached({}, {NAMESPACE_NAME: "monitoring"}) == METRICS_PORTS[role]
    assert reached({NAME: "ringcast", COMPONENT: role}) == PEER_PORTS.get(role, set())
    for interface in ("sellers", "buyers"):
        assert reached({NAME: "ringcast", COMPONENT: interface}) == (
            CLIENT_PORTS[role] if role in PEER_PORTS else set()
        )
        assert reached({NAME: "shop", COMPONENT: interface}) == set()
    assert reached({NAME: "shop", COMPONENT: role}) == set()
    assert reached({NAME: "shop"}) == set()
    assert reached(SHOP, elsewhere) == set()


class Pods:
    """Containers that stand for the pods of an overlay, in a network of their own."""

    def __init__(self, image: str) -> None:
        self.name = f"ringcast-pods-{secrets.token_hex(4)}"
        self.image = f"ringcast:{image}"
        docker("network", "create", "--label", f"{LABEL}={self.name}", self.name)
        self.keys = f"{self.name}-keys"  # the Secret ringcast-keys
        init = ("keys", "init", "--folder", KEYS, "--replicas", "5", "--products", "5")
        docker("run", "--rm", "--label", f"{LABEL}={self.name}", f"--volume={self.keys}:{KEYS}", self.image, *init)

    def start(self, pod: Container) -> None:
        """As the kubelet: nothing that the manifest does not say."""
        environment = [f"--env={name}={value}" for name, value in pod.environment.items()]
        probe = "python3 -m replicas.probe readyz"
        mounts = [f"--volume={self.name}-{pod.name}:{pod.data}"] if pod.data else []
        mounts.append(f"--volume={self.keys}:{KEYS}:ro")
        docker(
            *("run", "--detach", "--name", f"{self.name}-{pod.name}", "--label", f"{LABEL}={self.name}"),
            *("--network", self.name, *(f"--network-alias={name}" for name in pod.names)),
            *("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=10001:10001"),
            *(f"--health-cmd={probe}", "--health-interval=3s", "--health-timeout=5s", *environment, *mounts),
            *(self.image, *pod.arguments),
        )

    def container(self, pod: str) -> str:
        return f"{self.name}-{pod}"

    def wait_ready(self, names: list[str]) -> None:
        """Until the readiness of each says yes."""

        def states() -> dict[str, str]:
            return {name: state for name in names if (state := health(self.container(name))) != "healthy"}

        wait_until(
            lambda: not states(),
            lambda: {name: docker("logs", "--tail", "5", self.container(name)) for name in states()},
        )

    def address(self, pod: str) -> str:
        ((_, address),) = networks(self.container(pod))
        return address

    def cluster_file(self, folder: Path) -> Path:
        """Clients of this test reach the pods by address: on Linux an engine's networks are the host's own."""
        ids = [one for one in labelled(f"{LABEL}={self.name}") if "-bus-" in inspect(one)["Name"]]
        names = sorted(inspect(one)["Name"].rpartition("-")[2] for one in ids)
        replicas = [
            {
                "role": "bus",
                "id": int(member),
                "client": f"tcp://{self.address(f'bus-{member}')}:7103",
                "feed": f"tcp://{self.address(f'bus-{member}')}:7104",
            }
            for member in names
        ]
        key = str(operators_key(self.container("bus-1"), folder))
        return write_cluster(folder, {"cluster": 0, "published": True, "replicas": replicas, "keys": key})

    def remove(self) -> None:
        """Everything that has the label, and the volumes."""
        for container in labelled(f"{LABEL}={self.name}"):
            docker("rm", "--force", "--volumes", container)
        for volume in docker("volume", "ls", "--quiet", "--filter", f"name={self.name}").split():
            docker("volume", "rm", volume)
        docker("network", "rm", self.name)


@pytest.fixture
def started(image: str) -> Iterator[Pods]:
    found = Pods(image)
    yield found
    found.remove()


async def test_the_rendered_pods_are_a_cluster(started: Pods, tmp_path: Path) -> None:
    """All roles of overlay three find each other by the names of the headless Services; a pod moves and is found."""
    rendered = {pod.name: pod for pod in pods(render("three"))}
    for pod in rendered.values():
        await asyncio.to_thread(started.start, pod)
    await asyncio.to_thread(started.wait_ready, list(rendered))
    async with publishing(started.cluster_file(tmp_path)) as load:
        await _moves(started, rendered)
        await load.more(50)
    cluster = started.cluster_file(tmp_path)
    await same_everywhere(cluster, 3)
    command = [sys.executable, "-P", "-m", "cli", "--cluster", str(cluster), "health", "--json"]
    assert json.loads(await asyncio.to_thread(run, *command))["health"]
    assert set(of_kind(render("three"), "StatefulSet")) == {name.partition("-")[0] for name in rendered}


async def _moves(started: Pods, rendered: Mapping[str, Container]) -> None:
    """The pod bus-2 is deleted, and comes back with its volume, its name and another address."""
    before = started.address("bus-2")
    await asyncio.to_thread(docker, "stop", "--time", "25", started.container("bus-2"))
    assert inspect(started.container("bus-2"))["State"]["ExitCode"] == 0
    await asyncio.to_thread(docker, "rm", started.container("bus-2"))
    await asyncio.to_thread(started.start, rendered["buyers-2"]._replace(name="in-the-way", names=[]))
    await asyncio.to_thread(started.start, rendered["bus-2"])
    assert started.address("bus-2") != before
    await asyncio.to_thread(started.wait_ready, ["bus-2"])
