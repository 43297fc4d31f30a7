"""What a request takes in: looked at when it is planned, described for the canvas that will hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from raytile.canvas import store
from raytile.canvas.inputs import Inputs, Parent, Taken, identify, lit, masks_of
from raytile.errors import InvalidRequest
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest, shown
from raytile.plan.scene import Picture, Region, Shape

S = TypeVar("S", Region, Shape)


Known = Mapping[str, Picture]


def looked_at(request: RenderRequest, taken: RenderRequest | None = None) -> RenderRequest:
    """The request with the content and size of each picture settled. Raises `InvalidRequest` for what cannot be taken
    in, or holds something else than the request says; but what a canvas has `taken` in need not be there any more."""
    known = {} if taken is None else {picture.path: picture for picture in _pictures(taken)}
    return request.model_copy(
        update={
            "source": _look(request.source, known),
            "control": _look(request.control, known),
            "regions": tuple(_look_at_mask(region, request, known) for region in request.regions),
            "repaint": tuple(_look_at_mask(shape, request, known) for shape in request.repaint),
        }
    )


def inputs_of(plan: Plan) -> Inputs | None:
    """What the canvas of `plan` takes in; None if nothing. Raises `InvalidRequest` for a canvas that does not fit."""
    request, tile = plan.request, _whole(plan)
    source = parent = None
    if request.source is not None and plan.partial:
        _check_parent(plan, request.source)
        touched = frozenset(number for number, active in enumerate(plan.active.tolist()) if active)
        parent = Parent(request.source.path, request.place or (0, 0), touched, request.source.sha256)
    elif request.source is not None:
        height, width = plan.source_size
        source = Taken(request.source.path, width, height, request.source.sha256)
    masks = tuple(Taken(mask.path, *tile, mask.sha256) for mask in masks_of(request))
    control = None if request.control is None else Taken(request.control.path, *tile, request.control.sha256)
    if source is None and parent is None and not masks and control is None:
        return None
    return Inputs(source, parent, masks, control)


def untouched(plan: Plan) -> list[int]:
    """The tiles that are on the canvas from the beginning."""
    return [tile for tile, active in enumerate(plan.active.tolist()) if not active] if plan.partial else []


def _whole(plan: Plan) -> tuple[int, int]:
    return plan.request.width, plan.request.height


def _pictures(request: RenderRequest) -> list[Picture]:
    masks = (shape.mask for shape in (*request.regions, *request.repaint))
    return [picture for picture in (request.source, request.control, *masks) if picture is not None]


def _look(picture: Picture | None, known: Known) -> Picture | None:
    if picture is None:
        return None
    try:
        found = identify(picture.path)
    except InvalidRequest:
        if picture.path in known:
            return known[picture.path]
        for taken in known.values():  # copied from elsewhere this time
            if picture.sha256 and (taken.sha256, taken.lit) == (picture.sha256, picture.lit):
                return taken
        raise
    if picture.sha256 not in ("", found.sha256):
        raise InvalidRequest(f"{picture.path} holds something else than the request says: leave its sha256 out")
    return picture.model_copy(update={"sha256": found.sha256, "size": (found.width, found.height)})


def _look_at_mask(shape: S, request: RenderRequest, known: Known) -> S:
    mask = _look(shape.mask, known)
    if mask is not None and mask not in known.values():
        box = lit(mask.path, request.width, request.height)
        if box is None:
            raise InvalidRequest(f"mask: {mask.path} is black all over: make what is meant white")
        mask = mask.model_copy(update={"lit": box})
    return shape.model_copy(update={"mask": mask})


def _check_parent(plan: Plan, source: Picture) -> None:
    """A canvas is painted on by the model that painted it, with its sides joined as they were."""
    try:
        head = store.open(source.path).head()
    except Exception as error:
        raise InvalidRequest(f"source: only a finished canvas can be repainted or extended: {error}") from None
    if head.model.digest != plan.spec.digest:
        raise InvalidRequest(
            f"source: {source.path} was painted by another model ({head.model.name}): name it with --model"
        )
    was = head.request
    for name in ("topology", "tileset", *(("wrap",) if plan.request.repaint else ())):
        if getattr(was, name) != getattr(plan.request, name):
            raise InvalidRequest(f"{name}: {source.path} has {shown(getattr(was, name))}: ask for the same")
