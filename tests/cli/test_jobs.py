"""Renders as Ray jobs, on a real head: progress in the log, a stop that keeps the canvas, a second job that goes on."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytile.api import render
from raytile.canvas import store
from raytile.plan.request import RenderRequest
from tests.cli.jobs import BIN, EXAMPLES, job_head, wait_for, wait_over

STEPS = 12
PICTURE: dict[str, Any] = {
    "prompt": "islands",
    "width": 600,
    "height": 392,
    "model": "timed:seconds=0.01",
    "steps": STEPS,
}
PATIENT = {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
"""Ray kills a stopped job after three seconds otherwise, which is long enough, but not on a busy machine."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with job_head(tmp_path_factory.mktemp("head"), RAYTILE_TIMED_SLOWER="6", **PATIENT) as found:
        yield found


def command(out: Path, workers: str) -> list[str]:
    size = f"{PICTURE['width']}x{PICTURE['height']}"
    asked = ["--size", size, "--model", str(PICTURE["model"]), "--steps", str(STEPS), "--snapshot-every", "2"]
    return ["raytile", "render", str(PICTURE["prompt"]), *asked, "--workers", workers, "--out", str(out), "--resume"]


@pytest.mark.ray
def test_a_job_is_stopped_and_another_goes_on(address: str, tmp_path: Path) -> None:
    from ray.job_submission import JobStatus, JobSubmissionClient

    out = tmp_path / "a.zarr"
    client = JobSubmissionClient(address)
    job = client.submit_job(entrypoint=shlex.join(command(out, "1")))
    log = wait_for(client, job, "level 2 of 2, step")
    assert "starting workers" in log

    client.stop_job(job)
    assert wait_over(client, job).status == JobStatus.STOPPED
    log = client.get_job_logs(job)
    assert "error: stopped; the canvas" in log.splitlines()[-1], log
    assert store.open(out).head().state == "cancelled"

    again = subprocess.run(
        [sys.executable, str(EXAMPLES / "submit.py"), "--address", address, "--", *command(out, "2")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    assert "painted 600 x 392" in again.stdout
    head = store.open(out).head()
    assert head.claims == 1
    whole = render(RenderRequest.parse(**PICTURE), tmp_path / "b.zarr", in_process=True)
    assert (head.summary or {})["pixels_sha256"] == (whole.head().summary or {})["pixels_sha256"]


@pytest.mark.ray
def test_the_example_batch_runs_as_a_job(address: str, tmp_path: Path) -> None:
    """With the working directory that the guide uploads."""
    how = ["--size", "96x64", "--model", "toy", "--steps", "2", "--in-process", "--out", str(tmp_path / "all")]
    submit = [str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", str(EXAMPLES), "--"]
    done = subprocess.run(
        [*submit, "raytile", "batch", "prompts.jsonl", *how], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "all" / "manifest.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows][-1] == "wide-coast"
    assert len(rows) == len((EXAMPLES / "prompts.jsonl").read_text().splitlines())
