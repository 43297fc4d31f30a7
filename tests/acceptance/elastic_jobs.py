"""Renders as Ray jobs, onto S3: stopped at several moments and gone on with by a second job; killed and tried again."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from raytile.api import render
from raytile.canvas import store
from raytile.plan.request import RenderRequest
from tests.acceptance import clusters
from tests.acceptance.common import report, say
from tests.cli.jobs import EXAMPLES, job_head, wait_for, wait_over
from tests.engine.renders import digests
from tests.s3 import BUCKET, serving

STEPS = 40
PICTURE: dict[str, Any] = {
    "prompt": "islands", "width": 600, "height": 392, "model": "timed:seconds=0.01", "steps": STEPS,
}  # fmt: skip
SLOWER = "6"
MOMENTS = ("starting workers", "level 1 of 2, step", "level 2 of 2, step")
RAY_WAITS = 3.0
"""Seconds that Ray leaves a stopped job, by default, before it kills it."""


def command(out: str, workers: str) -> list[str]:
    asked = ["--size", f"{PICTURE['width']}x{PICTURE['height']}", "--model", PICTURE["model"], "--steps", str(STEPS)]
    how = ["--workers", workers, "--snapshot-every", "4", "--out", out, "--resume"]
    return ["raytile", "render", PICTURE["prompt"], *asked, *how]


def state(out: str) -> str | None:
    return store.open(out).head().state if store.exists(out) else None


def submitted(log: str) -> int:
    """How many jobs the example says it submitted."""
    return sum(line.startswith("job raysubmit_") for line in log.splitlines())


def stopped(client: Any, out: str, moment: str) -> dict[str, Any]:
    """A job that is stopped when its log has the words of `moment`, and the job that goes on, with more workers."""
    job = client.submit_job(entrypoint=shlex.join(command(out, "2")))
    wait_for(client, job, moment)
    start = time.monotonic()
    client.stop_job(job)
    while state(out) not in ("cancelled", None) and time.monotonic() < start + 10:
        time.sleep(0.05)
    kept = time.monotonic() - start
    over = wait_over(client, job)
    first = {
        "stopped_at": moment,
        "status": str(over.status.value),
        "seconds_until_the_canvas_said_so": round(kept, 2),
        "seconds_until_the_job_was_over": round(time.monotonic() - start, 2),
        "left": state(out),
        "said": client.get_job_logs(job).strip().splitlines()[-1],
    }
    say(first)
    again = client.submit_job(entrypoint=shlex.join(command(out, "1..3")))
    over = wait_over(client, again)
    summary = store.open(out).head().summary or {}
    return {**first, "then": str(over.status.value), "digests": digests(summary) if summary else None}


def killed(address: str, out: str) -> dict[str, Any]:
    """The job's driver is killed without a word: the example submits the command again, which waits for the lease."""
    example = [sys.executable, str(EXAMPLES / "submit.py"), "--address", address, "--", *command(out, "2")]
    start = time.monotonic()
    with subprocess.Popen(example, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert run.stdout is not None
        lines = []
        for line in run.stdout:
            lines.append(line)
            if "level 2 of 2, step" in line:
                os.kill(store.open(out).head().owner.pid, signal.SIGKILL)
                break
        rest = run.stdout.read()
    head = store.open(out).head()
    return {
        "code": run.returncode,
        "jobs": submitted("".join(lines) + rest),
        "claims": head.claims,
        "seconds": round(time.monotonic() - start, 1),
        "digests": digests(head.summary) if head.summary else None,
    }


def refused(address: str, out: str) -> dict[str, Any]:
    """The command for another picture: the canvas stays as it is, and the example does not try again."""
    before = store.open(out).head()
    example = [sys.executable, str(EXAMPLES / "submit.py"), "--address", address, "--", *command(out, "2")]
    done = subprocess.run([*example, "--seed", "5"], capture_output=True, text=True)
    same = store.open(out).head() == before
    return {"code": done.returncode, "jobs": submitted(done.stdout), "canvas_as_it_was": same}


def main() -> None:
    from ray.job_submission import JobSubmissionClient

    with clusters.scratch() as place, serving(), tempfile.TemporaryDirectory(dir=place) as folder:
        calm = render(RenderRequest.parse(**PICTURE), Path(folder, "calm.zarr"), in_process=True).head().summary
        assert calm is not None
        with job_head(Path(folder), RAYTILE_TIMED_SLOWER=SLOWER) as address:
            client = JobSubmissionClient(address)
            rounds = [stopped(client, f"s3://{BUCKET}/{n}.zarr", moment) for n, moment in enumerate(MOMENTS)]
            crash = killed(address, f"s3://{BUCKET}/killed.zarr")
            other = refused(address, f"s3://{BUCKET}/killed.zarr")
    say(crash, other)
    checks = {
        "every stopped job was told, and kept its canvas": all(
            found["left"] in ("cancelled", None) and found["said"].startswith("error: stopped") for found in rounds
        ),
        "within the time that Ray leaves it": all(
            found["seconds_until_the_canvas_said_so"] < RAY_WAITS for found in rounds
        ),
        "the second job finishes the same picture": all(found["digests"] == digests(calm) for found in rounds),
        "a killed job is tried again and finishes the same picture": (crash["code"], crash["jobs"]) == (0, 2)
        and crash["digests"] == digests(calm),
        "another picture is refused, once, and the canvas left alone": other
        == {"code": 2, "jobs": 1, "canvas_as_it_was": True},
    }
    report(
        "ray job submit: renders, is stopped, a second job resumes",
        checks,
        {"stops": rounds, "killed": crash, "refused": other},
    )


if __name__ == "__main__":
    main()
