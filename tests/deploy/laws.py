"""Laws of rendered manifests, which no schema knows. Each says what breaks it, one line each."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from typer.core import TyperGroup

from tests.deploy import serving
from tests.deploy.manifests import Document, Pod, clusters, pods

Law = Callable[[Sequence[Document]], Iterator[str]]


def containers_are_restricted(documents: Sequence[Document]) -> Iterator[str]:
    """Pod Security "restricted" for every container, the autoscaler's too, and a root that nobody writes."""
    held = [(pod.path, one.get("securityContext", {})) for pod in pods(documents) for one in _containers(pod)]
    held += [
        (f"{kind} autoscaler", cluster.get("autoscalerOptions", {}).get("securityContext", {}))
        for kind, cluster in clusters(documents)
    ]
    for path, context in held:
        wanted = {
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for name, value in wanted.items():
            if context.get(name) != value:
                yield f"{path}: securityContext.{name} is not {value}"
        if context.get("privileged") or context.get("runAsUser") == 0:
            yield f"{path}: privileged, or root"


def pods_are_restricted(documents: Sequence[Document]) -> Iterator[str]:
    """Nothing of the host, only volumes that "restricted" allows, and no token of Kubernetes by itself."""
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for pod in pods(documents):
        spec = pod.spec
        if spec.get("securityContext", {}).get("runAsNonRoot") is not True or "fsGroup" not in spec["securityContext"]:
            yield f"{pod.path}: the pod may run as root, or has no fsGroup"
        if any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{pod.path}: takes part in its host"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.path}: every container gets the token of Kubernetes"
        if spec.get("enableServiceLinks") is not False:
            yield f"{pod.path}: a Service named raytile would set RAYTILE_PORT"
        if spec.get("restartPolicy") != "Never":
            yield f"{pod.path}: restartPolicy is not Never, as autoscaler v2 needs it"
        for volume in spec.get("volumes", []):
            if kinds := set(volume) - {"name"} - allowed:
                yield f"{pod.path}: volume {volume['name']} is a {kinds.pop()}"


def mounts_have_volumes(documents: Sequence[Document]) -> Iterator[str]:
    """Every mount names a volume, and every volume is mounted somewhere."""
    beside = [
        {"volumeMounts": cluster.get("autoscalerOptions", {}).get("volumeMounts", [])}
        for _, cluster in clusters(documents)
    ]
    for pod in pods(documents):
        users = [*_containers(pod), *(beside if pod.path.endswith("head") else [])]
        mounted = {mount["name"] for one in users for mount in one.get("volumeMounts", [])}
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
        if mounted != volumes:
            yield f"{pod.path}: volumes {sorted(volumes)}, mounted {sorted(mounted)}"


def resources_are_set(documents: Sequence[Document]) -> Iterator[str]:
    """Processors and memory, requested and limited, by every container."""
    held = [(pod.path, one.get("resources", {})) for pod in pods(documents) for one in _containers(pod)]
    held += [
        (f"{kind} autoscaler", cluster.get("autoscalerOptions", {}).get("resources", {}))
        for kind, cluster in clusters(documents)
    ]
    for path, resources in held:
        for kind in ("limits", "requests"):
            if missing := {"cpu", "memory"} - set(resources.get(kind, {})):
                yield f"{path}: no {kind} for {', '.join(sorted(missing))}"


def images_are_pinned(documents: Sequence[Document]) -> Iterator[str]:
    for pod in pods(documents):
        for one in _containers(pod):
            tag = one["image"].rpartition("/")[2].partition(":")[2]
            if tag in ("", "latest"):
                yield f"{pod.path}: image {one['image']} is not pinned"


def environment_is_clean(documents: Sequence[Document]) -> Iterator[str]:
    """No variable twice, no secret in the open."""
    for pod in pods(documents):
        for one in _containers(pod):
            said = one.get("env", [])
            for name, times in Counter(variable["name"] for variable in said).items():
                if times > 1:
                    yield f"{pod.path}: {name} stands there {times} times"
            for variable in said:
                words = ("SECRET", "PASSWORD", "TOKEN", "ACCESS_KEY", "API_KEY")
                if "value" in variable and any(word in variable["name"].upper() for word in words):
                    yield f"{pod.path}: {variable['name']} stands in the open"


def network_is_closed(documents: Sequence[Document]) -> Iterator[str]:
    """A policy without any rule selects every pod, for both ways; no policy lets the whole world in."""
    policies = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    closed = [
        policy["podSelector"].get("matchLabels", {})
        for policy in policies
        if sorted(policy.get("policyTypes", [])) == ["Egress", "Ingress"]
        and not policy.get("ingress")
        and not policy.get("egress")
    ]
    for pod in pods(documents):
        if not any(labels.items() <= pod.labels.items() for labels in closed):
            yield f"{pod.path}: no network policy denies by default"
    for policy in policies:
        if any(not rule.get("from") for rule in policy.get("ingress", [])):
            yield "a network policy lets everybody in"


def network_reaches(documents: Sequence[Document]) -> Iterator[str]:
    """Where policies close the network, every pod still reaches its own kind, names and the store, and the head
    Kubernetes' API."""
    policies = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    for pod in pods(documents) if policies else ():
        mine = [one for one in policies if one["podSelector"].get("matchLabels", {}).items() <= pod.labels.items()]
        rules = [rule for one in mine for rule in one.get("egress", [])]
        peers = [peer for rule in rules if "ports" not in rule for peer in rule["to"]]
        if not any(peer.get("podSelector", {}).get("matchLabels", {}).items() <= pod.labels.items() for peer in peers):
            yield f"{pod.path}: does not reach its own kind"
        ports = {(port.get("protocol", "TCP"), port["port"]) for rule in rules for port in rule.get("ports", [])}
        wanted = {"names": ("UDP", 53), "the store": ("TCP", 443)}
        if pod.labels.get("app.kubernetes.io/component") == "head":
            wanted["Kubernetes"] = ("TCP", 6443)
        yield from (f"{pod.path}: does not reach {what}" for what, port in wanted.items() if port not in ports)


def clusters_grow_and_shrink(documents: Sequence[Document]) -> Iterator[str]:
    """Autoscaler v2, a head without work, groups that go when idle, and nobody else who scales."""
    for kind, cluster in clusters(documents):
        options = cluster.get("autoscalerOptions", {})
        if cluster.get("enableInTreeAutoscaling") is not True or options.get("version") != "v2":
            yield f"{kind}: no autoscaler v2"
        if cluster.get("authOptions", {}).get("mode") != "token":
            yield f"{kind}: Ray asks nobody for a token"
        if cluster["headGroupSpec"].get("rayStartParams", {}).get("num-cpus") != "0":
            yield f"{kind}: the head takes work"
        groups = cluster.get("workerGroupSpecs", [])
        if not groups:
            yield f"{kind}: no group of workers"
        for group in groups:
            name = group["groupName"]
            if "idleTimeoutSeconds" not in group:
                yield f"{kind} group {name}: no idleTimeoutSeconds"
            if not 0 <= group.get("minReplicas", 0) <= group.get("maxReplicas", 0):
                yield f"{kind} group {name}: minReplicas and maxReplicas do not fit"
    yield from ("a HorizontalPodAutoscaler" for one in documents if one["kind"] == "HorizontalPodAutoscaler")


def nodes_leave_in_time(documents: Sequence[Document]) -> Iterator[str]:
    """The drain of a worker, Ray's own after it, and some seconds, all within the grace period."""
    for pod in pods(documents):
        if pod.path == "RayJob submitter":
            continue
        said = {one["name"]: one.get("value") for one in pod.container.get("env", [])}
        rays = said.get("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S")
        if rays is None:
            yield f"{pod.path}: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S is not said"
            continue
        drain = pod.container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
        if pod.is_worker and drain[:3] != ["raytile", "drain", "--seconds"]:
            yield f"{pod.path}: no drain before it stops"
            continue
        needed = float(rays) + (float(drain[3]) if pod.is_worker else 0)
        if pod.spec.get("terminationGracePeriodSeconds", 30) <= needed:
            yield f"{pod.path}: killed before its drain of {needed:g} s is over"


def object_store_fits(documents: Sequence[Document]) -> Iterator[str]:
    """Ray's object store fits into /dev/shm, which is memory and within the pod's own."""
    for pod in pods(documents):
        if pod.path == "RayJob submitter":
            continue
        mounts = {mount["mountPath"]: mount["name"] for mount in pod.container.get("volumeMounts", [])}
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
        shm = volumes.get(mounts.get("/dev/shm", ""), {}).get("emptyDir", {})
        size, memory = shm.get("sizeLimit"), pod.container.get("resources", {}).get("limits", {}).get("memory")
        if shm.get("medium") != "Memory" or size is None:
            yield f"{pod.path}: /dev/shm is no memory of a fixed size"
        elif not int(pod.around["rayStartParams"]["object-store-memory"]) < _bytes(size) < _bytes(memory or "0Gi"):
            yield f"{pod.path}: object store, /dev/shm and memory do not fit into each other"


def names_fit(documents: Sequence[Document]) -> Iterator[str]:
    """KubeRay puts up to 16 characters more to its names; one namespace holds everything."""
    for document in documents:
        if document["apiVersion"] == "ray.io/v1" and len(document["metadata"]["name"]) > 47:
            yield f"{document['kind']}: the name is longer than 47 characters"
    if len({document["metadata"].get("namespace") for document in documents}) > 1:
        yield "more than one namespace"


def budgets_can_be_kept(documents: Sequence[Document]) -> Iterator[str]:
    """Pods of a custom kind have no scale to take shares of: a budget for them counts what stays."""
    for document in documents:
        if document["kind"] == "PodDisruptionBudget" and not isinstance(document["spec"].get("minAvailable"), int):
            yield "PodDisruptionBudget: only minAvailable, as a number, works for pods of KubeRay"


def commands_are_known(documents: Sequence[Document]) -> Iterator[str]:
    """Every command of raytile parses, and is safe to repeat."""
    said = [
        pod.container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command") for pod in pods(documents)
    ]
    jobs = [shlex.split(document["spec"]["entrypoint"]) for document in documents if document["kind"] == "RayJob"]
    for words in [*filter(None, said), *jobs]:
        yield from command_problems(words)
    for words in jobs:
        if words[:2] == ["raytile", "render"] and "--resume" not in words:
            yield "RayJob: a second try would not go on: no --resume"


def serve_config_is_known(documents: Sequence[Document]) -> Iterator[str]:
    for document in documents:
        if document["kind"] == "RayService":
            yield from serving.problems(document["spec"].get("serveConfigV2", ""))


LAWS: tuple[Law, ...] = (
    containers_are_restricted,
    pods_are_restricted,
    mounts_have_volumes,
    resources_are_set,
    images_are_pinned,
    environment_is_clean,
    network_is_closed,
    network_reaches,
    clusters_grow_and_shrink,
    nodes_leave_in_time,
    object_store_fits,
    names_fit,
    budgets_can_be_kept,
    commands_are_known,
    serve_config_is_known,
)


def problems(documents: Sequence[Document]) -> list[str]:
    found: list[str] = []
    for law in LAWS:
        try:
            found += law(documents)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            found.append(f"{law.__name__}: the manifests cannot be read: {error!r}")
    return found


def _containers(pod: Pod) -> list[Document]:
    return [*pod.spec.get("initContainers", []), *pod.spec["containers"]]


def _bytes(quantity: str) -> int:
    units: Mapping[str, int] = {"Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return int(quantity[:-2]) * units[quantity[-2:]]


def command_problems(words: list[str]) -> Iterator[str]:
    """Whether raytile's own command line takes the words; nothing is run."""
    from typer.exceptions import TyperException

    if words[0] != "raytile":
        return
    inner = _raytile().commands.get(words[1])
    if inner is None:
        yield f"raytile {words[1]}: no such command"
        return
    # Files of the pod are not here.
    here = [__file__ if word.startswith("/job/") else word for word in words[2:]]
    try:
        inner.make_context(words[1], here)
    except TyperException as error:
        yield f"raytile {words[1]}: {error.format_message()}"


@cache
def _raytile() -> TyperGroup:
    from typer.main import get_command

    from raytile.cli import app

    command = get_command(app)
    assert isinstance(command, TyperGroup)
    return command
