"""What lies around a box: its halo over seams, the way by pixels, and how far decoders look."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raytile.geometry.box import Box
from raytile.plan.around import around, by_pixels, decode_reach
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from raytile.plan.settle import make_plan
from raytile.plan.upsample import enlarging
from tests.geometry.atlases import shown
from tests.plan.strategies import plans, small_spec


def cells(box: Box) -> np.ndarray:
    return np.arange(box.y0, box.y1)[:, None] * 1000 + np.arange(box.x0, box.x1)


@settings(max_examples=60, deadline=None)
@given(plans(max_cells=30, closed=True), st.integers(0, 12))
def test_around_a_tile_lies_the_tile_itself_and_its_halo(plan: Plan, halo: int) -> None:
    level = plan.levels[-1]
    for tile in range(level.tiling.count):
        core = level.tiling.core(tile)
        covered = np.zeros((core.height, core.width), int)
        for part in around(level, core, halo):
            seen = shown(part.patch.height, part.patch.width, part.patch.pieces())
            inner = seen[part.top :, part.left :][: part.box.height, : part.box.width]
            assert np.array_equal(inner, cells(part.box))
            place = part.box.shift(-core.y0, -core.x0)
            covered[place.y0 : place.y1, place.x0 : place.x1] += 1
            for before, inside, after in (
                (part.top, part.box.height, part.patch.height),
                (part.left, part.box.width, part.patch.width),
            ):
                assert 0 <= before <= halo
                assert 0 <= after - before - inside <= halo
        faces = [core] if level.atlas is None else [core.intersect(face.box) for face in level.atlas.faces]
        assert covered.sum() == sum(face.area for face in faces)
        assert covered.max(initial=0) <= 1


@settings(max_examples=60, deadline=None)
@given(plans(max_cells=40), st.integers(0, 5))
def test_by_way_of_pixels_the_cells_asked_for_are_the_cells_made(plan: Plan, halo: int) -> None:
    """The enlarged pixels are whole cells of the fine level, its box among them, with the encoder's halo where there
    is room; all taps lie in what is decoded."""
    sides = {"width": plan.request.width + 32, "height": plan.request.height + 32}
    request = plan.request.model_copy(update={"levels": 2, "enlarge": "pixels", "tile": None, **sides})
    spec = small_spec(window=4, halo=halo)
    pixels = make_plan(request, spec)
    fine, coarse, factor = pixels.levels[1].tiling, pixels.levels[0].tiling, spec.factor
    for tile in range(fine.count):
        box = fine.core(tile)
        way = by_pixels(pixels, 1, box)
        for taps, start, inside, down, length, whole in (
            (way.rows, way.top, box.height, way.down, way.patch.height, coarse.y),
            (way.columns, way.left, box.width, way.right, way.patch.width, coarse.x),
        ):
            assert len(taps.cells) % factor == 0
            assert down + inside <= len(taps.cells) // factor
            assert start >= 0
            assert start + taps.length <= length * factor
            assert length <= whole.cells or whole.wrap


@settings(max_examples=40, deadline=None)
@given(plans(max_cells=60, closed=True))
def test_what_enlarges_a_tile_covers_it_once(plan: Plan) -> None:
    for level in plan.levels[1:]:
        for tile in range(level.tiling.count):
            core = level.tiling.core(tile)
            parts = enlarging(plan, level.index, core)
            covered = np.zeros((core.height, core.width), int)
            for part in parts:
                place = part.box.shift(-core.y0, -core.x0)
                covered[place.y0 : place.y1, place.x0 : place.x1] += 1
                assert (len(part.rows.cells), len(part.columns.cells)) == (part.box.height, part.box.width)
                assert max(max(four) for four in part.rows.cells) < part.patch.height
                assert max(max(four) for four in part.columns.cells) < part.patch.width
            faces = [core] if level.atlas is None else [core.intersect(face.box) for face in level.atlas.faces]
            assert covered.sum() == sum(face.area for face in faces)
            assert covered.max(initial=0) <= 1


@given(st.integers(0, 9), st.integers(1, 4))
def test_matching_colours_looks_farther_in_whole_blocks(halo: int, levels: int) -> None:
    spec = small_spec(halo=halo)
    wish = {"prompt": "", "width": 400, "height": 400, "levels": levels}
    source = {"path": "a", "sha256": "0" * 64, "size": (50, 50)}
    plain = make_plan(RenderRequest.parse(**wish, source=source), spec)
    assert decode_reach(plain) == halo
    matched = make_plan(RenderRequest.parse(**wish, source=source, match_colour=True), spec)
    block = 2 ** (levels - 1)
    assert decode_reach(matched) % block == 0
    assert halo + 3 * block <= decode_reach(matched) < halo + 4 * block
