"""The chart for acceptance lines: rendered by Helm, deployed on a Ray of this machine as KubeRay does."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import yaml

from deploy.render import documents, examples, render
from raytile.engine.ray.draining import Cluster
from tests import s3
from tests.acceptance.clusters import STORE, _family, _title, slay, wait_for
from tests.acceptance.common import say

SERVE = "http://127.0.0.1:8000"
NEWNET = 0x40000000


def own_network() -> None:
    """Move this process, and those that it starts, into a network of their own with nothing but loopback: the chart's
    services listen everywhere. Takes root."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEWNET):
        raise OSError(ctypes.get_errno(), "no network of its own: run as root")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def objects(name: str, changes: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """What Helm makes of the example values `name`, some of them changed."""
    return documents(render(_merged(examples()[name], changes or {})))


def of_kind(found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (one,) = [each for each in found if each["kind"] == kind]
    return one


def autoscaler_config(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What KubeRay's autoscaler reads from the rendered cluster, by Ray's own code. Its nodes here share one machine:
    their object stores are small, and memory, which the local provider cannot promise, is left out."""
    from ray.autoscaler._private.kuberay import autoscaling_config

    service = of_kind(objects(name, changes), "RayService")
    cluster = {"metadata": service["metadata"], "spec": service["spec"]["rayClusterConfig"]}
    config: dict[str, Any] = autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)
    for kind in config["available_node_types"].values():
        kind["resources"].pop("memory", None)
        kind["resources"]["object_store_memory"] = STORE
    return config


def deploy(place: Path, serve_config: str, dashboard: str) -> None:
    """Hand the chart's serveConfigV2 to Ray's dashboard, exactly as it stands, as the operator does."""
    file = place / "serve.yaml"
    file.write_text(serve_config)
    command = [str(Path(sys.executable).with_name("serve")), "deploy", str(file), "--address", dashboard]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def told(dashboard: str) -> str:
    """What Serve says of its applications."""
    command = [str(Path(sys.executable).with_name("serve")), "status", "--address", dashboard]
    return subprocess.run(command, capture_output=True, text=True).stdout


class Service:
    """The deployed service, asked over HTTP with a key of its own."""

    def __init__(self, store: str) -> None:
        made = raytile("keys", "add", "acceptance", "--store", store, "--scope", "render", "--scope", "read")
        headers = {"Authorization": f"Bearer {made.splitlines()[-1].strip()}"}
        self.client = httpx2.Client(base_url=SERVE, timeout=60.0, headers=headers)

    def ready(self) -> bool:
        with suppress(httpx2.HTTPError):
            return self.client.get("/readyz").status_code == 200
        return False

    def paint(self, **wish: Any) -> str:
        answer = self.client.post("/v1/renders", json=wish)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def records(self, ids: list[str]) -> list[dict[str, Any]]:
        return [self.client.get(f"/v1/renders/{id}").json() for id in ids]


def raytile(*arguments: str) -> str:
    """What a command of raytile prints."""
    done = subprocess.run([sys.executable, "-m", "raytile", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def preempt(place: Path, address: str, seconds: float) -> dict[str, Any]:
    """Take one node away that has a worker, as Kubernetes does: its preStop hook, then the end of its processes."""
    cluster = Cluster(address)
    found: list[str] = []

    def there() -> bool:
        nodes = [node for node, (_, head) in cluster.nodes().items() if not head]
        found[:] = [node for node in nodes if cluster.actors(node, "WorkerActor")]
        return bool(found)

    wait_for(there, 60)
    node = found[0]
    start = time.monotonic()
    said = raytile("drain", "--address", address, "--node", node, "--seconds", f"{seconds:.0f}")
    took = time.monotonic() - start
    victims = [each for each in _family(place) if "raylet/raylet" in _title(each) and _node(each) == node]
    slay([pid for each in victims for pid in (each.pid, *(child.pid for child in each.children(recursive=True)))])
    say("preempted:", said.strip(), f"after {took:.1f} s")
    wait_for(lambda: node not in cluster.nodes(), 60)
    return {"drained_in": round(took, 1), "empty": "no worker" in said, "had_ended_by_itself": not victims}


def _node(process: psutil.Process) -> str:
    try:
        return str(process.environ().get("RAY_OVERRIDE_NODE_ID_FOR_TESTING", ""))
    except psutil.Error:
        return ""


def _merged(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {name: _merged(one.get(name), other.get(name, one.get(name))) for name in {**one, **other}}
    return other


def serve_config(found: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The serveConfigV2 of a RayService: as it stands, and read."""
    text = str(of_kind(found, "RayService")["spec"]["serveConfigV2"])
    read: dict[str, Any] = yaml.safe_load(text)
    return text, read


def store_of(read: Mapping[str, Any]) -> str:
    """Where the service of a serveConfigV2 keeps all it has."""
    return str(read["applications"][0]["args"]["settings"]["store"])


@contextmanager
def bucket(name: str) -> Iterator[None]:
    """An S3 server that has the bucket which the example values `name` speak of."""
    store = store_of(serve_config(objects(name))[1])
    with s3.serving() as server:
        server.client().create_bucket(Bucket=store.removeprefix("s3://").partition("/")[0])
        yield


def environment(found: list[dict[str, Any]]) -> dict[str, str]:
    """The plain variables of the head's container that Ray reads."""
    spec = of_kind(found, "RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    plain = {each["name"]: each["value"] for each in spec["containers"][0]["env"] if "value" in each}
    return {name: value for name, value in plain.items() if name.startswith(("RAY_", "RAYTILE_"))}


def token() -> dict[str, str]:
    """The variables that KubeRay sets for a cluster in token mode."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.urandom(16).hex()}
