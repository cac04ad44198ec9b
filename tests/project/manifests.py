"""docker-compose.yml and k8s/base as the tools that run them read them: what each container or pod is given.

Kustomize itself is a program (`make test-deploy` has it); what its base does here is so little that Python can do it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from tests.project.sources import ROOT

Document = dict[str, Any]

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(:?-(?P<default>[^}]*))?\}")
_REFERENCE = re.compile(r"\$\((\w+)\)")


class Container(NamedTuple):
    """What starts a replica. `names`: those that others reach it by. `ports`: of the container, by name or in order."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    names: list[str]
    data: str | None


# ---------------------------------------------------------------- compose


def compose(**variables: str) -> Document:
    """docker-compose.yml with these variables, and no others, in the environment."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    found: Document = yaml.safe_load(_VARIABLE.sub(lambda one: variables.get(one["name"], one["default"] or ""), text))
    return found


def services(document: Document, profiles: Sequence[str] = ()) -> dict[str, Document]:
    """Those that these profiles start, by name, and that are replicas."""
    return {
        name: service
        for name, service in document["services"].items()
        if service.get("command", [""])[0] == "serve" and set(service.get("profiles", profiles)) <= set(profiles)
    }


# ---------------------------------------------------------------- Kubernetes


def documents(text: str) -> list[Document]:
    """Of a YAML stream."""
    return [one for one in yaml.safe_load_all(text) if one]


def base() -> list[Document]:
    """k8s/base rendered: its resources, the patch of every StatefulSet, and the ConfigMaps."""
    folder = ROOT / "k8s/base"
    (kustomization,) = documents((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    (patch,) = documents((folder / "pods.yaml").read_text(encoding="utf-8"))
    found: list[Document] = []
    for name in kustomization["resources"]:
        for document in documents((folder / name).read_text(encoding="utf-8")):
            own = {"name": document["metadata"]["name"]}
            patched = document["kind"] == "StatefulSet"
            found.append(_merged(document, {**patch, "metadata": own}) if patched else document)
    for generator in kustomization["configMapGenerator"]:
        data = dict(literal.split("=", 1) for literal in generator["literals"])
        metadata = {"name": generator["name"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    for document in found:
        if document["kind"] != "Namespace":
            document["metadata"].setdefault("namespace", kustomization["namespace"])
    return found


def _merged(one: Any, patch: Any) -> Any:
    """A strategic merge, as far as pods.yaml needs it: lists of named things are merged by name, the patch's first."""
    if isinstance(one, dict) and isinstance(patch, dict):
        return {**one, **{key: _merged(one[key], value) if key in one else value for key, value in patch.items()}}
    if isinstance(one, list) and isinstance(patch, list):
        names = {row["name"]: row for row in one}
        rest = [row for row in one if row["name"] not in {row["name"] for row in patch}]
        return [_merged(names[row["name"]], row) if row["name"] in names else row for row in patch] + rest
    return patch


def of_kind(found: Sequence[Document], kind: str) -> dict[str, Document]:
    """Documents of a kind, by name."""
    return {one["metadata"]["name"]: one for one in found if one["kind"] == kind}


def pods(found: Sequence[Document], only: str | None = None) -> Iterator[Container]:
    """The pods of all StatefulSets, or of one, as the kubelet would start them."""
    for name, stateful_set in of_kind(found, "StatefulSet").items():
        spec = stateful_set["spec"]
        first = spec["ordinals"]["start"]
        for ordinal in range(first, first + spec["replicas"]):
            if only in {None, name}:
                yield _pod(found, stateful_set, ordinal)


def _pod(found: Sequence[Document], stateful_set: Document, ordinal: int) -> Container:
    metadata, spec = stateful_set["metadata"], stateful_set["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    name, namespace = f"{metadata['name']}-{ordinal}", metadata["namespace"]
    fields = {
        "metadata.labels['apps.kubernetes.io/pod-index']": str(ordinal),
        "metadata.name": name,
        "metadata.namespace": namespace,
    }
    maps = {one: document["data"] for one, document in of_kind(found, "ConfigMap").items()}
    own: dict[str, str] = {}  # $(NAME) reaches what stands before it in `env`, and nothing of `envFrom`
    for variable in container["env"]:
        own[variable["name"]] = _REFERENCE.sub(lambda one: own[one[1]], _value(variable, fields, maps))
    whole: dict[str, str] = {}
    for source in container["envFrom"]:
        whole |= maps[source["configMapRef"]["name"]]
    service = of_kind(found, "Service")[spec["serviceName"]]["metadata"]["name"]
    names = [f"{name}.{service}", f"{name}.{service}.{namespace}.svc"]
    claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    mounts = [mount["mountPath"] for mount in container.get("volumeMounts", []) if mount["name"] in claims]
    return Container(name, container["args"], whole | own, names, mounts[0] if mounts else None)


def _value(variable: Document, fields: Mapping[str, str], maps: Mapping[str, Mapping[str, str]]) -> str:
    if "value" in variable:
        return str(variable["value"])
    source = variable["valueFrom"]
    if "fieldRef" in source:
        return fields[source["fieldRef"]["fieldPath"]]
    return maps[source["configMapKeyRef"]["name"]][source["configMapKeyRef"]["key"]]
