"""Scene files: what they say becomes the request, mistakes are one line, and the command line has the last word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytile import api
from raytile.cli import main
from raytile.errors import InvalidRequest
from raytile.plan.request import RenderRequest
from raytile.scenes import Layer, layer, read_scene, settle

EXAMPLES = Path(__file__).parents[2] / "examples" / "scenes"
SCENES = sorted(file for file in EXAMPLES.iterdir() if file.suffix in (".yaml", ".json"))
SIZE = {"prompt": "x", "width": 400, "height": 200}
shares = st.floats(0, 1)
lengths = st.floats(0.01, 2)
boxes = st.fixed_dictionaries({"box": st.tuples(shares, shares, lengths, lengths), "feather": shares})
polygons = st.fixed_dictionaries(
    {"polygon": st.lists(st.tuples(shares, shares), min_size=3, max_size=6), "feather": shares}
)
regions = st.lists(
    st.one_of(boxes, polygons).flatmap(
        lambda shape: st.fixed_dictionaries(
            {**{name: st.just(value) for name, value in shape.items()}, "prompt": st.text(max_size=20)},
            optional={"weight": st.floats(0.1, 9), "seed": st.integers(0, 99), "name": st.text(max_size=5)},
        )
    ),
    max_size=4,
)


def scene(folder: Path, values: object, name: str = "scene.json") -> Path:
    file = folder / name
    file.write_text(values if isinstance(values, str) else json.dumps(values))
    return file


@pytest.mark.parametrize("file", SCENES, ids=lambda file: file.name)
def test_every_example_is_a_picture_to_be(file: Path) -> None:
    request = settle(read_scene(file))
    plan = api.plan(request)
    assert len(plan.levels[-1].voices) == 1 + len(request.regions) > 2
    heard = plan.heard(len(plan.levels) - 1, plan.levels[-1].first_step)
    assert heard.any(axis=0)[1:].all(), "a region that no window hears"


def test_the_words_of_the_examples_are_those_that_terra_knows() -> None:
    from raytile.train.captions import vocabulary

    for file in SCENES:
        request = settle(read_scene(file))
        for prompt in (request.prompt, *(region.prompt for region in request.regions)):
            assert set(prompt.replace(",", " ").lower().split()) <= set(vocabulary()), (file.name, prompt)


@given(shapes=regions, width=st.integers(1, 5000), height=st.integers(1, 5000), style=st.sampled_from(["", "a map"]))
def test_shares_become_pixels_and_all_else_stays(
    shapes: list[dict[str, Any]], width: int, height: int, style: str
) -> None:
    words = {"prompt": "sea", "regions": shapes, "units": "share", "style": style}
    request = settle(layer({**words, "size": f"{width}x{height}"}, "s.yaml"))
    assert (request.width, request.height) == (width, height)
    assert request.prompt == ("a map, sea" if style else "sea")
    for wish, region in zip(shapes, request.regions, strict=True):
        said = [style] if style else []
        assert region.prompt == ", ".join([*said, wish["prompt"]] if wish["prompt"] or not said else said)
        assert region.feather == wish["feather"] * min(width, height)
        assert region.weight == wish.get("weight", 1.0)
        assert region.seed == wish.get("seed")
        if "box" in wish:
            assert region.box == tuple(p * s for p, s in zip(wish["box"], (width, height) * 2, strict=True))
        else:
            assert region.polygon == tuple((x * width, y * height) for x, y in wish["polygon"])


@settings(deadline=None)
@given(shapes=regions)
def test_yaml_and_json_say_the_same(shapes: list[dict[str, Any]]) -> None:
    import tempfile

    import yaml

    words = {"prompt": "sea", "size": "400x300", "wrap": "x", "guidance": 3.5, "regions": shapes}
    plain = json.loads(json.dumps(words))
    with tempfile.TemporaryDirectory() as folder:
        one = read_scene(scene(Path(folder), plain))
        other = read_scene(scene(Path(folder), yaml.safe_dump(plain), "scene.yaml"))
    assert settle(one) == settle(other) == settle(layer(words))


def test_any_field_of_a_request_may_stand_in_a_scene() -> None:
    request = RenderRequest(
        prompt="x", width=64, height=64, seed=3, wrap="xy", sync="overlap", guidance_interval=(0, 1)
    )
    assert settle(layer(request.model_dump())) == request


def test_later_layers_win_field_by_field() -> None:
    scene_ = layer({"prompt": "sea", "size": "400x200", "seed": 4, "wrap": "x"}, "s.yaml")
    assert settle(scene_, layer({"seed": 5, "size": "800x400"})) == RenderRequest(
        prompt="sea", width=800, height=400, seed=5, wrap="x"
    )
    assert settle(layer({"size": "80x60", "prompt": "x"}), layer({"width": 200})).height == 60
    assert settle(layer({"width": 9, "height": 9, "prompt": "x"}), layer({"size": [3, 4]})).width == 3
    assert settle(layer({"units": "share", "prompt": "x"}), layer({**SIZE, "regions": [_box(9, 9)]})).regions[0].box


def test_a_number_is_the_side_of_a_cubes_face() -> None:
    cube = settle(layer({"prompt": "x", "topology": "cube", "size": 256}))
    assert (cube.width, cube.height, cube.topology) == (768, 512, "cube")
    assert settle(layer({"prompt": "x", "topology": "cube"}, "s.yaml"), layer({"size": "128"})).width == 384


def test_a_tileset_knows_its_size(tmp_path: Path) -> None:
    tile = {"name": "a", "top": "r", "right": "g", "bottom": "r", "left": "g", "size": 256}
    scene(tmp_path, {"tiles": [tile, {**tile, "name": "b"}]}, "set.json")
    for where in ("topology", "tileset"):
        words = {"prompt": "x", "model": "toy", where: "tileset:set.json" if where == "topology" else "set.json"}
        request = settle(read_scene(scene(tmp_path, words)))
        assert request.tileset is not None
        assert request.topology == "flat"
        assert request.width * request.height == 2 * 256 * 256
    assert settle(layer({"prompt": "x", "tileset": request.tileset.model_dump(), "model": "toy"})) == request
    wang = {"tiles": [tile, {**tile, "name": "b"}]}
    assert settle(layer({"prompt": "x", "tileset": wang, "model": "toy"})) == request


def test_paths_are_beside_the_scene(tmp_path: Path) -> None:
    words = {
        "prompt": "x", "size": "64x64", "control": "land.png", "source": {"path": "/a/b.png"},
        "regions": [{"mask": "m.png", "prompt": "y"}], "repaint": [{"mask": "s3://maps/m.png"}],
    }  # fmt: skip
    request = settle(read_scene(scene(tmp_path, words)))
    assert request.control is not None
    assert request.source is not None
    assert request.control.path == str(tmp_path / "land.png")
    assert request.source.path == "/a/b.png"
    assert request.regions[0].mask is not None
    assert request.regions[0].mask.path == str(tmp_path / "m.png")
    assert request.repaint[0].mask is not None
    assert request.repaint[0].mask.path == "s3://maps/m.png"


def test_paths_hold_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = settle(layer({**SIZE, "control": "land.png", "regions": [{"mask": "m.png", "prompt": "y"}]}))
    assert request.control is not None
    assert request.control.path == str(tmp_path / "land.png")
    assert request.regions[0].mask is not None
    assert request.regions[0].mask.path == str(tmp_path / "m.png")


def test_a_source_gives_the_size_where_nothing_else_does(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 120, 80)
    begin = layer({"prompt": "x", "source": "a.png"}, folder=tmp_path)
    assert (settle(begin).width, settle(begin).height) == (120, 80)
    assert settle(layer({"size": "240x160"}), begin).width == 240


def _box(*sides: float, **more: object) -> dict[str, object]:
    return {"box": [0, 0, *sides], "prompt": "y", **more}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("[1, 2", "not JSON"),
        ([1], "a scene has named fields"),
        ({**SIZE, "sede": 3}, "sede: no such field: did you mean seed?"),
        ({**SIZE, "zzzz": 3}, "zzzz: no such field"),
        ({**SIZE, "seed": -1}, "seed: .*greater than"),
        ({**SIZE, "style": 7}, "style: must be words"),
        ({**SIZE, "units": "metres"}, "units: 'metres' is none of pixels, share"),
        ({**SIZE, "size": "4x4"}, "size: stands beside width"),
        ({"prompt": "x", "size": "4by4"}, "size: write WIDTHxHEIGHT"),
        ({"prompt": "x", "size": 512}, "size: one number is the side of a cube"),
        ({"prompt": "x", "size": [4]}, "size: write WIDTHxHEIGHT"),
        ({"prompt": "x"}, "size: missing: give --size"),
        ({"prompt": "x", "width": 4}, "height: missing"),
        ({"width": 4, "height": 4}, "prompt: missing: "),
        ({**SIZE, "source": 4}, "source: "),
        ({**SIZE, "topology": "ring"}, "topology: .*cube"),
        ({**SIZE, "tileset": {}}, "size: follows from the pictures"),
        ({"prompt": "x", "tileset": {}}, "tileset: give an object with either"),
        ({"prompt": "x", "topology": "tileset:none.json"}, "tileset: cannot read .*none.json"),
        ({"prompt": "x", "topology": "TILESET:none.json"}, "tileset: cannot read .*none.json"),
        ({"prompt": "x", "topology": "tileset:"}, "topology: name its file"),
        ({"prompt": "x", "source": {"path": 5}}, r"source\.path: "),
        ({"prompt": "x", "source": {}}, r"source\.path: "),
        ({"prompt": "x", "source": ""}, r"source\.path: "),
        ({"prompt": "x", "source": "a\0b"}, r"source\.path: "),
        ({**SIZE, "regions": {}}, "regions: must be a list"),
        ({**SIZE, "regions": [7]}, "region 1: it has named fields"),
        ({**SIZE, "regions": [_box(9, 9), _box(9, 9, promt="z", name="pole")]}, r"region 2 \(pole\): promt: .*prompt"),
        ({**SIZE, "regions": [{"box": [0, 0, 1, 1]}]}, "region 1: prompt: Field required"),
        ({**SIZE, "regions": [_box(9, 0)]}, r"region 1: box\.3: .*greater than 0"),
        ({**SIZE, "regions": [_box(9)]}, "region 1: box"),
        ({**SIZE, "regions": [_box(9, 9, mask="m.png")]}, "region 1: give one of box, polygon and mask"),
        ({**SIZE, "regions": [{"prompt": "y"}]}, "region 1: give one of box, polygon and mask"),
        ({**SIZE, "regions": [{"polygon": [[0, 0], [1, 1]], "prompt": "y"}]}, "region 1: polygon: .*at least 3"),
        ({**SIZE, "units": "share", "regions": [_box("a", 1)]}, r"region 1: box\.2: "),
        ({**SIZE, "width": "9", "units": "share", "regions": [_box(1, 1)]}, "width: must be a whole number"),
        ({**SIZE, "repaint": [{"box": [0, 0, 1, 1], "prompt": "y"}]}, "repaint 1: prompt: no such field"),
    ],
)
def test_a_mistake_is_one_line_with_file_place_and_fix(values: object, words: str, tmp_path: Path) -> None:
    file = scene(tmp_path, values)
    with pytest.raises(InvalidRequest, match=words) as found:
        settle(read_scene(file))
    assert str(found.value).startswith(str(file))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"prompt: [a\nsize: 4x4", "line 2: not YAML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "a scene has named fields"),
        (b"1: 2", "a scene has named fields"),
        (b"!!python/object/apply:os.system ['true']", "not YAML"),
        (b"[" * 100_000, "not YAML"),
    ],
)
def test_what_is_no_yaml_is_said_so(text: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "scene.yaml"
    file.write_bytes(text)
    with pytest.raises(InvalidRequest, match=words) as found:
        read_scene(file)
    assert str(file) in str(found.value)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("prompt", "prompt: "), ("style", "style: "), ("size", "size: "), ("width", "width: "), ("model", "model: "),
        ("topology", "topology: "), ("tileset", "tileset: "), ("units", "units: "), ("regions", "region 1: "),
        ("source", "source: "), ("seed", "seed: "),
    ],
)  # fmt: skip
def test_what_holds_far_too_much_is_refused_at_once(field: str, words: str) -> None:
    held: list[object] = ["x"]
    for _ in range(60):  # as YAML's aliases have it: 2 ** 60 words
        held = [held, held, held]
    values = {**SIZE, field: held}
    if field in ("size", "tileset"):
        del values["width"], values["height"]
    with pytest.raises(InvalidRequest, match=words):
        settle(layer({**values, "style": "old"} if field == "prompt" else values))


def test_a_name_that_is_none_names_nothing() -> None:
    held: list[object] = ["x"]
    for _ in range(60):
        held = [held, held]
    with pytest.raises(InvalidRequest, match=r"^region 1: box"):
        settle(layer({**SIZE, "regions": [_box(9, 0, name=held)]}))
    with pytest.raises(InvalidRequest, match=r"seed: .*an integer of 66439 bits"):
        settle(layer({**SIZE, "seed": 10**20_000}))


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for place in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InvalidRequest, match="cannot be read"):
            read_scene(place)


def test_an_option_at_fault_does_not_blame_the_scene() -> None:
    with pytest.raises(InvalidRequest) as found:
        settle(layer({**SIZE, "steps": 3}, "s.yaml"), layer({"steps": 9000}))
    assert str(found.value).startswith("steps: ")


@given(values=st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["prompt", "size", "width", "regions", "box", "mask", "units", "tileset", "source", "style"]),
        inner,
        max_size=5,
    ),
))  # fmt: skip
def test_whatever_a_file_holds_is_a_request_or_one_line(values: object) -> None:
    said = ""
    try:
        settle(layer(values, "s.json"))
    except InvalidRequest as error:
        said = str(error)
    assert "\n" not in said


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.usefixtures("_here")
def test_the_command_reads_a_scene_and_its_options_win(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    scene(tmp_path, {**SIZE, "model": "toy", "seed": 4, "regions": [_box(200, 200, feather=16)]})
    assert main(["plan", "--scene", "scene.json", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["width"], figures["seed"], figures["regions"]) == (400, 4, 1)
    assert main(["plan", "a sea", "--scene", "scene.json", "--size", "640x400", "--seed", "9"]) == 0
    table = capsys.readouterr().out
    assert "640 x 400, toy, seed 9" in table
    assert "1, with words of their own" in table
    assert main(["plan", "--scene", "scene.json", "--seed", "-1"]) == 2
    assert "error: seed: " in capsys.readouterr().err


@pytest.mark.usefixtures("_here")
def test_lines_of_a_batch_are_scenes_over_a_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from raytile.batch import read_orders

    scene(tmp_path, {**SIZE, "model": "toy", "steps": 2, "regions": [_box(90, 90)]})
    (tmp_path / "lines.jsonl").write_text('{"seed": 1}\n{"prompt": "z", "regions": [], "size": "64x64"}\n')
    first, second = read_orders("lines.jsonl", [read_scene("scene.json"), layer({"steps": 3})])
    assert (len(first.plan.request.regions), first.plan.request.seed, first.plan.request.steps) == (1, 1, 3)
    assert (second.plan.request.regions, second.plan.request.width) == ((), 64)
    (tmp_path / "lines.jsonl").write_text('{"regions": [{"bx": []}]}\n')
    assert main(["batch", "lines.jsonl", "--scene", "scene.json", "--out", "all", "--in-process"]) == 2
    assert "line 1: region 1: bx: no such field: did you mean box?" in capsys.readouterr().err


def test_a_layer_knows_where_it_stands() -> None:
    assert str(Layer("line 3", {}).fault("seed: no")) == "line 3: seed: no"
    assert str(Layer("", {}).fault("seed: no")) == "seed: no"


def picture(file: Path, width: int, height: int) -> None:
    """A picture file of noise."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
