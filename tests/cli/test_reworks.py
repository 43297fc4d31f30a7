"""Commands that begin with a picture: what they take over from a canvas, what they leave alone, what they refuse."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raytile.canvas import store
from raytile.canvas.canvas import Canvas
from raytile.cli import main
from raytile.errors import InvalidRequest
from raytile.geometry.box import Box
from raytile.plan.request import RenderRequest
from raytile.reworks import extended, repainted, upscaled
from raytile.scenes import layer

QUICK = ("--in-process", "--quiet")
REGION = {"box": (0, 0, 128, 128), "feather": 16, "prompt": "ice", "seed": 9}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished canvas of 512 x 256 with a region, by other than the model's own choices."""
    folder = tmp_path_factory.mktemp("parent")
    words = {"prompt": "a sea", "size": "512x256", "model": "toy", "regions": [REGION], "negative": "fog"}
    (folder / "s.json").write_text(json.dumps(words))
    how = ("--steps", "4", "--guidance", "3", "--seed", "6", "--tile", "128", "--sampler", "euler")
    assert main(["render", "--scene", f"{folder}/s.json", *how, "--out", f"{folder}/p.zarr", *QUICK]) == 0
    return folder / "p.zarr"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def pixels(canvas: Canvas) -> Any:
    return np.asarray(canvas.image[:])


def contents(canvas: Path) -> str:
    """A digest of all files, names included."""
    found = sha256()
    for file in sorted(canvas.rglob("*")):
        found.update(str(file.relative_to(canvas)).encode() + (file.read_bytes() if file.is_file() else b""))
    return found.hexdigest()


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(args) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_what_is_enlarged_keeps_words_model_seed_and_regions(parent: Path) -> None:
    request = upscaled(str(parent), layer({"size": "1024x1024"}))
    assert (request.prompt, request.negative, request.model, request.seed) == ("a sea", "fog", "toy", 6)
    assert (request.steps, request.guidance, request.sampler) == (4, 3.0, "euler")
    assert (request.tile, request.levels, request.match_colour) == (None, "auto", True)
    (region,) = request.regions
    assert (region.box, region.feather, region.prompt, region.seed) == ((0, 0, 256, 512), 32, "ice", 9)
    assert request.source is not None
    assert request.source.path == str(parent)


def test_another_model_or_strategy_takes_its_own_choices(parent: Path) -> None:
    other = upscaled(str(parent), layer({"size": "1024x512", "model": "terra"}))
    assert (other.model, other.steps, other.guidance, other.sampler, other.seed) == ("terra", None, None, None, 6)
    assert upscaled(str(parent), layer({"size": "1024x512"})).stride == 1.0
    assert upscaled(str(parent), layer({"size": "1024x512", "sync": "overlap"})).stride == 0.5


def test_upscale_paints_a_larger_canvas_beside(parent: Path, tmp_path: Path) -> None:
    before = contents(parent)
    assert main(["upscale", str(parent), "--size", "1024x512", "--strength", "0.5", "--png", "a.png", *QUICK]) == 0
    canvas = store.open(tmp_path / "p-1024x512.zarr")
    request = canvas.head().request
    assert (request.width, request.height, request.strength, request.seed) == (1024, 512, 0.5, 6)
    with Image.open("a.png") as picture:
        assert picture.size == (1024, 512)
    assert contents(parent) == before


def test_upscale_takes_an_image_too(parent: Path, tmp_path: Path) -> None:
    assert main(["export", str(parent), "a.png"]) == 0
    how = ("--size", "768x384", "--model", "toy", "--steps", "3", "--prompt", "hills", "--no-match-colour", "--wrap")
    assert main(["upscale", "a.png", *how, "x", "--out", "b.zarr", *QUICK]) == 0
    request = store.open(tmp_path / "b.zarr").head().request
    assert (request.prompt, request.match_colour, request.wrap, request.seed) == ("hills", False, "x", 0)
    assert main(["upscale", "a.png", *how[:6], *QUICK]) == 0
    assert store.open(tmp_path / "a-768x384.zarr").head().request.prompt == ""


def test_repaint_changes_no_bit_outside_and_nothing_of_the_old(parent: Path, tmp_path: Path) -> None:
    before, old = contents(parent), store.open(parent)
    how = ("--box", "300,40,100,80", "--polygon", "420,200 460,200 440,240", "--feather", "8", "--prompt", "red")
    assert main(["repaint", str(parent), *how, "--out", "b.zarr", *QUICK]) == 0
    new = store.open(tmp_path / "b.zarr")
    request = new.head().request
    assert (request.prompt, request.regions, request.negative, request.tile) == ("red", (), "fog", 128)
    assert request.repaint[0].box == (300, 40, 100, 80)
    assert request.repaint[1].polygon == ((420, 200), (460, 200), (440, 240))
    assert {shape.feather for shape in request.repaint} == {8}
    changed = (pixels(new) != pixels(old)).any(axis=0)
    assert changed[60:100, 320:380].mean() > 0.9
    changed[36:124, 296:404] = changed[196:244, 416:464] = False
    assert not changed.any()
    assert contents(parent) == before


def test_repaint_takes_a_mask_and_the_canvas_own_words(parent: Path, tmp_path: Path) -> None:
    mask = np.zeros((256, 512), np.uint8)
    mask[100:150, 200:300] = 255
    Image.fromarray(mask).save("m.png")
    assert main(["repaint", str(parent), "--mask", "m.png", "--feather", "0", "--seed", "7", *QUICK]) == 0
    new = store.open(tmp_path / "p-repainted.zarr")
    request = new.head().request
    assert (request.prompt, request.seed, len(request.regions)) == ("a sea", 7, 1)
    changed = (pixels(new) != pixels(store.open(parent))).any(axis=0)
    assert changed[mask > 0].mean() > 0.9
    assert not changed[mask == 0].any()


def test_extend_keeps_what_was_there_and_moves_the_regions(parent: Path, tmp_path: Path) -> None:
    before = contents(parent)
    how = ("--left", "64", "--bottom", "128", "--prompt", "hills")
    assert main(["extend", str(parent), *how, *QUICK]) == 0
    new = store.open(tmp_path / "p-extended.zarr")
    request = new.head().request
    assert (request.width, request.height, request.place) == (576, 384, (64, 0))
    assert (request.prompt, request.regions[0].box, request.regions[0].feather) == ("hills", (64, 0, 128, 128), 16)
    assert (pixels(new)[:, :256, 64:] == pixels(store.open(parent))).all()
    assert pixels(new)[:, :, :64].std() > 0
    assert contents(parent) == before


def test_only_touched_tiles_are_painted_and_that_is_foretold(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = repainted(str(parent), layer({}), [{"box": (10, 10, 40, 40)}])
    (tmp_path / "r.json").write_text(json.dumps(request.model_dump(mode="json", exclude_none=True)))
    same = ("--scene", "r.json", "--in-process", "--workers", "2", "--json")
    assert main(["plan", *same]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["tiles_painted"], planned["tiles_total"]) == (1, 8)
    assert main(["render", *same, "--out", "b.zarr"]) == 0
    ran = json.loads(capsys.readouterr().out)
    assert (ran["evaluations"], ran["bytes_exchanged"]) == (planned["evaluations"], planned["bytes"])
    assert main(["plan", "--scene", "r.json"]) == 0
    assert "100% of the steps in 1 of 8 tiles, the rest is copied" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["upscale", "nosuch.png", "--size", "64x64"], "cannot read nosuch.png"),
        (["upscale", "nosuch.zarr", "--size", "64x64"], "no canvas"),
        (["upscale", "PARENT"], "Missing option '--size'"),
        (["upscale", "PARENT", "--size", "big"], "size: write WIDTHxHEIGHT"),
        (["upscale", "PARENT", "--size", "512x256"], "size: choose a larger one than 512x256"),
        (["upscale", "PARENT", "--size", "1024x1024"], "source: it is 512x256, of another shape than 1024x1024"),
        (["upscale", "PARENT", "--size", "1024x512", "--strength", "7"], "strength: .*less than or equal to 1"),
        (["repaint", "PARENT"], "repaint: say where"),
        (["repaint", "PARENT", "--box", "1,2,3"], "box: write x,y,width,height in pixels"),
        (["repaint", "PARENT", "--box", "1,2,3,0"], "repaint 1: box.3: .*greater than 0"),
        (["repaint", "PARENT", "--box", "9000,2,3,4"], r"lies wholly outside the picture of 512x256"),
        (["repaint", "PARENT", "--polygon", "1,2 3,4"], "repaint 1: polygon: .*at least 3"),
        (["repaint", "PARENT", "--polygon", "1,2 3,4 5"], "polygon: write corners as"),
        (["repaint", "PARENT", "--mask", "nosuch.png"], "cannot read .*nosuch.png"),
        (["repaint", "PARENT", "--box", "1,2,3,4", "--feather", "-1"], "feather"),
        (["repaint", "PARENT", "--box", "1,2,3,4", "--model", "terra"], "painted by another model"),
        (["repaint", "PARENT", "--box", "1,2,3,4", "--out", "PARENT", "--overwrite"], "both source and result"),
        (["repaint", "PARENT", "--box", "1,2,3,4", "--wrap", "x"], "wrap: .*ask for the same"),
        (["repaint", "a.png", "--box", "1,2,3,4"], "a.png"),
        (["extend", "PARENT"], "extend: say where"),
        (["extend", "PARENT", "--left", "-8"], "left"),
        (["extend", "PARENT", "--left", "5"], "place: must be multiples of 8 pixels"),
        (["extend", "nosuch.zarr", "--left", "8"], "no canvas"),
        (["export", "PARENT"], "export: say where to"),
        (["export", "PARENT", "a.gif", "--faces", "f"], "the name must end in one of"),
        (["export", "PARENT", "--faces", "f"], "is one picture, neither cube nor tileset"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_written(
    args: list[str], words: str, parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    before = contents(parent)
    model = ["--model", "toy"] if args[1].endswith(".png") else []
    line = refused(capsys, *(str(parent) if arg == "PARENT" else arg for arg in args), *model)
    assert re.search(words, line), line
    assert not list(tmp_path.iterdir())
    assert contents(parent) == before


def test_sides_that_meet_do_not_grow(capsys: pytest.CaptureFixture[str]) -> None:
    base = ("--model", "toy", "--steps", "2", *QUICK)
    assert main(["render", "x", "--size", "256x128", "--wrap", "x", "--out", "w.zarr", *base]) == 0
    assert "open them with --wrap none" in refused(capsys, "extend", "w.zarr", "--right", "64")
    assert main(["extend", "w.zarr", "--right", "64", "--wrap", "none", "--out", "r.zarr", *QUICK]) == 0
    assert main(["extend", "w.zarr", "--top", "64", "--out", "t.zarr", *QUICK]) == 0
    assert store.open("t.zarr").head().request.wrap == "x"
    assert main(["render", "x", "--size", "128", "--topology", "cube", "--out", "c.zarr", *base]) == 0
    assert "is no flat picture" in refused(capsys, "extend", "c.zarr", "--right", "64")


def test_a_mask_does_not_move_with_the_picture(tmp_path: Path) -> None:
    Image.new("L", (128, 128), 255).save("m.png")
    words = {"prompt": "x", "size": "128x128", "model": "toy", "regions": [{"mask": "m.png", "prompt": "y"}]}
    (tmp_path / "s.json").write_text(json.dumps(words))
    assert main(["render", "--scene", "s.json", "--steps", "2", "--out", "m.zarr", *QUICK]) == 0
    with pytest.raises(InvalidRequest, match="a mask fits its picture only"):
        extended("m.zarr", layer({}), left=64)
    (region,) = upscaled("m.zarr", layer({"size": "256x256"})).regions
    assert region.mask is not None


def test_faces_are_files_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ("x", "--model", "toy", "--steps", "2", *QUICK)
    assert main(["render", *base, "--size", "128", "--topology", "cube", "--out", "c.zarr"]) == 0
    assert main(["export", "c.zarr", "whole.png", "--faces", "f"]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [file.name for file in written] == [
        f"c-{name}.png" for name in ("right", "left", "top", "bottom", "front", "back")
    ]
    whole = store.open("c.zarr")
    with Image.open(written[5]) as back:
        assert (np.asarray(back).transpose(2, 0, 1) == whole.read_image(Box(128, 256, 256, 384))).all()
    tile = {"name": "a", "top": "r", "right": "g", "bottom": "r", "left": "g", "size": 128}
    Path("set.json").write_text(json.dumps({"tiles": [tile, {**tile, "name": "b"}]}))
    assert main(["render", *base, "--topology", "tileset:set.json", "--out", "s.zarr"]) == 0
    assert main(["export", "s.zarr", "--faces", "g"]) == 0
    assert {file.name for file in (tmp_path / "g").iterdir()} == {"s-a.png", "s-b.png"}


@pytest.mark.parametrize(
    "args",
    [
        ["--size", "512x256", "--topology", "equirectangular"],
        ["--size", "256", "--topology", "cube"],
        ["--topology", "tileset:set.json"],
        ["--size", "640x384", "--cascade", "fast", "--wrap", "x"],
        ["--size", "640x384", "--cascade", "demofusion"],
        ["--size", "640x384", "--enlarge", "pixels", "--skip-residual"],
        ["--source", "a.png", "--strength", "0.7"],
        ["--source", "a.png", "--size", "600x400", "--match-colour", "--sync", "overlap"],
        ["--size", "300x200", "--control", "a.png"],
        ["--scene", "scene.json", "--wrap", "xy"],
    ],
)
def test_a_plan_foretells_every_strategy(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (200, 300, 3), dtype=np.uint8)).save("a.png")
    tile = {"top": "r", "right": "g", "bottom": "r", "left": "g", "size": 256}
    Path("set.json").write_text(json.dumps({"tiles": [{**tile, "name": "a"}, {**tile, "name": "b", "right": "h"}]}))
    Path("scene.json").write_text(json.dumps({"prompt": "x", "size": "512x256", "regions": [REGION]}))
    same = ["x", *args, "--model", "toy", "--steps", "3", "--in-process", "--workers", "2", "--json"]
    assert main(["plan", *same]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert main(["render", *same, "--out", "b.zarr"]) == 0
    ran = json.loads(capsys.readouterr().out)
    for name in ("evaluations", "evaluations_padded"):
        assert ran[name] == planned[name]
    assert ran["bytes_exchanged"] == planned["bytes"] > 0
    assert store.open("b.zarr").head().plan_hash == planned["plan_hash"]


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        (["--topology", "equirectangular"], "topology", "equirectangular"),
        (["--renoise", "0.4"], "renoise", 0.4),
        (["--skip-residual"], "skip_residual", True),
        (["--cascade", "demofusion", "--no-dilated"], "dilated", False),
        (["--cascade", "demofusion"], "renoise", 1.0),
        (["--cascade", "fast", "--renoise", "0.3"], "renoise", 0.3),
        (["--enlarge", "pixels"], "enlarge", "pixels"),
        (["--strength", "0.4"], "strength", 0.4),
        (["--match-colour"], "match_colour", True),
        (["--control", "m.png"], "control.path", "m.png"),
        (["--source", "m.png"], "source.path", "m.png"),
        (["--stride", "0.25"], "stride", 0.25),
        (["--micro-batch", "3"], "micro_batch", 3),
        (["--levels", "2"], "levels", 2),
    ],
)
def test_every_option_reaches_the_request(
    args: list[str], field: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RenderRequest] = []
    monkeypatch.setattr("raytile.cli_paint.paint", lambda request, *_: seen.append(request))
    assert main(["render", "x", "--size", "512x256", *args]) == 0
    found: Any = seen[0]
    for part in field.split("."):
        found = getattr(found, part)
    assert found == (str(Path(str(value)).absolute()) if field.endswith("path") else value)
