"""Fifty clients at a service on Ray, for as long as RAYTILE_LOAD_SECONDS says (ten minutes): they make pictures of the
toy model, watch, list, fetch them, and come back when they are told to. Before that, a light render beside a heavy one
that held all workers."""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import httpx2

from tests.acceptance import clusters, services
from tests.acceptance.common import report, say
from tests.acceptance.services import Service

SECONDS = float(os.environ.get("RAYTILE_LOAD_SECONDS", "600"))
CLIENTS, WORKERS, QUEUE = 50, 2, 25
HEAVY = {"prompt": "a", "width": 2048, "height": 2048, "steps": 60, "model": "toy", "levels": 1, "seed": 1}
LIGHT = {"prompt": "b", "width": 256, "height": 128, "steps": 4, "model": "toy", "seed": 2}
FEW = 8
"""Steps of the heavy render that may pass until the light one has done its first: four are under way when a worker is
called back."""
CHECKED = 8
"""Pictures whose digests are painted again, alone."""


class Tally:
    """What the clients saw. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.statuses: Counter[int] = Counter()
        self.errors: list[str] = []
        self.promises: Counter[str] = Counter()
        self.waits: list[int] = []
        self.made: dict[str, dict[str, Any]] = {}

    def took(self, route: str, status: int, seconds: float) -> None:
        with self._lock:
            self.seconds[route].append(seconds)
            self.statuses[status] += 1

    def error(self, words: str) -> None:
        with self._lock:
            self.errors.append(words[:300])


class Client:
    """One of those who use the service, with their own habits."""

    def __init__(self, url: str, number: int, tally: Tally, until: float) -> None:
        self._http = httpx2.Client(base_url=url, timeout=120.0)
        self._rng, self._tally, self._until = random.Random(number), tally, until

    def run(self) -> None:
        while time.monotonic() < self._until:
            try:
                self._one()
            except Exception as error:
                self._tally.error(f"{type(error).__name__}: {error}")

    def _call(self, route: str, method: str, path: str, allowed: tuple[int, ...], **more: Any) -> httpx2.Response:
        begun = time.monotonic()
        answer = self._http.request(method, path, **more)
        self._tally.took(route, answer.status_code, time.monotonic() - begun)
        if answer.status_code not in allowed:
            self._tally.error(f"{route}: {answer.status_code} {answer.text}")
        return answer

    def _make(self) -> str | None:
        """A render, after being sent away as often as that may be."""
        rng = self._rng
        wish = {
            "prompt": rng.choice("abc"), "width": 16 * rng.randint(2, 16), "height": 16 * rng.randint(2, 16),
            "steps": rng.randint(1, 6), "seed": rng.randrange(1000), "model": "toy",
        }  # fmt: skip
        key, told = f"{rng.getrandbits(64):x}", False
        while time.monotonic() < self._until:
            answer = self._call("make", "POST", "/v1/renders", (202, 429), json=wish, headers={"Idempotency-Key": key})
            if told:
                self._tally.promises["kept" if answer.status_code == 202 else "broken"] += 1
            if answer.status_code == 202:
                id = str(answer.json()["id"])
                self._tally.made[id] = wish
                return id
            wait = int(answer.headers["retry-after"])
            self._tally.waits.append(wait)
            told = True
            time.sleep(wait)
        return None

    def _one(self) -> None:
        if (id := self._make()) is None:
            return
        if self._rng.random() < 0.5:
            begun, last = time.monotonic(), ""
            with self._http.stream("GET", f"/v1/renders/{id}/events") as answer:
                for line in answer.iter_lines():
                    last = line.removeprefix("event: ") if line.startswith("event: ") else last
            self._tally.took("watch", answer.status_code, time.monotonic() - begun)
            if last != "finished":
                self._tally.error(f"render {id} ended as {last}")
        else:
            while (state := self._call("look", "GET", f"/v1/renders/{id}", (200,)).json()["state"]) != "finished":
                if state in services.ENDINGS:
                    self._tally.error(f"render {id} is {state}")
                    return
                time.sleep(0.5)
        match self._rng.randrange(5):
            case 0:
                self._call("content", "GET", f"/v1/renders/{id}/content", (200,))
            case 1:
                self._call("list", "GET", "/v1/renders?limit=5", (200,))
            case 2:
                self._call("stats", "GET", "/v1/stats", (200,))
            case 3:
                self._call("plan", "POST", "/v1/plans", (200,), json={"prompt": "x", "size": "512x512", "model": "toy"})
            case 4:
                self._call("tile", "GET", f"/v1/renders/{id}_files/4/0_0.jpeg", (200,))


def crowd(service: Service, seconds: float) -> Tally:
    """All clients at once."""
    tally, until = Tally(), time.monotonic() + seconds
    clients = [
        threading.Thread(target=Client(service.url, number, tally, until).run, daemon=True) for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients):
        time.sleep(10)
        say(f"{until - time.monotonic():.0f} s to go, {len(tally.made)} renders, {len(tally.errors)} errors")
        if time.monotonic() > until + 180:
            tally.error("clients still wait three minutes after the end")
            break
    return tally


def light_beside_heavy(service: Service, folder: Path) -> tuple[dict[str, bool], dict[str, Any]]:
    """A light render that comes when a heavy one has all the workers."""

    def steps(id: str) -> list[float]:
        return [event["at"] for event in service.events(id) if event["event"] == "step"]

    first_ones = [service.paint(**{**LIGHT, "seed": seed}) for seed in range(3)]  # drivers and workers have started
    clusters.wait_for(lambda: all(service.endings(id) for id in first_ones), 180)
    heavy = service.paint(**HEAVY)
    clusters.wait_for(lambda: len(steps(heavy)) > 3 and service.stats()["crew"]["idle"] == 0, 180)
    asked = time.time()
    light = service.paint(**LIGHT)
    clusters.wait_for(lambda: bool(service.endings(light)) and bool(service.endings(heavy)), 600)
    first = steps(light)[0]
    passed = sum(asked < at < first for at in steps(heavy))
    done = {name: service.client.get(f"/v1/renders/{id}").json() for name, id in (("heavy", heavy), ("light", light))}
    alone = {
        name: services.digest_alone(wish, folder / f"{name}.zarr")
        for name, wish in (("heavy", HEAVY), ("light", LIGHT))
    }
    return {
        f"a light render's first step comes within {FEW} of the heavy one's": passed <= FEW,
        "the heavy one was still being painted": done["heavy"]["ended"] > done["light"]["ended"],
        "both digests are those of the pictures painted alone": all(
            done[name]["digest"] == alone[name] for name in alone
        ),
    }, {"heavy_steps_until_light": passed, "seconds_until_light": round(first - asked, 2)}


def percentiles(values: list[float]) -> dict[str, float]:
    found = statistics.quantiles(values, n=100) if len(values) > 1 else values * 99
    return {"n": len(values), "p50": round(found[49], 3), "p95": round(found[94], 3), "p99": round(found[98], 3)}


def main() -> None:
    with clusters.scratch() as place, tempfile.TemporaryDirectory() as kept:
        settings = {"RAYTILE_MAX_QUEUE": str(QUEUE), "RAYTILE_WARM_IDLE_S": "60", "RAYTILE_PREVIEW_EVERY": "3"}
        with services.serving(place / "s", Path(kept, "store"), WORKERS, **settings) as service:
            checks, figures = light_beside_heavy(service, Path(kept))
            say(figures)
            tally = crowd(service, SECONDS)
            clusters.wait_for(lambda: set(service.states()) <= {"finished"}, 300)
            endings = Counter(len(service.endings(id)) for id in tally.made)
            some = random.Random(0).sample(sorted(tally.made), min(CHECKED, len(tally.made)))
            same = [
                service.records.get(id).digest == services.digest_alone(tally.made[id], Path(kept, f"{id}.zarr"))
                for id in some
            ]
    told = sum(tally.promises.values())
    report(
        f"{CLIENTS} clients for {SECONDS:.0f} s; a light render beside a heavy one",
        {
            **checks,
            "no errors": not tally.errors,
            "every render ended once": set(endings) == {1},
            "digests are those of the pictures painted alone": all(same) and bool(same),
            "some were told to come again": told > 0,
            "who came again when told was let in": not tally.promises["broken"],
        },
        {
            **figures,
            "renders": len(tally.made),
            "seconds": {route: percentiles(values) for route, values in sorted(tally.seconds.items())},
            "statuses": dict(tally.statuses),
            "retry_after": {**tally.promises, **(percentiles([*map(float, tally.waits)]) if told else {})},
            "errors": tally.errors[:20],
        },
    )


if __name__ == "__main__":
    main()
