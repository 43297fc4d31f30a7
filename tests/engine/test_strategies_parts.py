"""Laws of repainting and extending: what is kept is kept to the bit, and only what is painted is worked on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raytile.api import plan, render, resume
from raytile.canvas.canvas import Canvas
from raytile.engine.decoding import Decoder
from raytile.errors import RaytileError
from raytile.events import Event
from raytile.plan.request import RenderRequest
from tests.engine.renders import digests, paint, toy_request

FORMS: dict[str, dict[str, Any]] = {
    "plane": {"width": 500, "height": 390},
    "wrap": {"width": 512, "height": 384, "wrap": "x"},
    "cube": {"width": 768, "height": 512, "topology": "cube"},
}
BOXES = {"plane": (140, 150, 70, 60), "wrap": (480, 150, 70, 60), "cube": (130, 150, 70, 60)}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Canvas]:
    folder = tmp_path_factory.mktemp("before")
    return {
        name: paint(toy_request(steps=2, levels=1, tile=128, **form), folder / f"{name}.zarr")[0]
        for name, form in FORMS.items()
    }


def repaint(canvas: Canvas, *shapes: dict[str, Any], **more: Any) -> RenderRequest:
    kept = canvas.head().request.model_dump(include={"width", "height", "wrap", "topology", "tile"})
    values = {"prompt": "sand", "steps": 3, **kept, **more}
    return toy_request(**values, source={"path": str(canvas.path)}, repaint=list(shapes))


def inside(form: str, canvas: Canvas, margin: int = 0) -> np.ndarray[Any, Any]:
    """Which pixels the form's box covers, over the wrapped side too."""
    x, y, w, h = BOXES[form]
    found = np.zeros((canvas.layout.height, canvas.layout.width), bool)
    columns = np.arange(x - margin, x + w + margin)
    columns = columns % canvas.layout.width if form == "wrap" else columns
    found[y - margin : y + h + margin, columns] = True
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("feather", [0, 24])
def test_outside_the_shape_no_bit_changes(form: str, feather: int, before: dict[str, Canvas], tmp_path: Path) -> None:
    was = before[form]
    request = repaint(was, {"box": BOXES[form], "feather": feather})
    found, one = paint(request, tmp_path / "one.zarr")
    _, many = paint(request, tmp_path / "many.zarr", 3)
    assert digests(one) == digests(many)
    covered = inside(form, was)
    old, new = was.image[...], found.image[...]
    assert np.array_equal(old[:, ~covered], new[:, ~covered])
    assert (old != new).any(axis=0)[covered].mean() > 0.5
    # latents change where the shape is, and less than a cell around it
    around = inside(form, was, 8)
    y, x = np.nonzero((was.latents[...] != found.latents[...]).any(axis=0))
    assert around[y * 8 + 4, x * 8 + 4].all()


def test_only_touched_tiles_are_decoded_and_only_windows_that_see_them_predict(
    before: dict[str, Canvas], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was, decoded, decode = before["plane"], set(), Decoder.decode
    monkeypatch.setattr(Decoder, "decode", lambda self, tile: (decoded.add(tile), decode(self, tile))[1])
    request = repaint(was, {"box": (140, 150, 40, 30), "feather": 8})
    out = render(request, tmp_path / "a.zarr", workers=2, in_process=True)
    settled = plan(request)
    assert decoded == set(np.flatnonzero(settled.active).tolist()) == {5}
    for tile in range(out.layout.tiles):
        if tile not in decoded:
            assert out.pixels_digest(tile) == was.pixels_digest(tile)
            assert out.latents_digest(tile) == was.latents_digest(tile)
    summary = out.head().summary
    assert summary is not None
    assert summary["evaluations"] == summary["evaluations_planned"]
    whole = plan(toy_request(**FORMS["plane"], steps=3, levels=1, tile=128))
    steps = range(settled.levels[0].first_step, settled.steps)
    assert 0 < sum(len(settled.windows(0, s)) for s in steps) < 0.5 * sum(len(whole.windows(0, s)) for s in steps)


def test_a_mask_is_the_box_that_it_shows(before: dict[str, Canvas], tmp_path: Path) -> None:
    was = before["plane"]
    mask = np.zeros((390, 500), np.uint8)
    mask[152:208, 144:216] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    by_mask, _ = paint(repaint(was, {"mask": {"path": str(tmp_path / "mask.png")}}), tmp_path / "a.zarr", 2)
    new = by_mask.image[...]
    assert np.array_equal(was.image[...][:, mask == 0], new[:, mask == 0])
    assert (was.image[...] != new).any(axis=0)[mask > 0].mean() > 0.5
    # A mask paints the cells that it touches, a box also those less than a cell away: not the same latents.
    mask[...] = 0
    mask[160:200, 152:200] = 128
    Image.fromarray(mask).save(tmp_path / "grey.png")
    half, _ = paint(repaint(was, {"mask": {"path": str(tmp_path / "grey.png")}}), tmp_path / "b.zarr")
    assert np.array_equal(was.image[...][:, mask == 0], half.image[...][:, mask == 0])


def test_painted_again_and_extended_it_is_still_a_canvas(before: dict[str, Canvas], tmp_path: Path) -> None:
    first, _ = paint(repaint(before["plane"], {"box": (40, 40, 90, 90)}), tmp_path / "a.zarr", 2)
    second, _ = paint(repaint(first, {"box": (300, 200, 90, 90)}, seed=5), tmp_path / "b.zarr", 3)
    kept = np.ones((390, 500), bool)
    kept[200:290, 300:390] = False
    assert np.array_equal(first.image[...][:, kept], second.image[...][:, kept])
    grown = toy_request(
        width=500, height=390 + 128, tile=128, steps=2, source={"path": str(second.path)}, place=(0, 128)
    )
    third, _ = paint(grown, tmp_path / "c.zarr", 2)
    assert np.array_equal(third.image[...][:, 128:], second.image[...])


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_picture_painted_anew_is_painted_from_its_noise(
    form: str, before: dict[str, Canvas], tmp_path: Path
) -> None:
    """At strength 1 nothing of what was there is left where the shape covers everything."""
    was = before[form]
    everything = {"box": (0, 0, was.layout.width, was.layout.height)}
    anew, _ = paint(repaint(was, everything, strength=1.0), tmp_path / "a.zarr", 2)
    fresh, _ = paint(toy_request(prompt="sand", steps=3, levels=1, tile=128, **FORMS[form]), tmp_path / "b.zarr", 2)
    assert np.array_equal(anew.latents[...], fresh.latents[...])
    assert np.array_equal(anew.image[...], fresh.image[...])


def test_the_last_step_alone_changes_little(before: dict[str, Canvas], tmp_path: Path) -> None:
    was = before["plane"]
    off = []
    for steps, strength in ((8, 0.01), (8, 0.5), (8, 1.0)):
        name = tmp_path / f"{strength}.zarr"
        found, summary = paint(repaint(was, {"box": (100, 100, 200, 200)}, steps=steps, strength=strength), name, 2)
        off.append(float(np.abs(found.latents[...] - was.latents[...]).mean()))
        assert plan(found.head().request).levels[0].first_step == 8 - max(1, int(8 * strength))
        assert summary["evaluations"] == summary["evaluations_planned"]
    assert 0 < off[0] < off[1] < off[2]


GROWTHS = {
    "right": (256, 396, 256, 0, 0),
    "left": (260, 396, 256, 136, 0),
    "bottom": (260, 260, 400, 0, 0),
    "top": (260, 260, 392, 0, 136),
    "all around": (256, 389, 390, 64, 72),
}
"""Width before and after, height after, and where the canvas lies on it."""


@pytest.mark.parametrize("growth", GROWTHS)
def test_what_is_extended_stays_as_it_was(growth: str, tmp_path: Path) -> None:
    """A side that does not grow may end within a cell."""
    narrow, width, height, x, y = GROWTHS[growth]
    was, _ = paint(toy_request(steps=2, levels=1, tile=128, width=narrow, height=256), tmp_path / "was.zarr")
    request = toy_request(
        width=width, height=height, steps=3, tile=128, source={"path": str(was.path)}, place=(x, y), sync="overlap"
    )
    found, one = paint(request, tmp_path / "one.zarr")
    _, many = paint(request, tmp_path / "many.zarr", 3)
    assert digests(one) == digests(many)
    h, w = was.layout.height, was.layout.width
    assert np.array_equal(found.image[...][:, y : y + h, x : x + w], was.image[...])
    cells = found.latents[...][:, y // 8 : (y + h) // 8, x // 8 : (x + w) // 8]
    assert np.array_equal(cells, was.latents[...][:, : h // 8, : w // 8])
    grown = np.ones((height, width), bool)
    grown[y : y + h, x : x + w] = False
    assert found.image[...][:, grown].std() > 1


def test_a_strip_grows_into_a_picture_whose_sides_meet(tmp_path: Path) -> None:
    was, _ = paint(toy_request(width=256, height=128, steps=2, levels=1, tile=128), tmp_path / "was.zarr")
    closed = {"width": 384, "height": 128, "steps": 3, "tile": 128, "source": {"path": str(was.path)}, "place": (64, 0)}
    found, one = paint(toy_request(**closed, wrap="x"), tmp_path / "one.zarr")
    _, many = paint(toy_request(**closed, wrap="x"), tmp_path / "many.zarr", 3)
    assert digests(one) == digests(many)
    assert np.array_equal(found.image[...][:, :, 64:320], was.image[...])


class Stop(Exception):
    pass


@pytest.mark.parametrize("moment", ["StepDone", "TileDone"])
@pytest.mark.parametrize("kind", ["repaint", "extend", "image"])
def test_a_stopped_render_goes_on_without_what_it_began_with(kind: str, moment: str, tmp_path: Path) -> None:
    """The canvas has taken in all it needs. On another number of workers the picture is the same."""
    was, _ = paint(toy_request(width=256, height=256, steps=2, levels=1, tile=128), tmp_path / "was.zarr")
    Image.fromarray(was.image[...].transpose(1, 2, 0)).save(tmp_path / "was.png")
    Image.fromarray(was.image[...][0]).save(tmp_path / "mask.png")
    wishes: dict[str, dict[str, Any]] = {
        "repaint": {"source": {"path": str(was.path)}, "repaint": [{"mask": {"path": str(tmp_path / "mask.png")}}]},
        "extend": {"source": {"path": str(was.path)}, "place": (0, 128), "height": 384},
        "image": {"source": {"path": str(tmp_path / "was.png")}, "control": {"path": str(tmp_path / "mask.png")}},
    }
    request = toy_request(**{"width": 256, "height": 256, "steps": 5, "tile": 128, **wishes[kind]}, prompt="sand")
    _, summary = paint(request, tmp_path / "whole.zarr")

    seen: list[str] = []

    def stop(event: Event) -> None:
        seen.append(type(event).__name__)
        if seen.count(moment) == 3:
            raise Stop

    with pytest.raises((Stop, RaytileError)):
        render(request, tmp_path / "a.zarr", workers=2, in_process=True, snapshot_every=1, listeners=[stop])
    for name in ("was.png", "mask.png"):
        (tmp_path / name).unlink()
    (tmp_path / "was.zarr").rename(tmp_path / "away.zarr")
    done = resume(tmp_path / "a.zarr", workers=3, in_process=True)
    after = done.head().summary
    assert after is not None
    assert digests(after) == digests(summary)
