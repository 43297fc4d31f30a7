"""`raytile batch`: every line is checked before any work, pictures are painted once, and the manifest says which."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from raytile import api
from raytile.batch import default_name, read_orders
from raytile.canvas import store
from raytile.canvas.canvas import Canvas
from raytile.cli import main
from raytile.errors import InvalidRequest, RaytileError, RenderCancelled, RenderFailed
from raytile.plan.request import RenderRequest
from raytile.scenes import Layer
from tests.s3 import BUCKET, Server

DEFAULTS = [Layer("", {"width": 100, "height": 80, "model": "toy", "steps": 2})]
HOW = ("--size", "100x80", "--model", "toy", "--steps", "2", "--in-process", "--out", "all")
LINES = [{"prompt": "Red hills"}, {"prompt": "a sea", "seed": 5}, {"prompt": "x", "name": "wide", "width": 200}]
NAMES = ["red-hills-0", "a-sea-5", "wide"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def prompts(*lines: dict[str, Any] | str) -> str:
    """A file of these lines; its name."""
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    Path("prompts.jsonl").write_text("\n".join(text) + "\n")
    return "prompts.jsonl"


def rows(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["{"], "line 1: not JSON"),
        (["[" * 100_000], "line 1: not JSON"),
        (["[1]"], "line 1: must be a JSON object"),
        ([{"prompt": "x"}, "", {"prompt": 3}], "line 3: prompt: .*string"),
        ([{"seed": 3}], "line 1: prompt: "),
        ([{"prompt": "x", "sede": 3}], "line 1: sede: "),
        ([{"prompt": "x", "width": 0}], "line 1: width: .*greater"),
        ([{"prompt": "x", "sampler": "nosuch"}], "line 1: sampler: .*choose from"),
        ([{"prompt": "x", "model": "nosuch"}], "line 1: no model 'nosuch'"),
        ([{"prompt": "x", "name": "../x"}], "line 1: name: "),
        ([{"prompt": "x", "name": 7}], "line 1: name: "),
        ([{"prompt": "x"}, {"prompt": "y"}, {"prompt": "x"}], "line 3: its name 'x-0' is that of line 1 too"),
        ([], "has no lines"),
        (["\xff"], "not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_with_its_number(lines: list[Any], words: str) -> None:
    file = prompts(*lines)
    if words == "not UTF-8":
        Path(file).write_bytes(b"\xff\xfe")
    with pytest.raises(RaytileError, match=words) as found:
        read_orders(file, DEFAULTS)
    assert found.value.exit_code == 2


def test_a_line_needs_a_size_from_somewhere() -> None:
    with pytest.raises(InvalidRequest, match=r"line 1: height: missing: .*--size"):
        read_orders(prompts({"prompt": "x", "width": 100}), [])
    (order,) = read_orders(prompts({"prompt": "x", "width": 8, "height": 16, "model": "toy"}), [])
    assert (order.plan.request.width, order.plan.request.height) == (8, 16)


def test_jpeg_has_its_limits() -> None:
    file = prompts({"prompt": "x", "width": 70_000})
    with pytest.raises(InvalidRequest, match="line 1: JPEG holds"):
        read_orders(file, DEFAULTS, "jpg")
    assert read_orders(file, DEFAULTS, "png")


def test_lines_overrule_options() -> None:
    first, second, third = read_orders(prompts(*LINES), [*DEFAULTS, Layer("", {"seed": 9})])
    assert (first.name, first.plan.request.seed, first.plan.request.width) == ("red-hills-9", 9, 100)
    assert (second.name, second.plan.request.seed) == ("a-sea-5", 5)
    assert (third.line, third.name, third.plan.request.width) == (3, "wide", 200)


def test_prompts_that_their_words_cannot_tell_apart_have_names_of_their_own() -> None:
    long = "a very long caption of a picture " * 3
    alike = [long + "one", long + "two", "日本", "中国", "café", "caf", "a, b", "a b c"]
    names = [default_name(RenderRequest(prompt=prompt, width=8, height=8)) for prompt in alike]
    assert len(set(names)) == len(alike)
    assert all(re.fullmatch(r"[a-z0-9-]{1,70}", name) for name in names)
    assert names[-2:] == ["a-b-0", "a-b-c-0"]


def test_nothing_is_painted_while_a_line_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", prompts(*LINES, {"prompt": "x", "seed": -1}), *HOW]) == 2
    assert "error: line 4: seed" in capsys.readouterr().err
    assert not Path("all").exists()
    assert main(["batch", "nosuch.jsonl", *HOW]) == 2


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def render(*_: Any, **__: Any) -> None:
        raise AssertionError("painted again")

    monkeypatch.setattr(api, "render", render)
    monkeypatch.setattr(api, "make_pool", render)


def test_pictures_manifest_and_metadata_and_only_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    assert main(["batch", prompts(*LINES), *HOW, "--pictures", "png", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"out": "all", "pictures": 3, "there_before": 0, "failed": {}}
    manifest = rows("all/manifest.jsonl")
    assert [row["name"] for row in manifest] == NAMES
    assert [row["caption"] for row in manifest] == [line["prompt"] for line in LINES]
    for row in manifest:
        canvas = store.open(Path("all", row["file"]))
        summary = canvas.head().summary or {}
        assert row["pixels_sha256"] == summary["pixels_sha256"]
        assert RenderRequest.parse(**row["request"]) == canvas.head().request
    metadata = rows("all/pictures/metadata.jsonl")
    assert [(row["file_name"], row["text"]) for row in metadata] == [
        (f"{row['name']}.png", row["caption"]) for row in manifest
    ]
    with Image.open(Path("all/pictures", metadata[2]["file_name"])) as picture:
        assert picture.size == (200, 80)
    forbid(monkeypatch)
    before = Path("all/manifest.jsonl").read_bytes()
    assert main(["batch", "prompts.jsonl", *HOW, "--pictures", "png"]) == 0
    assert "3 pictures, 3 of them there before" in capsys.readouterr().err
    assert Path("all/manifest.jsonl").read_bytes() == before


def test_each_is_the_picture_that_render_paints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", prompts(*LINES), *HOW, "--quiet"]) == 0
    one = ["render", "x", "--size", "200x80", "--model", "toy", "--steps", "2", "--in-process", "--json"]
    assert main([*one, "--out", "one.zarr"]) == 0
    alone = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert rows("all/manifest.jsonl")[2]["pixels_sha256"] == alone["pixels_sha256"]


def test_later_lines_join_the_manifest_and_others_stay(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", prompts(*LINES[:1]), *HOW, "--quiet"]) == 0
    assert main(["batch", prompts(LINES[1], LINES[2]), *HOW, "--quiet"]) == 0
    assert [row["name"] for row in rows("all/manifest.jsonl")] == NAMES
    Path("all/manifest.jsonl").write_text("mine\n")
    assert main(["batch", "prompts.jsonl", *HOW]) == 2
    assert "all/manifest.jsonl is not of a batch" in capsys.readouterr().err
    assert Path("all/manifest.jsonl").read_text() == "mine\n"


def test_a_line_that_changed_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["batch", prompts(LINES[2]), *HOW, "--quiet"]) == 0
    forbid(monkeypatch)
    assert main(["batch", prompts(LINES[0], {**LINES[2], "seed": 6}), *HOW]) == 2
    said = capsys.readouterr().err
    assert "line 2:" in said
    assert "wide.zarr is another picture" in said


def test_a_picture_is_that_of_its_canvas_and_a_caption_may_have_any_character() -> None:
    import shutil

    import numpy as np
    from PIL import Image

    for seed in (1, 2, 2):
        line = {"prompt": "a\u2028b\x85c", "name": "a", "seed": seed}
        assert main(["batch", prompts(line), *HOW, "--quiet", "--pictures", "png"]) == 0
        (row,) = (json.loads(text) for text in Path("all/pictures/metadata.jsonl").read_text().split("\n") if text)
        assert (row["text"], row["seed"]) == (line["prompt"], seed)
        with Image.open("all/pictures/a.png") as picture:
            shown = np.asarray(picture).transpose(2, 0, 1)
        np.testing.assert_array_equal(shown, store.open("all/a.zarr").image[:])
        if seed == 1:
            shutil.rmtree("all/a.zarr")  # as one is told when a line has changed


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    """Let the render of this name fail."""
    whole = api.render

    def render(request: RenderRequest, out: str, **options: Any) -> Canvas:
        if Path(out).stem == name:
            raise error
        return whole(request, out, **options)

    monkeypatch.setattr(api, "render", render)


def test_one_that_fails_is_named_and_the_others_are_painted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, NAMES[0], RenderFailed("no such luck"))
        assert main(["batch", prompts(*LINES), *HOW]) == 1
    said = capsys.readouterr().err.splitlines()
    assert "red-hills-0 failed: no such luck" in said
    assert said[-1].startswith("error: 1 of 3 pictures failed")
    assert "red-hills-0 (line 1): no such luck" in said[-1]
    assert [row["name"] for row in rows("all/manifest.jsonl")] == NAMES[1:]
    assert main(["batch", "prompts.jsonl", *HOW]) == 0
    assert "3 pictures, 2 of them there before" in capsys.readouterr().err
    assert {row["name"] for row in rows("all/manifest.jsonl")} == set(NAMES)


def test_or_nothing_more_is_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, NAMES[1], ValueError("unforeseen"))
    assert main(["batch", prompts(*LINES), *HOW, "--stop"]) == 1
    assert [row["name"] for row in rows("all/manifest.jsonl")] == NAMES[:1]


@pytest.mark.parametrize("stop", [RenderCancelled("stopped; the canvas is kept"), KeyboardInterrupt()])
def test_a_stop_keeps_what_is_done_and_the_same_command_goes_on(
    stop: BaseException, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, NAMES[1], stop)
        assert main(["batch", prompts(*LINES), *HOW]) == 130
    assert "error: stopped" in capsys.readouterr().err.splitlines()[-1]
    assert [row["name"] for row in rows("all/manifest.jsonl")] == NAMES[:1]
    assert main(["batch", "prompts.jsonl", *HOW]) == 0
    assert [row["name"] for row in rows("all/manifest.jsonl")] == NAMES


@pytest.mark.ray
def test_one_pool_paints_all_of_them(ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers are the same for every picture."""
    del ray_cluster
    seen: list[int] = []
    whole = api.render

    def render(*args: Any, **options: Any) -> Canvas:
        seen.append(id(options["pool"]))
        return whole(*args, **options)

    monkeypatch.setattr(api, "render", render)
    how = [option for option in HOW if option != "--in-process"]
    assert main(["batch", prompts(*LINES), *how, "--workers", "2", "--quiet"]) == 0
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert [row["name"] for row in rows("all/manifest.jsonl")] == NAMES


def test_a_batch_in_a_bucket(s3: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Canvases, manifest and pictures lie there, readable by whoever has the bucket; info and export take its URLs."""
    out = f"s3://{BUCKET}/atlas"
    how = [*HOW[:-1], out, "--pictures", "png"]
    assert main(["batch", prompts(*LINES[:2]), *how, "--quiet"]) == 0

    def read(key: str) -> bytes:
        return bytes(s3.client().get_object(Bucket=BUCKET, Key=f"atlas/{key}")["Body"].read())

    manifest = [json.loads(line) for line in read("manifest.jsonl").splitlines()]
    assert [row["name"] for row in manifest] == NAMES[:2]
    assert [json.loads(line)["text"] for line in read("pictures/metadata.jsonl").splitlines()] == ["Red hills", "a sea"]
    assert main(["info", f"{out}/{NAMES[1]}.zarr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pixels_sha256"] == manifest[1]["pixels_sha256"]
    assert main(["export", f"{out}/{NAMES[1]}.zarr", "b.png"]) == 0
    assert Path("b.png").read_bytes() == read(f"pictures/{NAMES[1]}.png")
    forbid(monkeypatch)
    assert main(["batch", "prompts.jsonl", *how, "--quiet"]) == 0
