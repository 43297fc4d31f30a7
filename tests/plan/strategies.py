"""Hypothesis strategies for requests and small model specs."""

from __future__ import annotations

from hypothesis import strategies as st

from raytile.plan.plan import Plan
from raytile.plan.settle import make_plan
from raytile.plan.request import RenderRequest
from raytile.plan.spec import ModelSpec


def small_spec(window: int = 8, stride: int = 2, halo: int = 3, channels: int = 2) -> ModelSpec:
    """A model whose canvases stay small: `window` cells of 4 pixels."""
    return ModelSpec(
        name="small",
        kind="toy",
        path="",
        digest="0" * 64,
        channels=channels,
        factor=4,
        window=window,
        network_stride=stride,
        decode_halo=halo,
        prediction="epsilon",
        default_sampler="ddim",
        default_steps=4,
        default_guidance=2.0,
        guidance_interval=(0.25, 0.75),
        micro_batch=3,
    )


@st.composite
def plans(draw: st.DrawFn, max_cells: int = 60) -> Plan:
    """Any request of a small model: all strategies and topologies, sizes off every stride, smaller than a window."""
    spec = small_spec(
        window=draw(st.sampled_from([4, 8, 12])),
        stride=draw(st.sampled_from([1, 2, 4])),
        halo=draw(st.integers(0, 9)),
    )
    wrap = draw(st.sampled_from(["none", "x", "y", "xy"]))
    sides = {}
    for name, letter in (("width", "x"), ("height", "y")):
        cells = draw(st.integers(1, max_cells))
        loss = 0 if letter in wrap else draw(st.integers(0, spec.factor - 1))
        sides[name] = cells * spec.factor - loss
    request = RenderRequest(
        prompt=draw(st.text(max_size=5)),
        seed=draw(st.integers(0, 2**63 - 1)),
        sync=draw(st.sampled_from(["shift", "overlap"])),
        weights=draw(st.sampled_from(["uniform", "gaussian", "linear"])),
        stride=draw(st.sampled_from([0.125, 0.25, 0.5, 1.0])),
        steps=draw(st.integers(1, 6)),
        tile=spec.window * spec.factor * draw(st.integers(1, 3)),
        wrap=wrap,
        **sides,
    )
    return make_plan(request, spec)
