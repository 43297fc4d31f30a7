"""Laws of the plan: cover, counts, levels, errors, hash."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raytile.errors import InvalidRequest
from raytile.plan.phases import phases
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from raytile.plan.settle import make_plan
from raytile.plan.spec import Zoom
from raytile.plan.upsample import coarse_patch
from tests.plan.strategies import plans, small_spec


@settings(max_examples=60, deadline=None)
@given(plans())
def test_at_every_step_the_windows_cover_every_cell(plan: Plan) -> None:
    """Law 1."""
    for level in plan.levels:
        owned = np.zeros((level.tiling.y.cells, level.tiling.x.cells), int)
        for tile in range(level.tiling.count):
            core = level.tiling.core(tile)
            owned[core.y0 : core.y1, core.x0 : core.x1] += 1
        assert (owned == 1).all()
        for step in range(level.first_step, level.steps):
            windows = plan.windows(level.index, step)
            covered = np.zeros_like(owned)
            for window in range(len(windows)):
                mine = np.zeros_like(owned)
                for piece in windows.gives(window).pieces():
                    mine[piece.box.y0 : piece.box.y1, piece.box.x0 : piece.box.x1] += 1
                assert mine.max() == 1, "a window speaks once about a cell"
                covered += mine
            assert covered.min() >= 1


@given(plans())
def test_window_origins_stand_on_the_networks_stride_or_at_a_bounded_end(plan: Plan) -> None:
    size, stride = plan.spec.window, plan.spec.network_stride
    for level in plan.levels:
        windows = plan.windows(level.index, level.first_step)
        if plan.request.sync == "shift":
            for axis, origins in ((level.tiling.y, windows.ys), (level.tiling.x, windows.xs)):
                if not axis.wrap:
                    assert all(o % stride == 0 or o == axis.cells - size for o in origins)
            assert all(0 <= o < size and o % stride == 0 for o in plan.offset(level.index, level.first_step))


@given(plans())
def test_levels_double_and_end_at_the_picture(plan: Plan) -> None:
    for coarse, fine in itertools.pairwise(plan.levels):
        for small, large in ((coarse.tiling.y, fine.tiling.y), (coarse.tiling.x, fine.tiling.x)):
            assert small.cells == -(-large.cells // 2) >= plan.spec.window
    spec, request = plan.spec, plan.request
    for axis, pixels in ((plan.tiling.y, request.height), (plan.tiling.x, request.width)):
        assert axis.cells * spec.factor >= pixels
        assert axis.cells in (spec.window, -(-pixels // spec.factor))


@given(plans())
def test_phases_run_every_step_of_every_level_once_and_keep_last(plan: Plan) -> None:
    course = phases(plan)
    assert [p.kind for p in course].count("keep") == 1
    assert course[-1].kind == "keep"
    for kind in ("begin", "end"):
        assert [p.level for p in course if p.kind == kind] == [level.index for level in plan.levels]
    steps = [(p.level, p.step) for p in course if p.kind == "step"]
    assert steps == [(level.index, s) for level in plan.levels for s in range(level.first_step, level.steps)]


@given(plans())
def test_upsampling_reads_the_coarse_cells_around_each_fine_one(plan: Plan) -> None:
    for coarse, fine in itertools.pairwise(plan.levels):
        for tile in range(fine.tiling.count):
            core = fine.tiling.core(tile)
            patch, rows, columns = coarse_patch(coarse.tiling, fine.tiling, core)
            assert (patch.height, patch.width) == (rows.length, columns.length)
            for taps, axis, larger, first in (
                (rows, coarse.tiling.y, fine.tiling.y, core.y0),
                (columns, coarse.tiling.x, fine.tiling.x, core.x0),
            ):
                for number, index in enumerate(taps.cells):
                    centre = (first + number + 0.5) * axis.cells / larger.cells - 0.5
                    base = int(np.floor(centre + 1e-9))
                    wanted = [base + tap - 1 for tap in range(4)]
                    if not axis.wrap:
                        wanted = [min(max(cell, 0), axis.cells - 1) for cell in wanted]
                    assert [taps.origin + i for i in index] == wanted
                    assert taps.numerator[number] / taps.denominator == pytest.approx(centre - base, abs=1e-9)


def test_shift_sees_the_canvas_as_often_as_promised() -> None:
    """(n + 1) / n over bounded axes at most, exactly once on a torus that windows divide."""
    spec = small_spec(window=8, stride=1)
    for cells, wrap, most in (
        (64, "none", (9 / 8) ** 2),
        (256, "none", (33 / 32) ** 2),
        (64, "x", 9 / 8),
        (64, "xy", 1),
    ):
        request = RenderRequest(prompt="", width=cells * 4, height=cells * 4, wrap=wrap, steps=32, levels=1)
        plan = make_plan(request, spec)
        shares = [len(plan.windows(0, step)) * 64 / cells**2 for step in range(32)]
        assert max(shares) == pytest.approx(most)
        if wrap == "xy":
            assert set(shares) == {1.0}


def test_offsets_are_spread_evenly_and_started_from_the_seed() -> None:
    spec = small_spec(window=8, stride=1)
    plan = make_plan(RenderRequest(prompt="", width=256, height=256, steps=64, levels=1), spec)
    other = make_plan(RenderRequest(prompt="", width=256, height=256, steps=64, levels=1, seed=1), spec)
    met = [plan.offset(0, step) for step in range(64)]
    assert met != [other.offset(0, step) for step in range(64)]
    for axis in (0, 1):
        counts = np.bincount([o[axis] for o in met], minlength=8)
        assert counts.min() >= 6, "random ones would range from about 2 to 15"
        assert counts.max() <= 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wrap": "x", "width": 101}, "100 or 104"),
        ({"sampler": "heun"}, "ddim"),
        ({"tile": 33}, "such as 32"),
        ({"levels": 9}, "room for"),
        ({"guidance_interval": (0.9, 0.1)}, "rising"),
        ({"tile": 8224, "width": 9000}, "at most 8192 pixels a side, such as 8192 (got 8224)"),
        ({"tile": 65536, "height": 2**20}, "at most 8192 pixels"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_that_names_the_fix(changes: dict[str, object], words: str) -> None:
    values: dict[str, object] = {"prompt": "x", "width": 200, "height": 200, **changes}
    with pytest.raises(InvalidRequest) as caught:
        make_plan(RenderRequest.parse(**values), small_spec())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{"width": 0}, {"height": -5}, {"width": 2**21}, {"steps": 0}, {"guidance": float("nan")}, {"seed": -1},
     {"stride": 0}, {"stride": 1.5}, {"sync": "magic"}, {"wrap": "z"}, {"colour": "red"}, {"levels": "some"}],
)  # fmt: skip
def test_requests_are_validated_at_the_boundary(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        RenderRequest.parse(**{"prompt": "x", "width": 200, "height": 200, **changes})
    assert next(iter(changes)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("levels", [0, 17, "some", 1.5, None])
def test_a_wrong_number_of_levels_is_told_the_right_ones(levels: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        RenderRequest.parse(prompt="x", width=200, height=200, levels=levels)
    assert str(caught.value) == f"levels: 'auto' or a whole number from 1 to 16 (got {levels!r})"


def test_a_message_repeats_only_the_beginning_of_a_long_value() -> None:
    with pytest.raises(InvalidRequest, match=r"prompt: .*10000 characters \(got 'aaa") as caught:
        RenderRequest.parse(prompt="a" * 10_001, width=200, height=200)
    assert str(caught.value).endswith(f"(got '{'a' * 59}...)")
    with pytest.raises(InvalidRequest) as caught:
        RenderRequest.parse(prompt="a" * 9000, width=200, colour="red")
    assert str(caught.value).startswith("height: ")
    assert len(str(caught.value)) < 120


@given(plans(), st.integers(1, 2000))
def test_a_tile_is_no_larger_than_the_canvas_in_whole_windows(plan: Plan, windows: int) -> None:
    """Tiles above that change nothing, so all of them are one plan; what a decoder must hold stays bounded."""
    request, window = plan.request, plan.spec.window * plan.spec.factor
    asked = make_plan(request.model_copy(update={"tile": windows * window}), plan.spec)
    side = asked.request.tile
    assert side is not None
    assert side % window == 0
    assert side == min(windows * window, -(-max(request.width, request.height) // window) * window)
    for level in asked.levels:
        assert level.tiling.y.tile == level.tiling.x.tile == side // plan.spec.factor
    if windows * window >= max(request.width, request.height):
        assert asked.tiling.count == 1


@given(plans(), plans())
def test_what_changes_no_pixel_under_shift_changes_no_hash(one: Plan, other: Plan) -> None:
    changes = {"stride": other.request.stride, "weights": other.request.weights, "sync": "shift"}
    plain = make_plan(one.request.model_copy(update={"sync": "shift"}), one.spec)
    assert make_plan(one.request.model_copy(update=changes), one.spec) == plain
    assert (plain.request.stride, plain.request.weights, plain.weights) == (1.0, "uniform", "uniform")
    loose = make_plan(one.request.model_copy(update={"sync": "overlap", "weights": "linear"}), one.spec)
    tight = make_plan(one.request.model_copy(update={"sync": "overlap", "weights": "gaussian"}), one.spec)
    assert loose.hash != tight.hash


@given(plans())
def test_requests_survive_json_and_the_hash_follows_what_decides_pixels(plan: Plan) -> None:
    again = RenderRequest.model_validate_json(plan.request.model_dump_json())
    assert again == plan.request
    same = make_plan(again, plan.spec)
    assert same.hash == plan.hash
    other = make_plan(again.model_copy(update={"seed": (again.seed + 1) % 2**63}), plan.spec)
    assert other.hash != plan.hash


def test_each_level_asks_for_its_zoom() -> None:
    from dataclasses import replace

    zooms = tuple(Zoom(2.0**-n, phrase) for n, phrase in ((3, "far"), (2, "middle"), (1, "near"), (0, "close")))
    spec = replace(small_spec(), zooms=zooms)
    seen = {}
    for width in (32, 128, 256, 512, 1024):
        plan = make_plan(RenderRequest(prompt="sea", width=width, height=width), spec)
        seen[width] = [level.prompt.removeprefix("sea, ") for level in plan.levels]
    assert seen[32] == ["near"]
    assert seen[128] == ["middle", "near"]
    assert seen[256] == ["far", "middle", "near"]
    assert seen[512] == ["far", "middle", "near", "close"]
    assert seen[1024] == ["far", "middle", "near", "close", "close"]
    named = make_plan(RenderRequest(prompt="sea, far", width=32, height=32), spec)
    assert named.levels[0].prompt == "sea, far"


@given(st.integers(0, 2**63 - 1))
def test_noise_belongs_to_the_cell_and_to_nothing_else(seed: int) -> None:
    """Law 2: whichever box it is drawn in; the numbers are normal."""
    from raytile.geometry.box import Box
    from raytile.plan import noise

    field = noise.key(seed, 0, "start")
    for channels in (1, 4, 8):
        whole = noise.normal(field, Box(3, 19, 5, 25), channels)
        assert (noise.normal(field, Box(7, 12, 9, 10), channels) == whole[:, 4:9, 4:5]).all()
        assert np.isfinite(whole).all()
    assert noise.key(seed, 1, "start") != field != noise.key(seed, 0, "ancestral")


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    from raytile.geometry.box import Box
    from raytile.plan import noise

    field = noise.normal(noise.key(0, 0, "start"), Box(0, 256, 0, 256), 4)
    assert abs(field.mean()) < 0.01
    assert abs(field.std() - 1) < 0.01
    flat = field.reshape(4, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 0.02
    assert abs((field[:, :, 1:] * field[:, :, :-1]).mean()) < 0.01
    assert abs((field[:, 1:] * field[:, :-1]).mean()) < 0.01
