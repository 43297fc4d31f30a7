"""Law 2 (same request, same picture) and law 5 (foretold) in this process; the Ray pool is held to the same digests."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.renders import digests, paint, toy_request
from tests.models.make_tiny import tiny_stable_diffusion, tiny_terra


@st.composite
def wishes(draw: st.DrawFn) -> dict[str, Any]:
    """Requests of the toy model over all strategies, topologies, samplers and awkward sizes."""
    wrap = draw(st.sampled_from(["none", "x", "y", "xy"]))
    sides = {
        name: 8 * draw(st.integers(6, 50)) - (0 if letter in wrap else draw(st.integers(0, 7)))
        for name, letter in (("width", "x"), ("height", "y"))
    }
    return {
        **sides,
        "wrap": wrap,
        "sync": draw(st.sampled_from(["shift", "overlap"])),
        "weights": draw(st.sampled_from(["uniform", "gaussian", "linear"])),
        "sampler": draw(st.sampled_from(["ddim", "euler", "euler_ancestral", "dpmpp_2m"])),
        "steps": draw(st.integers(1, 4)),
        "tile": 128 * draw(st.integers(1, 2)),
        "micro_batch": draw(st.sampled_from([1, 3, 4])),
        "seed": draw(st.integers(0, 99)),
    }


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(wishes(), st.sampled_from([2, 3, 5, 8]))
def test_the_picture_does_not_depend_on_how_many_paint_it(wish: dict[str, Any], workers: int) -> None:
    with TemporaryDirectory() as folder:
        alone, one = paint(toy_request(**wish), Path(folder, "one.zarr"))
        together, many = paint(toy_request(**wish), Path(folder, "many.zarr"), workers)
        assert digests(one) == digests(many)
        assert np.array_equal(alone.image[...], together.image[...])
        for summary in (one, many):
            assert summary["evaluations"] == summary["evaluations_planned"]
            assert summary["bytes_exchanged"] == summary["bytes_planned"]
        assert one["bytes_exchanged"] == 0
        assert np.isfinite(together.latents[...]).all()


@pytest.mark.parametrize("make", [tiny_stable_diffusion, tiny_terra])
def test_real_shapes_give_the_same_picture_for_any_number_of_workers(make: Any, tmp_path: Path) -> None:
    request = toy_request(model=str(make(tmp_path / "model")), width=96, height=64, prompt="red cat", steps=3, wrap="x")
    found = {digests(paint(request, tmp_path / f"{n}.zarr", n)[1]) for n in (1, 2, 3)}
    assert len(found) == 1


def test_another_seed_is_another_picture_and_so_is_another_prompt(tmp_path: Path) -> None:
    wishes = ({}, {"seed": 4}, {"prompt": "goodbye"}, {"negative": "grey"}, {"wrap": "x"})
    found = {digests(paint(toy_request(**wish), tmp_path / f"{n}.zarr")[1]) for n, wish in enumerate(wishes)}
    assert len(found) == len(wishes)


def test_digests_in_the_summary_are_those_of_what_is_on_disk(tmp_path: Path) -> None:
    canvas, summary = paint(toy_request(), tmp_path / "a.zarr", 2)
    assert canvas.digests() == digests(summary)
