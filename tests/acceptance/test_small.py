"""A small form of the acceptance lines, and the runner itself."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raytile.api import plan
from raytile.events import StepDone
from tests.acceptance import core_digests, core_evaluations, elastic_soak, run
from tests.acceptance.common import ROOT, bare_environment
from tests.acceptance.core_ci import CLOSING
from tests.acceptance.core_demo import seam_ratio
from tests.acceptance.watch import Watch, picture, step, words


def test_the_network_sees_the_canvas_as_often_as_promised() -> None:
    for side, most in ((1024, 1.27), (4096, 1.064)):  # 8 and 32 windows of the toy model
        share, promised = core_evaluations.window_share("toy", side, "none")
        assert 1 < share <= promised <= most
    assert core_evaluations.window_share("toy", 1024, "xy")[0] == 1.0
    assert core_evaluations.window_share("toy", 1024, "x")[0] <= 9 / 8


def test_runs_do_what_was_planned_in_even_shares() -> None:
    request = core_evaluations.wish(601, 389, model="toy", steps=3)
    assert core_evaluations.agree(core_evaluations.run_and_plan(request, 3, True))
    assert core_evaluations.widest_gap(plan(request), 5) <= 1


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_digests_are_equal_here_and_on_ray() -> None:
    for _, request in list(core_digests.requests("toy", "toy", steps=2))[1:3]:  # shift wrapped, overlap on a plane
        assert len(set(core_digests.compare(request, (1, 2)).values())) == 1


@pytest.mark.ray
def test_workers_ask_for_gpus_where_there_are_any() -> None:
    """In a process of its own: this one may have a Ray without GPUs."""
    code = (
        "import json; from raytile.plan.request import RenderRequest; from tests.acceptance import core_digests as d\n"
        "request = RenderRequest(prompt='x', width=300, height=200, model='toy', steps=2)\n"
        "print(json.dumps([d.on_logical_gpus(request, 2), d.digests(request, 1, True)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240, check=True
    )
    placed, alone = json.loads(done.stdout.splitlines()[-1])
    assert placed == {"workers": 2, "gpus_free": 0, "digests": alone}


def script(folder: Path, name: str, body: str) -> None:
    (folder / f"{name}.py").write_text(body)


def test_the_runner_keeps_figures_and_fails_when_a_line_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = 'import json; print("noise"); print(json.dumps({"line": "ok", "passed": True, "figures": {"n": 1}}))'
    script(tmp_path, "some_good", good)
    script(tmp_path, "some_liar", good + "; raise SystemExit(3)")
    script(tmp_path, "some_mute", "print('nothing')")
    script(tmp_path, "other_good", good)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    kept = tmp_path / "accept"

    def accept(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = run.main(arguments, tmp_path, kept)
        return code, json.loads((kept / "some.json").read_text())["lines"]

    code, lines = accept("some", "--only", "good")
    assert code == 0
    assert set(lines) == {"some_good"}
    assert lines["some_good"]["figures"] == {"n": 1}
    assert {"commit", "date", "load", "seconds"} <= set(lines["some_good"])
    code, lines = accept("some")
    assert code == 1
    assert {name: line["passed"] for name, line in lines.items()} == {
        "some_good": True,
        "some_liar": False,
        "some_mute": False,
    }
    assert "1 of 3 lines hold" in capsys.readouterr().out
    assert run.main(["nosuch"], tmp_path, kept) == 2


def test_every_line_is_found() -> None:
    found = run.lines(Path(run.__file__).parent, "core", "")
    assert {"core_ci", "core_demo", "core_digests", "core_evaluations"} <= set(found)
    assert run.lines(Path(run.__file__).parent, "core", "ci") == ["core_ci"]
    assert not [name for name in found if name.startswith("test_")]


def test_a_bare_environment_has_no_environment_of_python(tmp_path: Path) -> None:
    bare = bare_environment(tmp_path / "home")
    assert bare["HOME"] == str(tmp_path / "home")
    assert not {"VIRTUAL_ENV", "PYTHONPATH", "RAY_ADDRESS"} & set(bare)
    assert str(Path(sys.executable).parent) not in bare["PATH"].split(os.pathsep)


@pytest.mark.parametrize(
    "line", ["121 passed in 200.03s (0:03:20)", "=== 3 passed, 1 warning in 1.20s ===", "1 failed, 4 passed in 2.00s"]
)
def test_the_closing_line_of_pytest_is_known(line: str) -> None:
    assert CLOSING.match(line)


def test_a_seam_shows_in_the_seam_ratio() -> None:
    import numpy as np

    picture = np.random.default_rng(0).normal(size=(64, 256, 3)).cumsum(axis=1)
    assert seam_ratio(picture, 128) == pytest.approx(1, abs=0.2)
    picture[:, 128:] += 9
    assert seam_ratio(picture, 128) > 5


def test_make_demo_paints_the_planet_on_one_worker_a_core() -> None:
    said = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo", "VENV=v"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.replace("\\\n", " ")
    (render,) = [line for line in said.splitlines() if " render " in line]
    for word in ("--size 2048x1024", "--wrap x", "--out out/planet.zarr", "--png out/planet.png", "-u RAY_ADDRESS"):
        assert word in render
    assert "--workers" not in render
    assert "pip install" in said


def test_the_constraints_pin_every_package_once() -> None:
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert pins == sorted(set(pins))
    assert all(pin.count("==") == 1 and "+" not in pin and "/" not in pin for pin in pins)


@pytest.mark.ray
def test_renders_with_kills_over_one_ray_leave_nothing(ray_cluster: str, tmp_path: Path) -> None:
    found = elastic_soak.soak(tmp_path, ray_cluster, renders=4, pools=1, moments=random.Random(1))
    assert (found["failed"], found["same"], found["killed"]) == ([], 4, 1)
    assert (found["left"], found["actors"], found["stored_at_the_end"]) == ([], [0], 0)


def test_the_command_line_of_a_picture_asks_for_that_picture(capsys: pytest.CaptureFixture[str]) -> None:
    from raytile.cli import main

    request = picture(steps=7, width=700)
    asked = words(request, "a.zarr", "--json")
    assert main(["plan", *asked[1:]]) == 0
    assert json.loads(capsys.readouterr().out)["plan_hash"] == plan(request).hash


def test_a_watch_strikes_once_at_its_moment() -> None:
    struck: list[int] = []
    watch = Watch(lambda seen: struck.append(seen.told["StepDone"]), at=step(0.5))
    for done in range(1, 7):
        watch(StepDone(level=0, levels=1, step=done, steps=6, done=done, total=6))
    assert watch.timer is not None
    watch.timer.join(5)
    assert len(struck) == 1
    assert 3 <= struck[0] <= 6
