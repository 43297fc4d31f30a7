"""Rays to be cruel to: clusters of several nodes on this machine whose nodes can be killed, drained, hidden and grown.

Everything is started on loopback in a temporary directory and ended by process id."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.acceptance.common import say

QUICK = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""A dead node is known in 1.3 s instead of 13.8 (measured)."""
STORE = 150 * 2**20
HEAD_ID, HEAD_TYPE = "f" * 51 + "00000", "ray.head.default"
"""What the provider on this machine takes for the head."""
RAY = str(Path(sys.executable).parent / "ray")


@contextmanager
def scratch(quick: bool = True) -> Iterator[Path]:
    """A short temporary directory, and the environment that keeps Ray, the user's home and each other apart."""
    place = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
    mine = {
        "HOME": str(place / "home"),
        "RAY_TMPDIR": str(place / "r"),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        **(QUICK if quick else {}),
    }
    before = {name: os.environ.get(name) for name in (*mine, "RAY_ADDRESS")}
    os.environ.update(mine)
    os.environ.pop("RAY_ADDRESS", None)
    Path(mine["HOME"]).mkdir()
    Path(mine["RAY_TMPDIR"]).mkdir()
    try:
        yield place
    finally:
        end(processes_of(place))
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        shutil.rmtree(place, ignore_errors=True)


class Nodes:
    """A `ray.cluster_utils.Cluster` on this machine, a working directory for each node."""

    def __init__(self, place: Path, head: Mapping[str, Any]) -> None:
        from ray.cluster_utils import Cluster

        self._place, self._count = place, 0
        self._cluster = Cluster(initialize_head=False, shutdown_at_exit=False)
        self.head = self.add(include_dashboard=False, **{"num_cpus": 0, **head})

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, **node: Any) -> Any:
        """Add a node (`num_cpus`, `resources`, `env_vars`, ...) that runs in a directory of its own."""
        folder, here = self._place / f"node-{self._count}", Path.cwd()
        self._count += 1
        folder.mkdir()
        os.chdir(folder)
        try:
            return self._cluster.add_node(**{"object_store_memory": STORE, **node})
        finally:
            os.chdir(here)

    def kill(self, node: Any) -> None:
        """SIGKILL a node as a power cut does: its raylet, its workers and agents, at once."""
        slay([raylet(node).pid, *(child.pid for child in raylet(node).children(recursive=True))])

    def add_hidden(self, hidden: Path, **resources: float) -> int:
        """A node that sees an empty directory in place of `hidden` (a mount of its own, so this takes root); the id
        of its process."""
        folder = self._place / f"node-{self._count}"
        self._count += 1
        folder.mkdir()
        start = [
            RAY, "start", "--block", f"--address={self.address}", "--num-cpus=0", f"--object-store-memory={STORE}",
            f"--resources={json.dumps(resources)}", "--disable-usage-stats",
        ]  # fmt: skip
        with open(folder / "log", "w") as log:
            mount = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(hidden)]
            process = subprocess.Popen([*mount, *start], cwd=folder, stdout=log, stderr=log)
        count = len(alive(self.address))
        wait_for(lambda: len(alive(self.address)) > count, 60, lambda: (folder / "log").read_text()[-2000:])
        return process.pid

    def connect(self) -> None:
        """Make this process a driver of it, until it is closed."""
        import ray

        ray.init(address=self.address, log_to_driver=False, logging_level="error")

    def close(self) -> None:
        import ray

        ray.shutdown()  # first: Ray ends a process whose cluster goes away
        with suppress(Exception):
            for node in self._cluster.list_all_nodes():
                node.kill_all_processes(check_alive=False, allow_graceful=False, wait=False)
        end(processes_of(self._place))


@contextmanager
def fixed(place: Path, nodes: Sequence[Mapping[str, Any]] = (), head: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """A cluster whose head offers `head` (by default no processor), with these nodes; they come and go by hand."""
    cluster = Nodes(place, head or {})
    try:
        for node in nodes:
            cluster.add(**node)
        yield cluster
    finally:
        cluster.close()


def raylet(node: Any) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def node_id(node: Any) -> str:
    return str(node.node_id)


def drain(address: str, node: str, seconds: float) -> None:
    """Tell Ray that this node will be taken away in `seconds`, as a spot market does."""
    subprocess.run(
        [RAY, "drain-node", f"--address={address}", f"--node-id={node}", "--reason=DRAIN_NODE_REASON_PREEMPTION",
         "--reason-message=spot", f"--deadline-remaining-seconds={seconds:.0f}"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def alive(address: str) -> list[str]:
    """The nodes that the cluster counts as alive; asks without being a driver of it."""
    from ray._raylet import GcsClient
    from ray.core.generated.gcs_pb2 import GcsNodeInfo

    known = GcsClient(address=address).get_all_node_info(timeout=5)
    return [key.hex() for key, info in known.items() if info.state == GcsNodeInfo.ALIVE]


def status(address: str) -> dict[str, int]:
    """What the autoscaler says: nodes there (the head beside), nodes on their way, and resource demands unmet."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    said = get_cluster_status(address)
    there = [n for n in (*said.active_nodes, *said.idle_nodes) if n.node_id != HEAD_ID]
    tasks = said.resource_demands.ray_task_actor_demand
    unmet = sum(shape.count for demand in tasks for shape in demand.bundles_by_count)
    return {"nodes": len(there), "coming": len(said.pending_launches) + len(said.pending_nodes), "demand": unmet}


def scaled(max_workers: int, resources: Mapping[str, float], idle_seconds: float) -> dict[str, Any]:
    """An autoscaler's configuration with one kind of node, each of which offers `resources`."""
    return {
        "cluster_name": "raytile",
        "max_workers": max_workers,
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {**resources, "object_store_memory": STORE}, "node_config": {}, "min_workers": 0,
                "max_workers": max_workers,
            },
        },
        "head_node_type": "head",
        "idle_timeout_minutes": idle_seconds / 60,
        "auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [],
        "file_mounts_sync_continuously": False, "initialization_commands": [], "setup_commands": [],
        "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }  # fmt: skip


def local(config: Mapping[str, Any], address: str) -> dict[str, Any]:
    """The same configuration for nodes that are raylets on this machine, of the Ray at `address`."""
    types = dict(config["available_node_types"])
    types[HEAD_TYPE] = types.pop(config["head_node_type"])
    provider = {
        "type": "external", "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True,
        "gcs_address": address, "head_node_id": HEAD_ID, "launch_multiple": True,
    }  # fmt: skip
    return {**config, "docker": {}, "provider": provider, "available_node_types": types, "head_node_type": HEAD_TYPE}


class Autoscaling:
    """A head without capacity, and Ray's own autoscaler (v2) over a provider that starts raylets on this machine.

    `dashboard`: its port, if it is to have one."""

    def __init__(self, place: Path, config: Mapping[str, Any], dashboard: int | None = None) -> None:
        self.place, self.address = place, f"127.0.0.1:{free_port()}"
        folder = place / "r"
        file = place / "autoscaler.json"
        file.write_text(json.dumps(local(config, self.address)))
        variables = {
            "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1",
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID, "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        }  # fmt: skip
        seen = ["--include-dashboard=false"] if dashboard is None else [f"--dashboard-port={dashboard}"]
        command = [
            RAY, "start", "--head", "--block", f"--autoscaling-config={file}", "--node-ip-address=127.0.0.1",
            f"--port={self.address.partition(':')[2]}", f"--temp-dir={folder}", "--num-cpus=0",
            f"--object-store-memory={STORE}", *seen, f"--ray-client-server-port={free_port()}",
            f"--dashboard-agent-listen-port={free_port()}", "--disable-usage-stats",
        ]  # fmt: skip
        self._log = place / "head.log"
        with open(self._log, "w") as log:
            subprocess.Popen(command, env={**os.environ, **variables}, stdout=log, stderr=log)
        wait_for(lambda: bool(_quietly(lambda: status(self.address))), 60, lambda: self._log.read_text()[-2000:])

    def timeline(self, until: Callable[[dict[str, int]], bool], limit: float) -> list[dict[str, float]]:
        """What `status` said each time it changed, with seconds from now, until `until` holds; TimeoutError after
        `limit` seconds."""
        start, told = time.monotonic(), list[dict[str, float]]()
        while True:
            now = _quietly(lambda: status(self.address))
            seconds = time.monotonic() - start
            if now and (not told or any(told[-1][name] != count for name, count in now.items())):
                told.append({"seconds": round(seconds, 1), **now})
                say(told[-1])
            if now and until(now):
                return told
            if seconds > limit:
                raise TimeoutError(f"after {limit:.0f} s the cluster is at {now}: {told}")
            time.sleep(0.2)


@contextmanager
def autoscaling(place: Path, config: Mapping[str, Any], dashboard: int | None = None) -> Iterator[Autoscaling]:
    """The real autoscaler on this machine, with this configuration (see `scaled`)."""
    try:
        yield Autoscaling(place, config, dashboard)
    finally:
        end(processes_of(place))


@contextmanager
def driver(*arguments: str, log: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A `raytile` command in a process of its own: stdout is piped, stderr goes to `log`; killed on leaving."""
    with open(log, "w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "raytile", *arguments], env={**os.environ, **variables}, stdout=subprocess.PIPE,
            stderr=errors, text=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)  # ends one that is stopped too
        process.communicate()


def actors(place: Path, doing: str = "") -> list[int]:
    """The worker actors of the Ray in `place`, by process title; with `doing` those in the middle of that method."""
    wanted = f"ray::WorkerActor.{doing}" if doing else "ray::WorkerActor"
    return sorted(process.pid for process in _family(place) if _title(process).startswith(wanted))


def processes_of(place: Path) -> list[int]:
    """All processes of the Ray whose temporary directory lies in `place`."""
    return [process.pid for process in _family(place)]


def slay(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end(pids: Iterable[int]) -> None:
    """Kill these processes, and wait until those that are our children are gone."""
    pids = list(pids)
    slay(pids)
    found = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    psutil.wait_procs(found, timeout=5)


def wait_for(done: Callable[[], bool], seconds: float, why: Callable[[], object] = lambda: "") -> float:
    """Wait until `done`; how long that took. TimeoutError with what `why` says after `seconds`."""
    start = time.monotonic()
    while not done():
        if time.monotonic() - start > seconds:
            raise TimeoutError(f"nothing in {seconds:.0f} s: {why()}")
        time.sleep(0.05)
    return time.monotonic() - start


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _family(place: Path) -> list[psutil.Process]:
    """Ray's processes carry their directory in their command lines; workers do not, but are children of a raylet."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid not in mine and f"{place}/" in _title(process):
            with suppress(psutil.Error):
                found |= {each.pid: each for each in (process, *process.children(recursive=True))}
    return list(found.values())


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _quietly(ask: Callable[[], dict[str, int]]) -> dict[str, int]:
    try:
        return ask()
    except Exception:  # a Ray that comes up or goes down answers in many ways; it is asked again
        return {}
