"""Weights over the steps of a finer level, by DemoFusion's formulas (Du et al. 2024, arXiv 2311.16973)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytile.plan.cascade import blur, decay, dilated_weight, skip_weight
from raytile.plan.request import RenderRequest
from raytile.plan.settle import make_plan
from tests.plan.strategies import small_spec

T = 50


@pytest.mark.parametrize("step", range(T))
def test_weights_are_those_of_the_paper(step: int) -> None:
    """Section 3.2: c1 = ((1 + cos((T - t) / T * pi)) / 2) ** a1 with a1 = 3; section 3.3: c2 the same with a2 = 1, and
    the filter's sigma falls with a3 = 1 from 1 to 0.01. t counts down, from T at the first step."""
    t = T - step
    wave = (1 + np.cos((T - t) / T * np.pi)) / 2
    assert skip_weight(step, T) == pytest.approx(wave**3, abs=1e-12)
    assert dilated_weight(step, T) == pytest.approx(wave, abs=1e-12)
    assert blur(step, T) == pytest.approx(0.99 * wave + 0.01, abs=1e-12)


@given(st.integers(1, 500))
def test_the_level_before_leads_less_and_less(steps: int) -> None:
    for weight in (decay, skip_weight, dilated_weight, blur):
        values = [weight(step, steps) for step in range(steps)]
        assert values[0] == pytest.approx(1)
        assert all(one > other > 0 for one, other in pairwise(values))


@given(st.integers(1, 60), st.floats(0.01, 1))
def test_a_share_of_the_steps_is_painted_anew(steps: int, share: float) -> None:
    """Shares count from the end: 1 is every step, and there is always one."""
    spec = small_spec()
    wish = {"prompt": "", "width": 80, "height": 80, "steps": steps, "levels": 2, "renoise": share}
    first = [level.first_step for level in make_plan(RenderRequest.parse(**wish), spec).levels]
    assert first == [0, steps - max(1, int(steps * share))]
    source = {"path": "a", "sha256": "0" * 64, "size": (40, 40)}
    painted = {**wish, "source": source, "strength": share, "renoise": 1.0}
    assert [level.first_step for level in make_plan(RenderRequest.parse(**painted), spec).levels] == [first[1], 0]


def test_only_finer_levels_are_led() -> None:
    wish = {"prompt": "", "width": 160, "height": 160, "levels": 3}
    for changes, anchored, dilated in (
        ({}, [False] * 3, [False] * 3),
        ({"skip_residual": True}, [False, True, True], [False] * 3),
        ({"dilated": True}, [False] * 3, [False, True, True]),
    ):
        plan = make_plan(RenderRequest.parse(**wish, **changes), small_spec())
        assert [level.anchored for level in plan.levels] == anchored
        assert [level.dilated for level in plan.levels] == dilated
        assert [level.begins for level in plan.levels] == ["noise", "level", "level"]
    pixels = make_plan(RenderRequest.parse(**wish, enlarge="pixels"), small_spec())
    assert [level.begins for level in pixels.levels] == ["noise", "clean", "clean"]
