"""Seeded faults of values and of manifests, each with the checks that have to see it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.render import documents, examples, render
from tests.deploy import laws, manifests
from tests.deploy.manifests import Document, clusters

HELM, CORE, RAY, LAWS = "helm", "kubernetes-validate", "ray.io", "laws"


@dataclass(frozen=True)
class Mutation:
    """One fault: what is changed (values before, or manifests after rendering), and which checks must see it."""

    name: str
    example: str
    seen_by: frozenset[str]
    values: Callable[[dict[str, Any]], object] | None = None
    manifests: Callable[[dict[str, Document]], object] | None = None
    release: str = "raytile"


def caught(mutation: Mutation, folder: Path | None) -> dict[str, list[str]]:
    """What each check says of the mutation, where it says anything. Without a `folder` the ray.io kinds go unjudged."""
    from helm_python.errors import HelmError

    values = copy.deepcopy(examples()[mutation.example])
    if mutation.values:
        mutation.values(values)
    try:
        made = documents(render(values, name=mutation.release))
    except HelmError as error:
        return {HELM: [" ".join(str(error).split())]}
    if mutation.manifests:
        named = {f"{document['kind']}/{document['metadata']['name']}": document for document in made}
        mutation.manifests({document["kind"]: document for document in made} | named)
    said = {CORE: manifests.core_problems(made), LAWS: laws.problems(made)}
    if folder is not None:
        said[RAY] = manifests.ray_problems(made, folder)
    return {check: problems for check, problems in said.items() if problems}


def _cluster(made: dict[str, Document]) -> Document:
    return clusters(list(made.values()))[0][1]


def _head(made: dict[str, Document]) -> Document:
    return dict(_cluster(made)["headGroupSpec"])


def _group(made: dict[str, Document]) -> Document:
    found: Document = _cluster(made)["workerGroupSpecs"][0]
    return found


def _pod(made: dict[str, Document]) -> Document:
    found: Document = _group(made)["template"]["spec"]
    return found


def _box(made: dict[str, Document]) -> Document:
    found: Document = _pod(made)["containers"][0]
    return found


def _serve(made: dict[str, Document], old: str, new: str) -> None:
    spec = made["RayService"]["spec"]
    assert old in spec["serveConfigV2"]
    spec["serveConfigV2"] = spec["serveConfigV2"].replace(old, new)


def _moved(where: Document, old: str, new: str) -> None:
    where[new] = where.pop(old)


def _v(name: str, example: str, change: Callable[[dict[str, Any]], object], release: str = "raytile") -> Mutation:
    return Mutation(name, example, frozenset({HELM}), values=change, release=release)


def _m(name: str, example: str, change: Callable[[dict[str, Document]], object], *seen_by: str) -> Mutation:
    return Mutation(name, example, frozenset(seen_by), manifests=change)


GPU, SPOT = "one-gpu", "spot-64"
HOST: Document = {"name": "host", "hostPath": {"path": "/"}}
OPEN_SECRET = {"name": "AWS_SECRET_ACCESS_KEY", "value": "in the open"}

MUTATIONS = (
    # Values: Helm itself refuses them, by the schema or by a check of the chart.
    _v("unknown value", GPU, lambda v: v.update(modee="service")),
    _v("misspelt value of a group", GPU, lambda v: v["workers"]["gpu"].update(maxReplica=3)),
    _v("misspelt setting of the service", GPU, lambda v: v["service"]["settings"].update(max_pixel=1)),
    _v("setting of the wrong type", GPU, lambda v: v["service"]["settings"].update(max_pixels="many")),
    _v("wrong mode", GPU, lambda v: v.update(mode="daemon")),
    _v("negative replicas", GPU, lambda v: v["workers"]["gpu"].update(minReplicas=-1)),
    _v("more at least than at most", GPU, lambda v: v["workers"]["gpu"].update(minReplicas=3)),
    _v("no group", GPU, lambda v: v.pop("workers")),
    _v("no store", GPU, lambda v: v["service"]["settings"].pop("store")),
    _v("a store that pods do not share", GPU, lambda v: v["service"]["settings"].update(store="/tmp/store")),
    _v("a floating tag", GPU, lambda v: v.update(image={"tag": "latest"})),
    _v("a service without keys", GPU, lambda v: v["service"]["settings"].update(keys="off")),
    _v("a raw secret in values", GPU, lambda v: v.update(env=[OPEN_SECRET])),
    _v("drain of the wrong type", GPU, lambda v: v.update(drain={"seconds": "long"})),
    _v("a name too long", GPU, lambda v: v.update(name=""), release="r" * 48),
    _v("a render that cannot be repeated", "render", lambda v: v["job"]["command"].remove("--resume")),
    _v("a job without a command", "batch", lambda v: v["job"].pop("command")),
    _v("unknown submission", "batch", lambda v: v["job"].update(submissionMode="Carrier pigeon")),
    # The ray.io kinds: KubeRay's schemas and rules.
    _m("misspelt field of a group", GPU, lambda m: _moved(_group(m), "idleTimeoutSeconds", "idleTimeout"), RAY, LAWS),
    _m("misspelt field of a service", GPU, lambda m: m["RayService"]["spec"].update(serveConfig="x"), RAY),
    _m("wrong type of a field", GPU, lambda m: _group(m).update(maxReplicas="many"), RAY, LAWS),
    _m("wrong autoscaler", GPU, lambda m: _cluster(m)["autoscalerOptions"].update(version="v3"), RAY, LAWS),
    _m("no name of a group", GPU, lambda m: _group(m).update(groupName=None), RAY),
    _m("no head", "cluster", lambda m: m["RayCluster"]["spec"].update(headGroupSpec=None), RAY, LAWS),
    _m("a rule: managed by nobody", "render", lambda m: m["RayJob"]["spec"].update(managedBy="nobody"), RAY),
    _m(
        "a rule: two ways of deletion",
        "render",
        lambda m: m["RayJob"]["spec"].update(
            deletionStrategy={
                "onSuccess": {"policy": "DeleteCluster"},
                "onFailure": {"policy": "DeleteCluster"},
                "deletionRules": [{"policy": "DeleteCluster", "condition": {"jobStatus": "FAILED", "ttlSeconds": 1}}],
            }
        ),
        RAY,
    ),
    # Pod templates and core kinds: Kubernetes' schemas.
    _m("misspelt field of a container", GPU, lambda m: _moved(_box(m), "volumeMounts", "volumeMount"), RAY, CORE, LAWS),
    _m("no name of a container", GPU, lambda m: _box(m).pop("name"), RAY, CORE),
    _m("a policy of the wrong type", GPU, lambda m: m["NetworkPolicy"]["spec"].update(policyTypes="Egress"), CORE),
    _m("an Ingress without a path type", SPOT, lambda m: _paths(m)[0].pop("pathType"), CORE),
    # What schemas do not know.
    _m("a container as root", GPU, lambda m: _box(m)["securityContext"].update(runAsNonRoot=False), LAWS),
    _m("a writable root", GPU, lambda m: _box(m)["securityContext"].update(readOnlyRootFilesystem=False), LAWS),
    _m("a group without resources", GPU, lambda m: _box(m).pop("resources"), LAWS),
    _m("a raw secret", GPU, lambda m: _box(m)["env"].append(OPEN_SECRET), LAWS),
    _m("a variable twice", GPU, lambda m: _box(m)["env"].append(dict(_box(m)["env"][0])), LAWS),
    _m("killed in its drain", GPU, lambda m: _pod(m).update(terminationGracePeriodSeconds=90), LAWS),
    _m("a command that is not known", GPU, lambda m: _drain(m).append("--soon"), LAWS),
    _m("a directory of the host", GPU, lambda m: _pod(m)["volumes"].append(HOST), LAWS),
    _m("a head that works", GPU, lambda m: _head(m)["rayStartParams"].pop("num-cpus"), LAWS),
    _m("pods outside the policy", GPU, lambda m: _labels(m).pop("app.kubernetes.io/part-of"), LAWS),
    _m("no names", GPU, lambda m: _egress(m, "inside").pop(1), LAWS),
    _m("pods that do not reach each other", GPU, lambda m: _egress(m, "inside").pop(0), LAWS),
    _m("no way to Kubernetes", GPU, lambda m: _egress(m, "head").pop(0), LAWS),
    _m("an object store beyond /dev/shm", GPU, lambda m: _store(m).update({"object-store-memory": "9" * 12}), LAWS),
    # The configuration of Serve: Ray's models take these.
    _m("misspelt option of Serve", GPU, lambda m: _serve(m, "request_timeout_s", "request_timeout"), LAWS),
    _m("misspelt name in Serve", GPU, lambda m: _serve(m, "import_path", "importpath"), LAWS),
    _m("misspelt setting in Serve", GPU, lambda m: _serve(m, "max_workers", "max_worker"), LAWS),
)  # fmt: skip


def _paths(made: dict[str, Document]) -> list[Document]:
    return list(made["Ingress"]["spec"]["rules"][0]["http"]["paths"])


def _egress(made: dict[str, Document], policy: str) -> list[Document]:
    found: list[Document] = made[f"NetworkPolicy/raytile-{policy}"]["spec"]["egress"]
    return found


def _drain(made: dict[str, Document]) -> list[str]:
    found: list[str] = _box(made)["lifecycle"]["preStop"]["exec"]["command"]
    return found


def _labels(made: dict[str, Document]) -> dict[str, str]:
    found: dict[str, str] = _group(made)["template"]["metadata"]["labels"]
    return found


def _store(made: dict[str, Document]) -> dict[str, str]:
    found: dict[str, str] = _group(made)["rayStartParams"]
    return found
