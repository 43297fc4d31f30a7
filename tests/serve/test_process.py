"""`raytile serve --in-process` as a process: it is killed in the midst, and goes on; a crowd finds its places."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from raytile.api import render
from raytile.plan.request import RenderRequest

LONG = {"prompt": "a", "width": 256, "height": 256, "steps": 24, "model": "toy", "seed": 5}


@contextmanager
def running(store: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], httpx2.Client]]:
    command = [sys.executable, "-m", "raytile", "serve", "--in-process", "--port", "0", "--store", str(store)]
    variables = {"RAYTILE_MODELS": '{"toy": "toy"}', "RAYTILE_LEASE": "1", "RAYTILE_PREVIEW_EVERY": "0", **settings}
    process = subprocess.Popen(
        command, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        with httpx2.Client(base_url=found[0], timeout=60) as client:
            yield process, client
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def events(client: httpx2.Client, id: str) -> list[str]:
    with client.stream("GET", f"/v1/renders/{id}/events") as answer:
        return [line.removeprefix("event: ") for line in answer.iter_lines() if line.startswith("event: ")]


def test_a_service_that_is_killed_goes_on_at_the_next_start(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with running(store) as (process, client):
        first, second = (
            str(client.post("/v1/renders", json=wish).json()["id"]) for wish in (LONG, {**LONG, "seed": 6})
        )
        with client.stream("GET", f"/v1/renders/{first}/events") as answer:
            assert any(line == "event: step" for line in answer.iter_lines())
        process.kill()
        process.wait()
    with running(store) as (process, client):
        names = events(client, first)
        assert names[-1] == "finished"
        assert [name for name in names if name in ("finished", "failed", "cancelled")] == ["finished"]
        assert events(client, second)[-1] == "finished"
        digests = [client.get(f"/v1/renders/{id}").json()["digest"] for id in (first, second)]
        assert client.get("/v1/stats").json()["evaluations_waiting"] == 0
    for digest, seed in zip(digests, (5, 6), strict=True):
        wish = RenderRequest.parse(**{**LONG, "seed": seed})
        summary = render(wish, tmp_path / f"{seed}.zarr", in_process=True).head().summary or {}
        assert digest == summary["pixels_sha256"]


def test_a_service_that_is_asked_to_end_leaves_what_it_paints_for_the_next(tmp_path: Path) -> None:
    with running(tmp_path, RAYTILE_MAX_STEPS="500") as (process, client):
        id = str(client.post("/v1/renders", json={**LONG, "steps": 400}).json()["id"])
        with client.stream("GET", f"/v1/renders/{id}/events") as answer:
            assert any(line == "event: step" for line in answer.iter_lines())
        process.terminate()
        assert process.wait(30) in (0, -15)
    with running(tmp_path) as (_, client):
        found = client.get(f"/v1/renders/{id}").json()
        assert found["state"] in ("queued", "running")
        assert client.delete(f"/v1/renders/{id}").status_code == 202
        assert events(client, id)[-1] == "cancelled"


def test_a_crowd_is_told_when_to_come_and_finds_its_places(tmp_path: Path) -> None:
    wish = {"prompt": "a", "size": "256x256", "steps": 8, "levels": 1}
    broken: list[str] = []
    most: list[int] = []

    def one(client: httpx2.Client, number: int) -> None:
        for _ in range(12):
            answer = client.post("/v1/renders", json={**wish, "seed": number}, headers={"Idempotency-Key": f"{number}"})
            if answer.status_code == 202:
                if events(client, answer.json()["id"])[-1] != "finished":
                    broken.append(f"{number}: not finished")
                return
            if answer.status_code != 429:
                broken.append(f"{number}: {answer.status_code} {answer.text}")
                return
            most.append(int(client.get("/v1/stats").json()["queued"]))
            time.sleep(int(answer.headers["retry-after"]))
        broken.append(f"{number}: sent away again and again")

    with running(tmp_path, RAYTILE_MAX_QUEUE="3") as (_, client):
        warm = client.post("/v1/renders", json=wish).json()["id"]
        assert events(client, warm)[-1] == "finished"
        clients = [threading.Thread(target=one, args=(client, number)) for number in range(8)]
        for each in clients:
            each.start()
        for each in clients:
            each.join(120)
        assert len(client.get("/v1/renders").json()["data"]) == 9
    assert not broken
    assert most
    assert max(most) <= 6, "a queue of three grows to twice that at most"


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "raytile", "serve", "--in-process", "--port", port, "--store", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "choose another --port" in done.stderr.splitlines()[-1]


pytestmark = pytest.mark.timeout(240)
