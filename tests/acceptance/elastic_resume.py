"""Drivers are killed, paused and doubled; `raytile resume` ends the picture, with one owner at a time."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from raytile.canvas import store
from raytile.canvas.head import Head
from raytile.errors import CanvasError
from tests.acceptance import clusters
from tests.acceptance.common import report, say
from tests.acceptance.watch import picture, words
from tests.engine.renders import digests, paint
from tests.s3 import BUCKET, serving

STEPS, LEASE = 120, "3"


def head(out: str) -> Head | None:
    try:
        return store.open(out).head()
    except CanvasError:  # not there yet, or the server is away
        return None


def past(out: str, share: float) -> bool:
    """Whether a snapshot is whole, and this share of the steps done."""
    found = head(out)
    return bool(found and found.snapshot is not None and found.step >= share * found.steps)


class Stage:
    """A running Ray, one request, its undisturbed digests, and where canvases go: a folder, or a bucket."""

    def __init__(self, folder: Path, canvases: str, address: str) -> None:
        self.folder, self.canvases, self.address = folder, canvases, address
        self.request = picture(steps=STEPS)
        self.expected = digests(paint(self.request, folder / "expected.zarr")[1])

    def render(self, out: str, workers: int) -> Any:
        """A render in a process of its own, which keeps its lease for `LEASE` seconds."""
        more = ("--address", self.address, "--workers", str(workers), "--snapshot-every", "5")
        log = self.folder / f"{Path(out).stem}.log"
        return clusters.driver(*words(self.request, out, *more), log=log, RAYTILE_LEASE=LEASE)

    def resume(self, out: str, workers: int, log: str) -> Any:
        more = ("--address", self.address, "--workers", str(workers), "--device", "cpu", "--json")
        return clusters.driver("resume", out, *more, log=self.folder / log, RAYTILE_LEASE=LEASE)

    def right(self, code: int, said: str) -> bool:
        return code == 0 and digests(json.loads(said.splitlines()[-1])) == self.expected

    def text(self, log: str) -> str:
        return (self.folder / log).read_text()


def ended(process: subprocess.Popen[str], seconds: float = 180) -> tuple[int, str]:
    said = process.communicate(timeout=seconds)[0]
    return process.returncode, said


def killed_and_resumed(stage: Stage) -> dict[str, Any]:
    """Three workers, the driver SIGKILLed; resumed on two."""
    out = f"{stage.canvases}/killed.zarr"
    with stage.render(out, 3) as process:
        clusters.wait_for(lambda: past(out, 0.4), 120)
        process.kill()
        process.wait()
    before = head(out)
    start = time.monotonic()
    with stage.resume(out, 2, "resume-1") as process:
        code, said = ended(process)
    say("resumed", code, stage.text("resume-1")[-800:])
    same = stage.right(code, said)
    summary = json.loads(said.splitlines()[-1]) if said else {}
    return {
        "same": same, "code": code, "killed_at_step": before and before.step, "snapshot": before and before.snapshot,
        "seconds": round(time.monotonic() - start, 1), "parts": summary.get("seconds"),
    }  # fmt: skip


def two_at_once(stage: Stage) -> dict[str, Any]:
    """Two claimants of one canvas whose driver is dead."""
    out = f"{stage.canvases}/doubled.zarr"
    with stage.render(out, 2) as process:
        clusters.wait_for(lambda: past(out, 0.1), 120)
        process.kill()
        process.wait()
    with stage.resume(out, 2, "left") as left, stage.resume(out, 2, "right") as right:
        ends = {left.pid: (*ended(left), stage.text("left")), right.pid: (*ended(right), stage.text("right"))}
    say({pid: (code, log[-500:]) for pid, (code, _, log) in ends.items()})
    winners = {pid: said for pid, (code, said, _) in ends.items() if code == 0}
    told = [(code, log.strip().splitlines()[-1]) for code, _, log in ends.values() if code]
    return {
        "codes": sorted(code for code, _, _ in ends.values()),
        "same": [stage.right(0, said) for said in winners.values()],
        "told": [line for _, line in told],
        "named": all(re.search(rf"\b{pid}\b", line) for pid in winners for _, line in told),
    }


def paused(stage: Stage) -> dict[str, Any]:
    """A driver is stopped past its lease, loses its canvas to a resume, and goes on."""
    out = f"{stage.canvases}/paused.zarr"
    owners: set[int] = set()
    with stage.render(out, 2) as first:
        clusters.wait_for(lambda: past(out, 0.2), 120)
        first.send_signal(signal.SIGSTOP)
        with stage.resume(out, 2, "taker") as second:
            clusters.wait_for(lambda: bool((now := head(out)) and now.owner.pid == second.pid), 60)
            first.send_signal(signal.SIGCONT)
            while first.poll() is None or second.poll() is None:
                if (now := head(out)) is not None:
                    owners.add(now.owner.pid)
                time.sleep(0.1)
            code, said = ended(second)
            mine = owners == {second.pid}
        first_code = first.wait(60)
    log = stage.text("paused.log").strip()
    final = head(out)
    return {
        "same": stage.right(code, said), "code": code, "paused_code": first_code, "only_owner": mine,
        "paused_said": log.splitlines()[-1] if log else "", "claims": final and final.claims,
        "state": final and final.state,
    }  # fmt: skip


def main() -> None:
    checks: dict[str, bool] = {}
    figures: dict[str, Any] = {"lease_seconds": float(LEASE)}
    with (
        clusters.scratch() as place,
        serving(),
        clusters.fixed(place, head={"num_cpus": 6}) as cluster,
        tempfile.TemporaryDirectory(dir=place) as folder,
    ):
        for where in ("disk", "S3"):
            logs = Path(folder, where)
            logs.mkdir()
            stage = Stage(logs, f"s3://{BUCKET}/resume" if where == "S3" else str(logs), cluster.address)
            resumed = killed_and_resumed(stage)
            say(where, resumed)
            double = two_at_once(stage)
            say(where, double)
            stopped = paused(stage)
            say(where, stopped)
            found = {
                "killed, resumed on two workers of three: equal digests": resumed["same"],
                "it went on from a snapshot": (resumed["snapshot"] or 0) > 0,
                "two resumes at once: one works, with equal digests": double["codes"] == [0, 2] and all(double["same"]),
                "the other is told who works": double["named"],
                "a paused driver commits nothing": stopped["only_owner"],
                "it ends with an error": stopped["paused_code"] not in (0, None),
                "who took over ends with equal digests": stopped["same"] and stopped["state"] == "finished",
            }
            checks |= {f"{where}: {name}": held for name, held in found.items()}
            figures[where] = {"resumed": resumed, "two_at_once": double, "paused": stopped}
    report("drivers killed, doubled and paused, on disk and on S3", checks, figures)


if __name__ == "__main__":
    main()
