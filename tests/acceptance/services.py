"""Real services for acceptance lines: `raytile serve` on a Ray of its own, asked over HTTP, killed in parts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil

from raytile.canvas.bytes import LocalBytes
from raytile.serve.feed import read_feed
from raytile.serve.records import Records
from tests.acceptance.clusters import _family, _title, end, free_port, processes_of, wait_for

ENDINGS = ("finished", "failed", "cancelled")
PARTS = {
    "replica": "ray::ServeReplica:raytile",
    "proxy": "ray::ProxyActor",
    "worker": "ray::WorkerActor",
    "driver": "ray::Conductor",
    "supervisor": "ray::SupervisorActor",
}
"""What runs a service, by the beginning of its process title."""


class Service:
    """A running `raytile serve` on `store`; `place`: the directory of its Ray."""

    def __init__(self, place: Path, store: Path, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.place, self.store, self.port, self.process, self.log = place, store, port, process, log
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx2.Client(base_url=self.url, timeout=60.0)
        self.records = Records(LocalBytes(store), time.time)

    def ready(self) -> bool:
        with suppress(httpx2.HTTPError):
            return self.client.get("/readyz").status_code == 200
        return False

    def paint(self, **wish: Any) -> str:
        """Send a wish, again if the service is in trouble (the same one, by its Idempotency-Key); its id."""
        key = os.urandom(8).hex()
        until = time.monotonic() + 120
        while True:
            try:
                answer = self.client.post("/v1/renders", json=wish, headers={"Idempotency-Key": key})
                if answer.status_code == 202:
                    return str(answer.json()["id"])
                assert answer.status_code >= 500, answer.text
            except httpx2.HTTPError:
                pass
            assert time.monotonic() < until, "the service takes nothing in"
            time.sleep(0.5)

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/v1/stats").json()
        return found

    def states(self) -> Counter[str]:
        """How many renders are in which state, by the store."""
        return Counter(self.records.get(id).state for id in self.records.owned(None))

    def events(self, id: str) -> list[dict[str, Any]]:
        return read_feed(LocalBytes(self.store), id)

    def endings(self, id: str) -> list[str]:
        return [event["event"] for event in self.events(id) if event["event"] in ENDINGS]

    def pids(self, part: str) -> list[int]:
        return sorted(each.pid for each in _family(self.place) if _title(each).startswith(PARTS[part]))

    def kill(self, part: str) -> int:
        """SIGKILL one process of this part; its pid. Waits until it is gone."""
        pid = wait_pid(lambda: self.pids(part))
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", 20)
        return pid

    def kill_all(self) -> None:
        """The machine loses power, as far as a process can see."""
        end([self.process.pid, *processes_of(self.place)])
        self.process.wait()

    def stop(self, seconds: float = 60.0) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(seconds)


def wait_pid(find: Any) -> int:
    found: list[int] = []

    def there() -> bool:
        found[:] = find()
        return bool(found)

    wait_for(there, 60)
    return found[-1]


@contextmanager
def serving(place: Path, store: Path, workers: int, each: float = 0.5, **settings: str) -> Iterator[Service]:
    """`raytile serve` with `workers` workers, each of which asks for `each` CPUs; `place`: a short path, its own."""
    place.mkdir(exist_ok=True)
    port = free_port()
    variables = {
        "RAY_TMPDIR": str(place),
        "RAYTILE_MODELS": json.dumps({"toy": "toy", "terra": "terra"}),
        "RAYTILE_WORKER_RESOURCES": json.dumps({"num_cpus": each}),
        "RAYTILE_LEASE": "5",
        **settings,
    }
    log = place / "serve.log"
    command = [sys.executable, "-m", "raytile", "serve", "--store", str(store), "--port", str(port)]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [*command, "--workers", str(workers)], env={**os.environ, **variables}, stdout=out, stderr=out
        )
    service = Service(place, store, port, process, log)
    try:
        wait_for(service.ready, 240, lambda: log.read_text()[-2000:])
        yield service
    finally:
        if process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                service.stop(40)
        end([process.pid, *processes_of(place)])


def digest_alone(wish: Mapping[str, Any], out: Path) -> str:
    """What the picture's pixels should be: painted in this process."""
    from raytile.api import render
    from raytile.plan.request import RenderRequest

    summary = render(RenderRequest.parse(**wish), out, in_process=True, device="cpu").head().summary or {}
    return str(summary["pixels_sha256"])
