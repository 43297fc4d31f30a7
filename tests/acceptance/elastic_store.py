"""A render onto a real S3 server; the server away for a while, and for good."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from raytile.api import make_pool
from raytile.canvas import store
from raytile.errors import CanvasError
from tests.acceptance import clusters
from tests.acceptance.common import report, say
from tests.acceptance.elastic_kills import Trial
from tests.acceptance.watch import Watch, step, words
from tests.engine.renders import digests
from tests.s3 import BUCKET as NAME
from tests.s3 import serving

BUCKET = f"s3://{NAME}"
STEPS, AWAY, PATIENCE = 90, 30.0, 15.0


def away(trial: Trial, server: Any, pool: Any) -> dict[str, Any]:
    """The server is gone for half a minute, from a third of the steps on."""
    back = threading.Event()

    def interrupt(_: Watch) -> None:
        server.stop()
        time.sleep(AWAY)
        server.start()
        back.set()

    watch = Watch(interrupt, at=step(1 / 3))
    found = trial.run(watch, pool=pool)
    return {**found, "back": back.wait(60), "told": watch.told.get("StoreTrouble", 0)}


def away_for_good(trial: Trial, server: Any, out: str, folder: Path) -> dict[str, Any]:
    """The server goes once a snapshot is whole, and does not come back while the render lives."""
    log, environment = folder / "log", {"RAYTILE_STORE_DEADLINE": str(PATIENCE)}
    arguments = words(trial.request, out, "--workers", "2", "--snapshot-every", "5", "--quiet")
    with clusters.driver(*arguments, log=log, **environment) as process:
        clusters.wait_for(lambda: snapshot(out) is not None, 90, log.read_text)
        server.stop()
        start = time.monotonic()
        code = process.wait(180)
        lived = time.monotonic() - start
    return {"code": code, "said": log.read_text().strip(), "seconds_until_it_gave_up": round(lived, 1)}


def resumed(out: str, folder: Path) -> dict[str, Any]:
    log = folder / "resume"
    start = time.monotonic()
    with clusters.driver("resume", out, "--workers", "2", "--device", "cpu", "--json", log=log) as process:
        said = process.communicate(timeout=240)[0]
    summary = json.loads(said.splitlines()[-1]) if process.returncode == 0 else {}
    say(log.read_text()[-1000:])
    return {"code": process.returncode, "seconds": round(time.monotonic() - start, 1), "digests": summary}


def snapshot(out: str) -> int | None:
    """The phase that the head says a render can go on from."""
    try:
        return store.open(out).head().snapshot
    except CanvasError:  # not there yet, or the server is away
        return None


def main() -> None:
    with clusters.scratch() as place, serving() as server:
        with clusters.fixed(place, head={"num_cpus": 3}) as cluster, tempfile.TemporaryDirectory(dir=place) as folder:
            cluster.connect()
            trial = Trial(Path(folder), STEPS)
            trial.folder = f"{BUCKET}/store"
            pool = make_pool(3, address=cluster.address)
            pool.connect(3)
            calm = trial.run(Watch(), pool=pool)
            say("undisturbed", calm)
            while_away = away(trial, server, pool)
            say("away", while_away)
            pool.close()
        os.environ.pop("RAY_ADDRESS", None)
        out = f"{BUCKET}/good.zarr"
        gone = away_for_good(trial, server, out, place)
        say("away for good", gone)
        server.start()
        again = resumed(out, place)
        same = again["code"] == 0 and digests(again.pop("digests")) == trial.expected
        say("resumed", again, same)
    report(
        "a canvas on a real S3 server; the server away for a while, and for good",
        {
            "on S3: equal digests": calm["same"],
            f"away for {AWAY:.0f} s: survives, equal digests": while_away["same"] and while_away["back"],
            "away for good: exit code 1": gone["code"] == 1,
            "away for good: one clear line": gone["said"].count("\n") == 0 and "s3://" in gone["said"],
            "then resumed: equal digests": same,
        },
        {"undisturbed": calm, "away": while_away, "away_for_good": gone, "resumed": again},
    )


if __name__ == "__main__":
    main()
