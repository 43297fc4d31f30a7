"""Hypothesis strategies for requests and small model specs."""

from __future__ import annotations

from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from raytile.errors import InvalidRequest
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from raytile.plan.scene import Picture, Region, Shape, TilePicture, TileSeam, Tileset
from raytile.plan.settle import make_plan
from raytile.plan.spec import ModelSpec
from raytile.plan.tilesets import canvas_size


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
def plans(
    draw: st.DrawFn, max_cells: int = 60, regions: bool = False, closed: bool = False, partial: bool = False
) -> Plan:
    """Any request of a small model: all strategies and topologies, sizes off every stride, smaller than a window.

    With `regions` by a scene, with `closed` also on spheres and tilesets, with `partial` also of a part of a canvas."""
    spec = small_spec(
        window=draw(st.sampled_from([4, 8, 12])),
        stride=draw(st.sampled_from([1, 2, 4])),
        halo=draw(st.integers(0, 9)),
    )
    joined = draw(forms(spec, max_cells)) if closed and draw(st.booleans()) else draw(planes(spec, max_cells))
    begins = draw(parts(spec, joined)) if partial else {}
    request = RenderRequest(
        prompt=draw(st.text(max_size=5)),
        seed=draw(st.integers(0, 2**63 - 1)),
        sync=draw(st.sampled_from(["shift", "overlap"])),
        weights=draw(st.sampled_from(["uniform", "gaussian", "linear"])),
        stride=draw(st.sampled_from([0.125, 0.25, 0.5, 1.0])),
        steps=draw(st.integers(1, 6)),
        tile=spec.window * spec.factor * draw(st.integers(1, 3)),
        regions=tuple(draw(st.lists(scenes(joined), min_size=1, max_size=3))) if regions else (),
        **joined,
        **begins,
    )
    try:
        return make_plan(request, spec)
    except InvalidRequest as error:
        assume(not str(error).startswith("repaint: this would change a side that others are like"))
        raise


@st.composite
def planes(draw: st.DrawFn, spec: ModelSpec, max_cells: int) -> dict[str, Any]:
    """Sizes of flat and wrapped canvases."""
    wrap = draw(st.sampled_from(["none", "x", "y", "xy"]))
    sides = {}
    for name, letter in (("width", "x"), ("height", "y")):
        cells = draw(st.integers(1, max_cells))
        loss = 0 if letter in wrap else draw(st.integers(0, spec.factor - 1))
        sides[name] = cells * spec.factor - loss
    return {"wrap": wrap, **sides}


@st.composite
def forms(draw: st.DrawFn, spec: ModelSpec, max_cells: int) -> dict[str, Any]:
    """Spheres, and two pictures whose sides meet in one of several ways."""
    form = draw(st.sampled_from(["cube", "equirectangular", "one", "self", "many", "quarter"]))
    most = max(spec.window, max_cells // 3)
    side = spec.factor * draw(st.integers(spec.window, most))
    if form == "cube":
        return {"topology": form, "width": 3 * side, "height": 2 * side}
    if form == "equirectangular":
        return {"topology": form, "width": 2 * side, "height": side}
    other = side if form in ("many", "quarter") else spec.factor * draw(st.integers(spec.window, most))
    pictures = (TilePicture(name="a", width=side, height=side), TilePicture(name="b", width=other, height=side))
    seams = {
        "one": [TileSeam(one=("a.right",), other=("b.left",), mirrored=draw(st.booleans()))],
        "self": [TileSeam(one=("a.right",), other=("a.left",)), TileSeam(one=("b.top",), other=("b.bottom",))],
        "many": [TileSeam(one=("a.right", "b.right"), other=("a.left", "b.left"))],
        "quarter": [TileSeam(one=("a.right",), other=("b.top",))],
    }[form]
    tileset = Tileset(pictures=pictures, seams=tuple(seams))
    width, height = canvas_size(tileset, spec.factor)
    return {"tileset": tileset, "width": width, "height": height}


def outlines(width: int, height: int) -> st.SearchStrategy[dict[str, Any]]:
    """Boxes and triangles that lie at least in part on a picture."""
    across, down = st.integers(0, width - 1), st.integers(0, height - 1)
    corners = st.lists(st.tuples(across, down), min_size=3, max_size=4, unique=True)
    boxes = st.tuples(across, down, st.integers(1, width), st.integers(1, height))
    feather = st.sampled_from([0.0, 3.0, 17.0])
    return st.one_of(
        st.fixed_dictionaries({"box": boxes, "feather": feather}),
        st.fixed_dictionaries({"polygon": corners.map(tuple), "feather": st.just(1.0)}),
    )


def scenes(joined: dict[str, Any]) -> st.SearchStrategy[Region]:
    return st.builds(
        lambda outline, prompt, guidance, weight: Region(
            prompt=prompt, guidance=guidance, negative=prompt[1:], weight=weight, **outline
        ),
        outlines(joined["width"], joined["height"]),
        st.sampled_from(["sea", "ice", ""]),
        st.sampled_from([None, 1.0, 4.0]),
        st.sampled_from([0.5, 1.0, 7.0]),
    )


@st.composite
def parts(draw: st.DrawFn, spec: ModelSpec, joined: dict[str, Any]) -> dict[str, Any]:
    """What is painted anew of a canvas, or how it lies on a larger one; or nothing of both."""
    width, height, factor = joined["width"], joined["height"], spec.factor
    grows = joined.get("wrap") and (width > factor or height > factor)
    kind = draw(st.sampled_from(["whole", "repaint", *(["place"] if grows else [])]))
    if kind == "whole":
        return {}
    if kind == "repaint":
        shapes = draw(st.lists(outlines(width, height), min_size=1, max_size=2))
        source = Picture(path="before.zarr", sha256="0" * 64, size=(width, height))
        return {"source": source, "repaint": tuple(Shape(**shape) for shape in shapes)}
    x, y = (factor * draw(st.integers(0, (side - 1) // factor)) for side in (width, height))
    inner = [factor * draw(st.integers(1, max(1, (side - at) // factor))) for side, at in ((width, x), (height, y))]
    inner = [min(side - at, length) for side, at, length in zip((width, height), (x, y), inner, strict=True)]
    if tuple(inner) == (width, height):
        return {}
    return {"source": Picture(path="before.zarr", sha256="0" * 64, size=(inner[0], inner[1])), "place": (x, y)}
