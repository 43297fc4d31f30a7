"""Laws of voices: shares sum to one, and whoever has a share of a window's cells is heard in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from raytile.plan.area import cover
from raytile.plan.plan import Plan
from raytile.plan.voices import Voice, shares
from tests.plan.strategies import plans

covers = st.integers(1, 5).flatmap(
    lambda count: st.tuples(
        arrays(np.float32, (count, 3, 4), elements=st.floats(0, 1, width=32)),
        st.lists(st.floats(0.01, 100), min_size=count, max_size=count),
    )
)


@given(covers)
def test_shares_sum_to_one_and_follow_cover_and_weight(given_: tuple[np.ndarray, list[float]]) -> None:
    found, weights = given_
    parts = shares(list(found), weights)
    assert all(part.dtype == np.float32 for part in parts)
    assert all((part >= 0).all() for part in parts)
    assert np.allclose(np.sum(parts, axis=0), 1, atol=1e-5)
    # the base has what is left, and regions divide what they have by cover times weight
    taken = np.minimum(found.astype(np.float64).sum(axis=0), 1)
    assert np.allclose(parts[0], 1 - taken, atol=1e-5)
    said = found.astype(np.float64) * np.array(weights)[:, None, None]
    for k, part in enumerate(parts[1:]):
        assert np.allclose(part * said.sum(axis=0), taken * said[k], rtol=1e-4, atol=1e-4 * max(weights))


def test_a_region_alone_has_its_cover_whatever_its_weight() -> None:
    ramp = np.linspace(0, 1, 7, dtype=np.float32)[None]
    for weight in (0.1, 1.0, 30.0):
        base, region = shares([ramp], [weight])
        assert np.allclose(region, ramp)
        assert np.allclose(base, 1 - ramp)


@pytest.mark.parametrize(
    ("guidance", "guided", "texts"),
    [(3.0, True, ("n", "p")), (3.0, False, ("p",)), (1.0, True, ("p",)), (0.0, True, ("p",))],
)
def test_a_voice_asks_twice_where_it_is_guided(guidance: float, guided: bool, texts: tuple[str, ...]) -> None:
    assert Voice("p", "n", guidance).texts(guided) == texts


@settings(max_examples=60, deadline=None)
@given(plans(max_cells=30, regions=True))
def test_whoever_has_a_share_of_a_window_is_heard_in_it(plan: Plan) -> None:
    factor = plan.spec.factor
    regions = plan.request.regions
    for level in plan.levels:
        tiling = level.tiling
        down, across = plan.tiling.y.cells / tiling.y.cells, plan.tiling.x.cells / tiling.x.cells
        y, x = (
            (np.arange(tiling.y.cells)[:, None] + 0.5) * factor * down,
            (np.arange(tiling.x.cells) + 0.5) * factor * across,
        )
        parts = shares([cover(r, y, x, plan.period) for r in regions], [r.weight for r in regions])
        step = level.first_step
        windows, heard = plan.windows(level.index, step), plan.heard(level.index, step)
        assert heard.shape == (len(windows), 1 + len(regions))
        assert heard.any(axis=1).all()
        for window in range(len(windows)):
            for piece in windows.reads(window).pieces():
                y0, y1, x0, x1 = piece.box
                for number, part in enumerate(parts):
                    if (part[y0:y1, x0:x1] > 0).any():
                        assert heard[window, number], (window, number)
        # rows: each text once
        asked = [voice.texts(plan.guided[step]) for voice in level.voices]
        rows = [len({t for texts, on in zip(asked, mine, strict=True) if on for t in texts}) for mine in heard]
        assert plan.rows(level.index, step).tolist() == rows
