"""A node leaves in good order: Ray is told, and its workers are waited for, on a real Ray of two nodes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytile.cli import main
from raytile.engine.ray.drain import drain, node_of
from raytile.engine.ray.draining import Cluster
from raytile.errors import ClusterError, InvalidRequest
from tests.acceptance import clusters

WORKER = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")

class WorkerActor:
    def there(self):
        return True

worker = ray.remote(WorkerActor).options(num_cpus=1).remote()
ray.get(worker.there.remote())
print("there", flush=True)
sys.stdin.read()
"""


class Paper:
    """A cluster on paper: a worker hands over after some looks."""

    address, here = "ray:1", "10.0.0.2"

    def __init__(self, nodes: dict[str, tuple[str, bool]], looks: int = 0) -> None:
        self._nodes, self.looks = nodes, looks
        self.drained: list[str] = []

    def nodes(self) -> dict[str, tuple[str, bool]]:
        return self._nodes

    def drain(self, node: str, deadline: float, why: str) -> None:  # noqa: ARG002
        self.drained.append(node)

    def actors(self, node: str, kind: str) -> int:  # noqa: ARG002
        self.looks -= 1
        return int(self.looks >= 0)


def test_the_node_of_this_machine_is_found_or_the_fix_is_named() -> None:
    here, there, head = ("10.0.0.2", False), ("10.0.0.3", False), ("10.0.0.1", True)

    def found(nodes: dict[str, tuple[str, bool]], wish: str | None = None) -> str:
        return node_of(Paper(nodes), wish)  # type: ignore[arg-type]

    assert found({"a": here, "b": there, "h": head}) == "a"
    assert found({"a": here, "b": there, "h": head}, "b") == "b"
    for nodes, wish, words in (
        ({"a": here, "b": here}, None, "--node a b"),
        ({"b": there}, None, "no node of it"),
        ({"a": here}, "c", "no living node"),
        ({"a": here, "h": head}, "h", "head"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            found(nodes, wish)


@pytest.mark.parametrize(("looks", "left", "took"), [(0, 0, 0.0), (4, 0, 2.0), (1000, 1, 10.0)])
def test_draining_ends_with_the_last_worker_or_the_time(looks: int, left: int, took: float) -> None:
    now, paper = 0.0, Paper({}, looks)

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    assert drain(paper, "a", 10.0, lambda: now, sleep) == left  # type: ignore[arg-type]
    assert (paper.drained, now) == (["a"], took)


@pytest.fixture
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    cluster = clusters.Nodes(tmp_path_factory.mktemp("nodes"), {})
    node = cluster.add(num_cpus=1)
    yield cluster, node
    for one in cluster._cluster.list_all_nodes():
        one.kill_all_processes(check_alive=False, allow_graceful=False, wait=False)


@pytest.mark.ray
def test_ray_is_told_and_workers_are_waited_for(
    two_nodes: tuple[Any, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cluster, node = two_nodes
    id, address = clusters.node_id(node), cluster.address
    words = ["drain", "--address", address, "--node", id, "--seconds", "1"]
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"there\n"
    assert main(words) == 0
    assert "with 1 of its workers" in capsys.readouterr().out
    longer = subprocess.Popen([sys.executable, "-m", "raytile", *words[:-1], "100"], stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        longer.wait(3)
    worker.communicate()
    assert "no worker of raytile any more" in longer.communicate(timeout=60)[0]
    assert longer.returncode == 0
    (head,) = [one for one, (_, is_head) in Cluster(address).nodes().items() if is_head]
    assert main(["drain", "--address", address, "--node", head]) == 2
    assert capsys.readouterr().err.startswith("error: node: this is the head")


def test_no_ray_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drain", "--address", "127.0.0.1:1"]) == ClusterError.exit_code
    assert capsys.readouterr().err.startswith("error: no Ray answers at 127.0.0.1:1")
