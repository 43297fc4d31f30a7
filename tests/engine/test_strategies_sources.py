"""Laws of pictures to begin with, and of sides that meet: nearness, sizes, twins, decoding over seams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from raytile.api import plan
from raytile.engine.decoding import Decoder
from raytile.engine.held import turned
from raytile.engine.tile_group import TileGroup
from raytile.engine.tile_queue import TileQueue
from raytile.geometry.atlas import Atlas
from raytile.models import registry
from raytile.models.toy import toy_spec
from raytile.plan.around import BLEND, around
from raytile.plan.route import Partition
from raytile.plan.settle import make_plan
from tests.engine.renders import digests, paint, toy_request

SQUARES = [{"name": name, "width": 256, "height": 256} for name in "ab"]


def picture(path: Path, width: int, height: int) -> dict[str, Any]:
    """Soft colours, so that a scaled one shows the same."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(3 * x / width + y / height), np.cos(2 * y / height), np.sin(x / width - 2 * y / height)]
    Image.fromarray((127 + 90 * np.stack(waves, -1)).astype(np.uint8)).save(path)
    return {"path": str(path)}


def away(image: np.ndarray[Any, Any], path: str) -> float:
    """How far the means over cells are from those of a picture, in levels of grey."""
    height, width = image.shape[1] // 8 * 8, image.shape[2] // 8 * 8
    shown = Image.open(path).resize((image.shape[2], image.shape[1]), Image.Resampling.BICUBIC)
    off = (image.astype(float) - np.asarray(shown, dtype=float).transpose(2, 0, 1))[:, :height, :width]
    return float(np.abs(off.reshape(3, height // 8, 8, width // 8, 8).mean(axis=(2, 4))).mean())


@pytest.mark.parametrize("levels", [1, 2])
def test_the_lower_the_strength_the_nearer_the_source(levels: int, tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png", 300, 260)
    found = []
    for strength in (0.1, 0.5, 0.9):
        wish = {"width": 300, "height": 260, "steps": 10, "levels": levels, "tile": 128, "strength": strength}
        if levels == 2:
            wish |= {"renoise": 0.1}
        canvas, _ = paint(toy_request(**wish, source=source), tmp_path / f"{strength}.zarr", 2)
        found.append(away(canvas.image[...], source["path"]))
    assert found[0] < found[1] < found[2]
    assert found[0] < 0.5 * found[2]


@pytest.mark.parametrize("size", [(150, 130), (300, 260), (900, 780)])
def test_a_source_of_any_size_is_shown_whole(size: tuple[int, int], tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png", *size)
    request = toy_request(width=300, height=260, steps=10, levels=1, strength=0.1, tile=128, source=source)
    canvas, one = paint(request, tmp_path / "one.zarr")
    _, many = paint(request, tmp_path / "many.zarr", 3)
    assert digests(one) == digests(many)
    assert away(canvas.image[...], source["path"]) < 16


def test_a_canvas_is_a_source_as_its_picture_is(tmp_path: Path) -> None:
    was, _ = paint(toy_request(width=300, height=260, steps=2, levels=1, tile=128), tmp_path / "was.zarr")
    Image.fromarray(was.image[...].transpose(1, 2, 0)).save(tmp_path / "was.png")
    wish = {"width": 600, "height": 520, "steps": 3, "tile": 128, "prompt": "sand", "match_colour": True}
    found = [
        paint(toy_request(**wish, source={"path": path}), tmp_path / f"{number}.zarr", 2)[0]
        for number, path in enumerate((str(was.path), str(tmp_path / "was.png")))
    ]
    assert np.array_equal(found[0].image[...], found[1].image[...])
    assert found[0].head().plan_hash != found[1].head().plan_hash  # the bytes they are named by differ


def test_matched_colours_are_nearer_the_sources(tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png", 150, 130)
    wish = {"width": 600, "height": 520, "steps": 4, "levels": 2, "tile": 128, "strength": 0.8, "source": source}
    plain, matched = (
        paint(toy_request(**wish, match_colour=on), tmp_path / f"{on}.zarr", 2)[0].image[...] for on in (False, True)
    )
    assert away(matched, source["path"]) < 0.7 * away(plain, source["path"])


@pytest.mark.parametrize("sync", ["shift", "overlap"])
@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral", "dpmpp_2m"])
@pytest.mark.parametrize("levels", [1, 2])
def test_sides_that_are_alike_hold_the_same_bits(sync: str, sampler: str, levels: int, tmp_path: Path) -> None:
    """As many cells deep as the tileset's strips are in the end; turned where one of the sides is."""
    seams = [
        {"one": ["a.right", "b.right", "b.top"], "other": ["a.left", "b.left"]},
        {"one": ["a.bottom"], "other": ["a.top", "b.bottom"], "mirrored": True},
    ]
    wish = {"tileset": {"pictures": SQUARES, "seams": seams}, "width": 256, "height": 512, "tile": 128, "steps": 3}
    request = toy_request(**wish, sync=sync, sampler=sampler, levels=levels)
    canvas, _ = paint(request, tmp_path / "a.zarr", 3)
    settled = plan(request)
    atlas, latents = settled.levels[-1].atlas, torch.from_numpy(canvas.latents[...])
    assert atlas is not None
    basis = registry.load(settled.spec, "cpu", "float32").turns()
    alike = 0
    for face in atlas.faces:
        for here, there, turn in atlas.origin(face.box):
            if here == there:
                continue
            alike += here.area
            values = turned(latents[:, there.y0 : there.y1, there.x0 : there.x1], turn, basis)
            assert torch.equal(latents[:, here.y0 : here.y1, here.x0 : here.x1], values)
    assert alike >= 4 * 32


@pytest.mark.parametrize("sync", ["shift", "overlap"])
@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral", "dpmpp_2m"])
def test_sides_that_are_alike_are_so_at_every_step_as_deep_as_strips_are_then(sync: str, sampler: str) -> None:
    """Cells whose predictions are shared hold the same before; of those further inside some differ in the end."""
    seams = [
        {"one": ["a.right", "b.right", "b.top"], "other": ["a.left", "b.left"]},
        {"one": ["a.bottom"], "other": ["a.top", "b.bottom"], "mirrored": True},
    ]
    wish = {"tileset": {"pictures": SQUARES, "seams": seams}, "width": 256, "height": 512, "tile": 128, "levels": 1}
    settled = plan(toy_request(**wish, steps=5, sync=sync, sampler=sampler))
    module, level = registry.load(settled.spec, "cpu", "float32"), settled.levels[0]
    group = TileGroup(settled, module, 0, lambda: False)
    group.restore(0, Partition.even(1), lambda _: np.empty(0, dtype=np.float32))
    group.begin(0)
    whole = torch.empty(settled.spec.channels, level.tiling.y.cells, level.tiling.x.cells)

    def differing(tiles: dict[int, NDArray[np.float32]], atlas: Atlas) -> int:
        for tile, cells in tiles.items():
            box = level.tiling.core(tile)
            whole[:, box.y0 : box.y1, box.x0 : box.x1] = torch.from_numpy(cells)
        found = 0
        for here, there, turn in (copy for face in atlas.faces for copy in atlas.origin(face.box)):
            values = turned(whole[:, there.y0 : there.y1, there.x0 : there.x1], turn, module.turns())
            found += int((whole[:, here.y0 : here.y1, here.x0 : here.x1] != values).any(0).sum())
        return found

    for step in range(settled.steps):
        atlas = level.joined(step)
        assert atlas is not None
        group.step(0, step)
        assert differing({tile: values[0] for tile, values in group.saved().items()}, atlas) == 0
    group.end(0)
    assert level.atlas is not None
    assert differing(group.finished(), level.atlas) == 0
    assert differing(group.finished(), level.atlas.graded[-1]) > 0


@pytest.mark.parametrize("form", ["cube", "equirectangular", "self", "wrap"])
def test_a_picture_is_decoded_with_what_lies_beyond_its_sides(form: str, tmp_path: Path) -> None:
    """As one decode of a whole face with its surroundings pasted on shows it: the toy's decoder looks one cell far.

    Where faces meet turned, both sides blend what they see over a few cells: those are left out here."""
    self_met = {"pictures": SQUARES[:1], "seams": [{"one": ["a.right"], "other": ["a.left"]}]}
    wishes: dict[str, dict[str, Any]] = {
        "cube": {"topology": "cube", "width": 768, "height": 512},
        "equirectangular": {"topology": "equirectangular", "width": 512, "height": 256},
        "self": {"tileset": self_met, "width": 256, "height": 256},
        "wrap": {"wrap": "x", "width": 256, "height": 256},
    }
    request = toy_request(**{"steps": 2, "levels": 1, "tile": 128, **wishes[form]})
    canvas, _ = paint(request, tmp_path / "a.zarr", 2)
    settled = plan(request)
    module, level = registry.load(settled.spec, "cpu", "float32"), settled.levels[-1]
    latents, shown = torch.from_numpy(canvas.latents[...]), torch.from_numpy(canvas.image[...].copy())
    alone = 0
    boxes = [face.box for face in level.atlas.faces] if level.atlas is not None else [level.tiling.core(0)]
    for number, box in enumerate(boxes):
        if level.atlas is not None:
            patch, top, left = level.atlas.around(level.tiling, number, box, 1, 0)
        else:
            box = type(box)(0, level.tiling.y.cells, 0, level.tiling.x.cells)
            patch, top, left = level.tiling.patch(0, -1, box.height, box.width + 2), 0, 1
        whole = torch.zeros(4, patch.height, patch.width)
        for piece in patch.pieces():
            there = latents[:, piece.box.y0 : piece.box.y1, piece.box.x0 : piece.box.x1]
            values = turned(there, piece.turn, module.turns())
            whole[:, piece.y : piece.y + values.shape[1], piece.x : piece.x + values.shape[2]] = values
        pixels = module.decode(whole)[:, top * 8 :, left * 8 :][:, : box.height * 8, : box.width * 8]
        wanted = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round()
        got = shown[:, box.y0 * 8 : box.y1 * 8, box.x0 * 8 : box.x1 * 8].float()
        rim = BLEND * 8 if form in ("cube", "equirectangular") else 0
        off = (wanted - got).abs()[:, rim : wanted.shape[1] - rim, rim : wanted.shape[2] - rim]
        assert float(off.max()) <= 1
        bare = module.decode(latents[:, box.y0 : box.y1, box.x0 : box.x1])
        alone += int((((bare / 2 + 0.5).clamp(0, 1) * 255).round() - got).abs().max() > 1)
    assert alone == len(boxes)  # without its surroundings it would look otherwise


def test_a_tileset_is_repainted_across_its_gap(tmp_path: Path) -> None:
    """Of a shape that reaches into a gap what lies on a picture is painted; nothing of one that lies in it wholly."""
    pictures = [SQUARES[0], {"name": "b", "width": 128, "height": 128}]
    wish = {"tileset": {"pictures": pictures, "seams": []}, "width": 256, "height": 384, "tile": 128, "steps": 2}
    was, _ = paint(toy_request(**wish, levels=1), tmp_path / "was.zarr")
    for number, (box, painted) in enumerate((((90, 290, 80, 40), True), ((160, 290, 20, 20), False))):
        request = toy_request(**wish, prompt="sand", source={"path": str(was.path)}, repaint=[{"box": box}])
        found, one = paint(request, tmp_path / f"{number}one.zarr")
        _, many = paint(request, tmp_path / f"{number}many.zarr", 3)
        assert digests(one) == digests(many)
        changed = (found.image[...] != was.image[...]).any(axis=0)
        assert changed[290:330, 90:128].any() == painted
        changed[290:330, 90:128] = False
        assert not changed.any()


def test_decoders_are_told_how_far_they_look() -> None:
    """Every tile waits for all whose latents its decoder reads: both ask the same function."""
    source = {"path": "a", "sha256": "0" * 64, "size": (150, 130)}
    request = toy_request(width=1200, height=1040, levels=3, source=source, match_colour=True, tile=128)
    settled = make_plan(request, toy_spec())
    queue, decoder = TileQueue(settled, False, ()), Decoder(settled, None, None)  # type: ignore[arg-type]
    tile = settled.tiling.count // 2
    reads = {
        number
        for part in around(settled.levels[-1], settled.tiling.core(tile), decoder._halo)
        for number in part.patch.tiles()
    }
    queue.keep(reads - {min(reads)})
    assert list(queue.give(0, [tile])) == []
    queue.keep(reads)
    assert [number for number, _ in queue.give(0, [tile])] == [tile]
