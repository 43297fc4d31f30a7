"""Laws of fusing windows and of upsampling between levels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raytile.errors import RaytileError
from raytile.geometry.axis import Axis
from raytile.geometry.box import Box
from raytile.geometry.tiling import Tiling
from raytile.plan.plan import Plan
from raytile.plan.upsample import coarse_patch, taps
from raytile.sync.fuse import Contribution, fuse, guide, profile
from raytile.sync.upsample import double, upsample
from tests.plan.strategies import plans


@settings(max_examples=40, deadline=None)
@given(plans(max_cells=40))
def test_normalised_weights_sum_to_one_in_every_cell(plan: Plan) -> None:
    """Law 1, for every kind of weights: windows that all say the same are believed."""
    line = profile(plan.weights, plan.spec.window)
    weights = None if line is None else torch.outer(line, line)
    for level in plan.levels:
        windows = plan.windows(level.index, level.first_step)
        for tile in range(level.tiling.count):
            said = []
            for window in range(len(windows)):
                for number, box, y, x, _ in windows.gives(window).pieces():
                    if number == tile:
                        cut = None if weights is None else weights[y : y + box.height, x : x + box.width]
                        said.append(Contribution(box, torch.full((1, box.height, box.width), 3.0), cut))
            fused = fuse(level.tiling.core(tile), 1, said)
            assert torch.allclose(fused, torch.full_like(fused, 3.0), rtol=1e-6)


def test_one_contribution_is_kept_to_the_bit() -> None:
    values = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fuse(Box(0, 8, 0, 8), 4, [Contribution(Box(0, 8, 0, 8), values, None)]), values)


def test_a_cell_that_no_window_covers_is_an_error_not_a_blank() -> None:
    with pytest.raises(RaytileError, match="no window covers"):
        fuse(Box(0, 4, 0, 4), 1, [Contribution(Box(0, 4, 0, 3), torch.ones(1, 4, 3), None)])


@pytest.mark.parametrize("size", [4, 7, 64])
def test_profiles_are_symmetric_positive_and_highest_in_the_middle(size: int) -> None:
    for kind in ("gaussian", "linear"):
        line = profile(kind, size)
        assert line is not None
        assert (line > 0).all()
        assert torch.equal(line, line.flip(0))
        assert line.argmax() in (size // 2, (size - 1) // 2)
    assert profile("uniform", size) is None


def test_gaussian_weights_have_a_variance_of_a_hundredth_of_the_window() -> None:
    line = profile("gaussian", 64)
    assert line is not None
    step = torch.log(line[32]) - torch.log(line[40])  # cells 0.5 and 8.5 from the middle
    assert step.item() == pytest.approx((8.5**2 - 0.5**2) / 64**2 / 0.02, rel=1e-4)


def test_guidance_of_one_is_the_prompt_alone() -> None:
    negative, positive = torch.randn(2, 3, 4, 4).unbind()
    assert torch.allclose(guide(negative, positive, 1.0), positive, atol=1e-6)
    assert torch.equal(guide(negative, positive, 0.0), negative)


axes = st.tuples(st.integers(4, 20), st.integers(0, 1), st.booleans())


@settings(deadline=None)
@given(axes, axes, st.integers(2, 9), st.data())
def test_a_cell_is_upsampled_alike_in_any_tiling(
    y: tuple[int, int, bool], x: tuple[int, int, bool], tile: int, data: st.DataObject
) -> None:
    def grid(scale: int, size: int) -> Tiling:
        return Tiling(*(Axis(cells * scale - odd * (scale - 1), size, wrap) for cells, odd, wrap in (y, x)))

    coarse_whole, fine_whole = grid(1, 64), grid(2, 64)
    coarse, fine = grid(1, data.draw(st.integers(2, 9))), grid(2, tile)
    field = torch.randn(2, coarse.y.cells, coarse.x.cells, generator=torch.Generator().manual_seed(1))

    random = torch.Generator().manual_seed(2)
    affine = (torch.randn(2, 2, 2, 3, 3, 2, generator=random), torch.randn(2, 2, 2, generator=random))

    def read(tiling: Tiling, small: Tiling, number: int) -> torch.Tensor:
        patch, rows, columns = coarse_patch(small, tiling, tiling.core(number))
        cells = torch.full((2, patch.height, patch.width), torch.nan)
        for _, box, top, left, _ in patch.pieces():
            cells[:, top : top + box.height, left : left + box.width] = field[:, box.y0 : box.y1, box.x0 : box.x1]
        return torch.cat((upsample(cells, rows, columns), double(cells, rows, columns, *affine)))

    whole = read(fine_whole, coarse_whole, 0)
    for number in range(fine.count):
        core = fine.core(number)
        assert torch.equal(read(fine, coarse, number), whole[:, core.y0 : core.y1, core.x0 : core.x1])


def test_upsampling_keeps_quadratics_and_joins_wrapped_ends() -> None:
    coarse, fine = Axis(20, 64, wrap=False), Axis(40, 64, wrap=False)
    positions = torch.arange(20, dtype=torch.float32) + 0.5
    curve = 3 + 2 * positions - 0.1 * positions**2
    rows = taps(coarse, fine, 0, 40)
    one = taps(Axis(4, 64, wrap=False), Axis(8, 64, wrap=False), 0, 8)
    result = upsample(curve.view(1, 20, 1).expand(1, 20, 4), rows, one)[0, :, 0]
    at = (torch.arange(40, dtype=torch.float32) + 0.5) / 2
    wanted = 3 + 2 * at - 0.1 * at**2
    assert torch.allclose(result[4:-4], wanted[4:-4], atol=1e-4)

    ring, double = Axis(16, 64, wrap=True), Axis(32, 64, wrap=True)
    noise = torch.randn(1, 16, 1, generator=torch.Generator().manual_seed(0)).expand(1, 16, 4)

    def around(values: torch.Tensor) -> torch.Tensor:
        t = taps(ring, double, 0, 32)
        return upsample(values[:, [(t.origin + i) % 16 for i in range(t.length)]], t, one)

    assert torch.equal(around(noise.roll(3, 1)), around(noise).roll(6, 1))


def test_doubling_follows_its_map_of_three_cells_to_two() -> None:
    """Against plain loops; at a bounded end the end's cell stands for what is beyond."""
    random = torch.Generator().manual_seed(0)
    kernel, offset = torch.randn(2, 2, 3, 3, 3, 3, generator=random), torch.randn(2, 2, 3, generator=random)
    field = torch.randn(3, 5, 4, generator=random)
    rows = taps(Axis(5, 64, wrap=False), Axis(10, 64, wrap=False), 0, 10)
    columns = taps(Axis(4, 64, wrap=True), Axis(8, 64, wrap=True), 0, 8)
    result = double(
        field[:, :, [(columns.origin + i) % 4 for i in range(columns.length)]], rows, columns, kernel, offset
    )
    assert result.shape == (3, 10, 8)
    for y in range(10):
        for x in range(8):
            near = torch.stack(
                [
                    torch.stack([field[:, min(max(y // 2 + dy, 0), 4), (x // 2 + dx) % 4] for dx in (-1, 0, 1)])
                    for dy in (-1, 0, 1)
                ]
            )
            wanted = torch.einsum("odec,dec->o", kernel[y % 2, x % 2], near) + offset[y % 2, x % 2]
            assert torch.allclose(result[:, y, x], wanted, atol=1e-4)
