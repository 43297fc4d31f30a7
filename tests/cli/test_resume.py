"""Resume, cancel and render --resume, as typed: what goes on, what is refused, and who is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raytile.canvas import store
from raytile.canvas.head import Head
from raytile.cli import main

PICTURE = ("x", "--size", "600x392", "--model", "timed:seconds=0.01", "--steps", "12")
SMALL = ("x", "--size", "300x200", "--model", "toy", "--steps", "3", "--in-process")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("RAYTILE_LEASE", "2")


def raytile(*args: str) -> subprocess.Popen[str]:
    """The command in a process of its own, where the module is slow enough to be stopped in the middle."""
    environment = {**os.environ, "RAYTILE_TIMED_SLOWER": "6"}
    command = [sys.executable, "-m", "raytile", *args]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def painting(out: str) -> subprocess.Popen[str]:
    """A render in a process of its own, which is past its first level."""
    run = raytile("render", *PICTURE, "--in-process", "--out", out, "--snapshot-every", "2")
    assert run.stderr is not None
    for line in run.stderr:
        if "level 2 of 2, step" in line:
            break
    return run


def said(run: subprocess.Popen[str]) -> tuple[int, str]:
    assert run.stderr is not None
    words = run.stderr.read()
    return run.wait(timeout=60), words


def summary(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main([*args, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def head(out: str) -> Head:
    return store.open(out).head()


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the undisturbed picture."""
    out = tmp_path_factory.mktemp("whole") / "whole.zarr"
    assert main(["render", *PICTURE, "--in-process", "--quiet", "--out", str(out)]) == 0
    return str((store.open(out).head().summary or {})["pixels_sha256"])


def test_what_was_killed_goes_on_to_the_same_picture(pixels: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = painting("a.zarr")
    run.kill()
    assert said(run)[0] == -signal.SIGKILL
    assert head("a.zarr").state == "running"
    assert head("a.zarr").snapshot
    found = summary(capsys, "resume", "a.zarr", "--in-process", "--workers", "2", "--png", "a.png")
    assert found["pixels_sha256"] == pixels
    assert found["workers"] == 2
    assert head("a.zarr").state == "finished"
    assert Path("a.png").stat().st_size > 1000


def test_a_live_owner_is_named_and_left_alone_and_cancel_stops_it(
    pixels: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = painting("a.zarr")
    assert main(["resume", "a.zarr", "--in-process"]) == 2
    assert f"process {run.pid} on " in capsys.readouterr().err
    assert main(["cancel", "a.zarr"]) == 0
    assert f"process {run.pid} on " in capsys.readouterr().out
    code, words = said(run)
    assert code == 130
    assert "error: stopped" in words.splitlines()[-1]
    assert head("a.zarr").state == "cancelled"
    assert summary(capsys, "resume", "a.zarr", "--in-process")["pixels_sha256"] == pixels


def test_cancel_says_that_an_owner_is_dead_or_has_finished(capsys: pytest.CaptureFixture[str]) -> None:
    run = painting("a.zarr")
    run.kill()
    said(run)
    assert main(["cancel", "a.zarr"]) == 0
    assert "a.zarr is cancelled" in capsys.readouterr().out
    assert main(["render", *SMALL, "--out", "b.zarr", "--quiet"]) == 0
    assert main(["cancel", "b.zarr"]) == 2
    assert "is finished" in capsys.readouterr().err


def test_render_resume_starts_goes_on_and_leaves_alone(pixels: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["render", *PICTURE, "--in-process", "--out", "a.zarr", "--resume", "--png", "a.png"]
    run = raytile(*command)
    assert run.stderr is not None
    for line in run.stderr:
        if "level 2 of 2, step" in line:
            break
    run.send_signal(signal.SIGTERM)
    assert said(run)[0] == 130
    assert summary(capsys, *command)["pixels_sha256"] == pixels
    before = head("a.zarr")
    assert main(command) == 0
    words = capsys.readouterr().err
    assert "finished already" in words
    assert "step" not in words.partition("evaluations")[0]
    assert head("a.zarr") == before
    assert main([*command, "--seed", "4"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert head("a.zarr") == before


def test_resume_does_not_replace_a_file_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", *SMALL, "--out", "a.zarr", "--quiet"]) == 0
    Path("a.png").write_text("mine")
    assert main(["resume", "a.zarr", "--in-process", "--png", "a.png"]) == 2
    assert "exists" in capsys.readouterr().err
    assert Path("a.png").read_text() == "mine"
    assert main(["render", *SMALL, "--out", "b.zarr", "--resume", "--png", "a.png"]) == 2
    assert not os.path.exists("b.zarr")
    assert main(["resume", "a.zarr", "--in-process", "--png", "a.png", "--overwrite"]) == 0
    assert Path("a.png").stat().st_size > 1000
