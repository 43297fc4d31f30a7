"""The command: what it prints where, what it returns, what it leaves behind. Renders are of the toy model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from raytile import cli_options, cli_picture, scenes
from raytile.canvas import store
from raytile.cli import main
from raytile.errors import InvalidRequest
from raytile.plan.request import RenderRequest

SMALL = ("--size", "300x200", "--model", "toy", "--steps", "3", "--in-process")
SUMMARY = {
    "canvas", "width", "height", "model", "seed", "sync", "workers", "evaluations", "evaluations_padded",
    "evaluations_planned", "evaluations_per_megapixel", "bytes_exchanged", "bytes_planned", "seconds",
    "latents_sha256", "pixels_sha256", "peak_rss_bytes", "restarts", "steps_redone",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory, wide enough that no line is cut."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def refused(capsys: pytest.CaptureFixture[str], *args: str, code: int = 2) -> str:
    """The one line of the error that `raytile args` ends with."""
    assert main(args) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_render_leaves_a_canvas_and_a_picture_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    assert main(["render", "Red hills, by the sea!", *SMALL, "--seed", "4", "--png", "a.png"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "painted 300 x 200" in captured.err
    canvas = store.open(tmp_path / "red-hills-by-the-sea-4.zarr")
    assert canvas.head().state == "finished"
    assert canvas.head().request.seed == 4
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (300, 200)


def test_json_is_one_document_on_the_last_line_of_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "x", *SMALL, "--workers", "2", "--out", "a.zarr", "--json"]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out.splitlines()[-1])
    assert set(summary) >= SUMMARY
    assert set(summary["seconds"]) >= {"total", "load", "denoise", "decode"}
    assert set(summary["peak_rss_bytes"]) == {"driver", "workers"}
    assert summary["workers"] == 2
    assert summary["evaluations"] == summary["evaluations_planned"]
    assert summary["bytes_exchanged"] == summary["bytes_planned"] > 0
    assert "step" in captured.err


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "x", *SMALL, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_plan_foretells_what_the_run_then_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = ("x", *SMALL, "--workers", "3", "--sync", "overlap", "--out", "a.zarr", "--json")
    assert main(["plan", *same]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert not list(tmp_path.iterdir())
    assert main(["render", *same]) == 0
    summary = json.loads(capsys.readouterr().out)
    for name in ("evaluations", "evaluations_padded", "evaluations_per_megapixel"):
        assert planned[name] == summary[name]
    assert planned["bytes"] == summary["bytes_exchanged"]
    assert planned["plan_hash"] == store.open(tmp_path / "a.zarr").head().plan_hash
    assert sum(planned["tiles"]) == planned["tiles_total"]
    assert planned["memory"]["total"] > 0


def test_plan_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "x", "--size", "2048x1024", "--model", "toy", "--wrap", "x", "--workers", "2"]) == 0
    text = capsys.readouterr().out
    for word in ("2048 x 1024", "level 4", "evaluations", "per megapixel", "messages", "bytes", "memory", "2, with 16"):
        assert word in text


@pytest.mark.parametrize(("workers", "count"), [("2", 2), ("2..3", 3), ("auto", os.cpu_count())])
def test_plan_takes_the_larger_number_of_a_range(workers: str, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "x", "--size", "300x200", "--model", "toy", "--workers", workers, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["workers"] == count


def test_info_export_and_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "x", *SMALL, "--out", "a.zarr", "--quiet"]) == 0
    assert main(["info", "a.zarr", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["width"], facts["height"], facts["state"]) == (300, 200, "finished")
    assert main(["info", "a.zarr"]) == 0
    assert "finished" in capsys.readouterr().out
    assert main(["export", "a.zarr", "a.png"]) == 0
    assert (tmp_path / "a.png").is_file()
    assert "exists" in refused(capsys, "export", "a.zarr", "a.png")
    assert main(["export", "a.zarr", "a.png", "--overwrite"]) == 0
    assert main(["models"]) == 0
    assert "toy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--size", "300by200"], "size: write WIDTHxHEIGHT"),
        (["--size", "0x200"], "width: .*greater than or equal to 1"),
        (["--size", "99999999x200"], "width: .*less than or equal to"),
        (["--size", "300x200", "--wrap", "x"], "width: a wrapped side must be a multiple of 8 pixels: 296 or 304"),
        (["--size", "300x200", "--model", "nosuch"], "no model 'nosuch'"),
        (["--size", "300x200", "--sampler", "nosuch"], "sampler: .*choose from"),
        (["--size", "300x200", "--sync", "nosuch"], "'shift', 'overlap'"),
        (["--size", "300x200", "--levels", "two"], "levels: write auto or a number"),
        (["--size", "300x200", "--levels", "9"], "levels: this size has room for"),
        (["--size", "300x200", "--steps", "many"], "steps"),
        (["--size", "300x200", "--tile", "100"], "tile: must be a multiple"),
        (["--size", "300x200", "--workers", "0"], "workers: must be 1 to"),
        (["--size", "300x200", "--workers", "5..2"], "workers: .*the smaller first"),
        (["--size", "300x200", "--workers", "many"], "workers: write a number, a range such as 2..16, or auto"),
        (["--size", "300x200", "--snapshot-every", "-1"], "snapshot-every"),
        (["--size", "300x200", "--resume", "--overwrite"], "give one of them"),
        (["--size", "300x200", "--worker-resources", "{"], "worker resources: not JSON"),
        (["--size", "300x200", "--out", "a.png"], "ends in .zarr"),
        (["--size", "300x200", "--out", "/dev/null/a.zarr"], "not a directory"),
        (["--size", "300x200", "--out", "/proc/a.zarr"], "0 bytes free|not writable"),
        (["--size", "300x200", "--png", "a.gif"], "must end in one of .png"),
        (["--size", "300x200", "--png", "nowhere/a.png"], "no directory"),
        (["--size", "300x200", "--nosuch"], "No such option"),
        ([], "size: missing: give --size WIDTHxHEIGHT"),
    ],
)
def test_what_cannot_be_is_one_line_exit_code_2_and_nothing_written(
    args: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if "--model" in args else ["--model", "toy"]
    line = refused(capsys, "render", "x", *args, *model, "--in-process")
    assert re.search(words, line), line
    assert not list(tmp_path.iterdir())


def test_what_workers_ask_for_may_stand_in_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYTILE_WORKER_RESOURCES", "{")
    assert "worker resources: not JSON" in refused(capsys, "render", "x", *SMALL)


def test_what_stands_there_is_not_overwritten_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png = tmp_path / "a.png"
    png.write_text("mine")
    assert "a.png exists" in refused(capsys, "render", "x", *SMALL, "--png", "a.png")
    assert png.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [png]
    assert main(["render", "x", *SMALL, "--quiet"]) == 0
    assert "--overwrite" in refused(capsys, "render", "x", *SMALL)
    assert main(["render", "x", *SMALL, "--png", "a.png", "--overwrite", "--quiet"]) == 0
    assert png.stat().st_size > 1000


def test_unknown_commands_and_canvases_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nosuch" in refused(capsys, "nosuch")
    assert "no canvas" in refused(capsys, "info", "nosuch.zarr")
    assert "no canvas" in refused(capsys, "export", "nosuch.zarr", "a.png")
    assert "no canvas" in refused(capsys, "resume", "nosuch.zarr", "--in-process")
    assert "no canvas" in refused(capsys, "resume", "nosuch.zarr", "--in-process", "--png", "a.png")
    assert "no canvas" in refused(capsys, "cancel", "nosuch.zarr")


@pytest.mark.parametrize(
    ("trouble", "code", "words"),
    [
        (OSError(28, "No space left on device", "/full"), 1, "No space left on device: /full"),
        (RuntimeError("several\nlines"), 1, "unexpected RuntimeError: several lines"),
        (KeyboardInterrupt(), 130, "stopped before anything was painted"),
    ],
)
def test_the_unforeseen_is_one_line_too(
    trouble: BaseException, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise trouble

    monkeypatch.setattr("raytile.api.render", fail)
    assert words in refused(capsys, "render", "x", *SMALL, code=code)
    monkeypatch.setenv("RAYTILE_DEBUG", "1")
    assert main(["render", "x", *SMALL]) == code
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_render_and_the_canvas_says_how_it_stands(stop: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "raytile", "render", "x", "--size", "2048x2048", "--model", "timed:seconds=0.05"]
    run = subprocess.Popen([*command, "--in-process", "--out", "a.zarr"], stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    for line in run.stderr:
        if "step" in line:
            break
    run.send_signal(stop)
    said = run.stderr.read()
    assert run.wait(timeout=60) == 130
    assert "Traceback" not in said
    assert "error: stopped; the canvas" in said.splitlines()[-1]
    assert store.open(tmp_path / "a.zarr").head().state == "cancelled"


@pytest.mark.ray
def test_sigterm_is_heeded_on_a_ray_of_our_own_with_its_token(tmp_path: Path) -> None:
    """In the mode that a plain start of Ray has: with a token, which it writes to the home directory."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_AUTH_MODE", "RAY_ADDRESS")}
    command = [sys.executable, "-m", "raytile", "render", "x", "--size", "2048x2048", "--model", "timed:seconds=0.1"]
    run = subprocess.Popen(
        [*command, "--workers", "1", "--out", "a.zarr", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert run.stderr is not None
    for line in run.stderr:
        if "step" in line:
            break
    run.send_signal(signal.SIGTERM)
    out, said = run.communicate(timeout=120)
    assert run.returncode == 130
    assert out == ""
    assert "error: stopped; the canvas" in said.splitlines()[-1]
    assert store.open(tmp_path / "a.zarr").head().state == "cancelled"


def test_options_are_those_of_the_request() -> None:
    """The choices are written out so that help need not load pydantic; here they are held to the request's."""
    hints = get_type_hints(RenderRequest)
    for name in ("wrap", "sync", "enlarge"):
        option = get_type_hints(cli_picture.PictureOptions)[name]
        assert get_args(get_args(option)[0]) == get_args(hints[name])
    assert cli_picture.PictureOptions().values() == {}
    assert set(vars(cli_picture.PictureOptions())) - set(hints) == {"cascade"}
    for preset in cli_picture.CASCADES.values():
        assert set(preset) <= set(hints)


@pytest.mark.parametrize(
    ("text", "size"), [("2048x1024", (2048, 1024)), (" 3 X 4 ", (3, 4)), ("65536×65536", (65536, 65536))]
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert scenes.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "12", "x", "3x", "-3x4", "3x4x5", "3.5x4"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InvalidRequest, match="size"):
        scenes.parse_size(text)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [("Ä, b/c", "b-c-7.zarr"), ("///", "picture-7.zarr"), ("a" * 99, "a" * 48 + "-7.zarr"), ("../etc", "etc-7.zarr")],
)
def test_the_canvas_is_named_after_the_prompt(prompt: str, name: str) -> None:
    assert cli_options.default_out(prompt, 7) == name
