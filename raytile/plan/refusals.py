"""Wishes that contradict one another are refused before any work, each in one line that names the way out."""

from __future__ import annotations

import numpy as np

from raytile.errors import InvalidRequest
from raytile.plan.area import touches
from raytile.plan.request import RenderRequest
from raytile.plan.scene import Shape
from raytile.plan.spec import ModelSpec

MASK_FEATHER = 512
"""Pixels over which the edge of a mask may fade: so many around a tile are looked at."""
CORNERS = 20_000
"""Of all polygons of a request together: the head of its canvas holds them, and is written at every beat."""
SHAPE_TOLERANCE = 0.01
"""How far a source's aspect may be from the canvas's: it is scaled to it."""


def check(request: RenderRequest, spec: ModelSpec) -> None:
    """Raises `InvalidRequest`."""
    _sides(request)
    _dilated(request)
    _source(request, spec)
    if request.control is not None and not spec.control:
        raise InvalidRequest(f"control: model {spec.name} takes none: leave it out, or use terra")
    for number, region in enumerate(request.regions):
        if region.mask is not None and region.feather:
            raise InvalidRequest(f"regions.{number}.feather: a mask fades by its own greys: leave feather out")
    for number, shape in enumerate(request.repaint):
        if shape.mask is not None and shape.feather > MASK_FEATHER:
            raise InvalidRequest(
                f"repaint.{number}.feather: a mask fades over at most {MASK_FEATHER} pixels (got {shape.feather:g})"
            )
    corners = sum(len(shape.polygon or ()) for shape in (*request.regions, *request.repaint))
    if corners > CORNERS:
        name = "regions" if request.regions else "repaint"
        raise InvalidRequest(f"{name}: {corners} corners in all, at most {CORNERS}: use masks for fine shapes")
    for name, shapes in (("regions", request.regions), ("repaint", request.repaint)):
        for number, shape in enumerate(shapes):
            _on_picture(request, shape, f"{name}.{number}")


def _dilated(request: RenderRequest) -> None:
    for name in ("regions", "control") if request.dilated else ():
        if getattr(request, name):
            raise InvalidRequest(f"{name}: thinned-out windows know none: leave {name} or dilated out")


def _sides(request: RenderRequest) -> None:
    closed = "a tileset" if request.tileset is not None else request.topology
    if closed == "flat":
        return
    if request.tileset is not None and request.topology != "flat":
        raise InvalidRequest("topology: a tileset says itself how sides meet: leave the topology out")
    if request.wrap != "none":
        raise InvalidRequest(f"wrap: {closed} says itself how sides meet: leave wrap out")
    if request.dilated:
        raise InvalidRequest(f"dilated: thinned-out windows know no seams of {closed}: leave it out")
    if request.enlarge == "pixels":
        raise InvalidRequest(f"enlarge: pixels know no seams of {closed}: enlarge latents")
    if request.place is not None:
        raise InvalidRequest(f"place: {closed} cannot grow: extend a flat picture")


def _source(request: RenderRequest, spec: ModelSpec) -> None:
    source = request.source
    if source is None:
        for name in ("strength", "repaint", "place", "match_colour"):
            if getattr(request, name) not in (None, (), False):
                raise InvalidRequest(f"{name}: there is no source that it could speak of: give one, or leave it out")
        return
    partial = "repaint" if request.repaint else "place" if request.place is not None else None
    if request.repaint and request.place is not None:
        raise InvalidRequest("repaint: a canvas is repainted or extended, not both at once: do one after the other")
    if partial:
        if request.levels not in ("auto", 1):
            raise InvalidRequest(f"levels: {partial} paints in one level: leave it out")
        if request.match_colour:
            raise InvalidRequest(f"match_colour: with {partial} what is kept is kept as it is: leave it out")
    if source.size is None:
        return
    width, height = source.size
    if request.place is not None:
        x, y = request.place
        if x % spec.factor or y % spec.factor:
            raise InvalidRequest(f"place: must be multiples of {spec.factor} pixels (got {x},{y})")
        if x < 0 or y < 0 or x + width > request.width or y + height > request.height:
            raise InvalidRequest(f"place: a canvas of {width}x{height} does not lie inside at {x},{y}")
        if (width, height) == (request.width, request.height):
            raise InvalidRequest("place: the canvas is as large as before: nothing is left to paint")
        if (x + width < request.width and width % spec.factor) or (
            y + height < request.height and height % spec.factor
        ):
            raise InvalidRequest(f"place: a side that grows must end on a multiple of {spec.factor} pixels")
    elif request.repaint:
        if (width, height) != (request.width, request.height):
            raise InvalidRequest(f"repaint: the canvas is {width}x{height}: width and height must be the same")
    elif abs(request.width * height - request.height * width) > max(
        SHAPE_TOLERANCE * request.height * width,
        max(width, height) / 2,  # sides are whole pixels
    ):
        fit = max(1, round(request.width * height / width))
        raise InvalidRequest(
            f"source: it is {width}x{height}, of another shape than {request.width}x{request.height}: "
            f"ask for a size such as {request.width}x{fit}"
        )


def _on_picture(request: RenderRequest, shape: Shape, where: str) -> None:
    picture = np.array([[0.0, request.height, 0.0, request.width]])
    if not touches(shape, picture)[0]:
        raise InvalidRequest(f"{where}: lies wholly outside the picture of {request.width}x{request.height} pixels")
