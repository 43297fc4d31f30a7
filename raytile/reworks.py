"""Requests that begin with a picture that is there: enlarged, partly painted anew, or continued beyond its sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raytile.errors import InvalidRequest
from raytile.scenes import Layer, layer, settle

if TYPE_CHECKING:
    from raytile.plan.request import RenderRequest

KEPT = ("prompt", "negative", "seed", "model", "dtype", "wrap", "topology", "tileset", "regions", "control")
OF_MODEL = ("steps", "guidance", "guidance_interval", "sampler", "micro_batch")
OF_JOINING = ("sync", "stride", "weights")


def upscaled(path: str, said: Layer) -> RenderRequest:
    """A larger picture of a canvas or an image file, in the same colours.

    What `said` leaves open is the canvas's own; an image has no words. Raises `InvalidRequest`."""
    from raytile.canvas.inputs import identify

    found = identify(path)
    base: dict[str, Any] = {"prompt": ""}
    if found.kind == "canvas":
        base = _kept(path, said)
        if base.get("tileset"):
            raise InvalidRequest(f"source: {path} is a tileset, which is not enlarged: paint it larger from the start")
        across, down = (
            1.0 if side is None else side / was
            for side, was in zip(_size(said), (found.width, found.height), strict=True)
        )
        base["regions"] = [_moved(region, scale=(across, down)) for region in base["regions"]]
    request = settle(Layer("", {**base, **_taken(path), "match_colour": True}), said)
    if request.width <= found.width and request.height <= found.height:
        raise InvalidRequest(
            f"size: choose a larger one than {found.width}x{found.height}; to paint it anew use raytile render --source"
        )
    return request


def repainted(path: str, said: Layer, shapes: Sequence[Mapping[str, Any]]) -> RenderRequest:
    """A finished canvas with `shapes` (fields of `raytile.plan.scene.Shape`) painted anew, the rest as it is.

    With words of its own, these hold there and the canvas's regions do not. Raises `InvalidRequest`."""
    if not shapes:
        raise InvalidRequest("repaint: say where: give a box, a polygon or a mask")
    base = _kept(path, said, "tile")
    if "prompt" in said.values:
        base["regions"] = []
    return settle(Layer("", {**base, **_sides(path, base), **_taken(path, repaint=shapes)}), said)


def extended(path: str, said: Layer, left: int = 0, right: int = 0, top: int = 0, bottom: int = 0) -> RenderRequest:
    """A finished canvas continued by so many pixels beyond each side. Raises `InvalidRequest`."""
    if not left + right + top + bottom:
        raise InvalidRequest("extend: say where: give left, right, top or bottom in pixels")
    base = _kept(path, said, "tile")
    wrap = said.values.get("wrap", base["wrap"])
    for axis, more in (("x", left + right), ("y", top + bottom)):
        if more and axis in wrap:
            raise InvalidRequest(f"wrap: {axis} has no sides to grow beyond, they meet: open them with --wrap none")
    if base.get("tileset") or base["topology"] != "flat":
        raise InvalidRequest(f"source: {path} is no flat picture: its sides meet, and nothing lies beyond them")
    if any(region.get("mask") for region in base["regions"]):
        raise InvalidRequest("regions: a mask fits its picture only: give the regions of the larger one anew")
    base["regions"] = [_moved(region, by=(left, top)) for region in base["regions"]]
    del base["control"]  # it was scaled to the smaller picture
    sides = _sides(path, base)
    grown = {"width": sides["width"] + left + right, "height": sides["height"] + top + bottom}
    return settle(Layer("", {**base, **grown, **_taken(path), "place": (left, top)}), said)


def _taken(path: str, **more: object) -> Mapping[str, Any]:
    """The source, and other fields with pictures, as they are found from any directory."""
    return layer({"source": path, **more}).values


def _kept(path: str, said: Layer, *more: str) -> dict[str, Any]:
    """What of a canvas's request still holds; what goes by model or strategy only if `said` chooses no other."""
    from raytile.canvas import store

    request = store.open(path).head().request
    names = [*KEPT]
    if "model" not in said.values:
        names += (*OF_MODEL, *more)
    if "sync" not in said.values:
        names += OF_JOINING
    whole = request.model_dump(include=set(names), exclude_none=True)
    return {"control": None, **whole, "regions": [one.model_dump(exclude_none=True) for one in request.regions]}


def _sides(path: str, base: Mapping[str, Any]) -> dict[str, int]:
    """The canvas's size, where it does not follow from its tileset."""
    from raytile.canvas import store

    layout = store.open(path).layout
    return {} if base.get("tileset") else {"width": layout.width, "height": layout.height}


def _size(said: Layer) -> tuple[int | None, int | None]:
    from raytile.scenes import sides

    given = {**said.values, **(sides(said) if "size" in said.values else {})}
    return given.get("width"), given.get("height")


def _moved(
    region: Mapping[str, Any], by: tuple[int, int] = (0, 0), scale: tuple[float, float] = (1.0, 1.0)
) -> dict[str, Any]:
    """A region on a picture that was scaled, then grew by so many pixels to the left and at the top."""
    made = dict(region)
    (left, top), (across, down) = by, scale
    if made.get("mask") is not None:
        made["mask"] = {**made["mask"], "lit": None}  # where it is white on the other picture is looked at anew
    if "box" in made:
        x, y, width, height = made["box"]
        made["box"] = (x * across + left, y * down + top, width * across, height * down)
    if "polygon" in made:
        made["polygon"] = [(x * across + left, y * down + top) for x, y in made["polygon"]]
    made["feather"] = made["feather"] * min(across, down)
    return made
