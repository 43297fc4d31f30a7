"""What a request takes in: looked at when it is planned, described for the canvas that will hold it."""

from __future__ import annotations

from typing import TypeVar

from raytile.canvas import store
from raytile.canvas.inputs import Inputs, Parent, Taken, identify, lit, masks_of
from raytile.errors import InvalidRequest
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from raytile.plan.scene import Picture, Region, Shape

S = TypeVar("S", Region, Shape)


def looked_at(request: RenderRequest) -> RenderRequest:
    """The request with the content and size of each picture settled. Raises `InvalidRequest` for what cannot be taken
    in, or holds something else than the request says."""
    return request.model_copy(
        update={
            "source": _look(request.source),
            "control": _look(request.control),
            "regions": tuple(_look_at_mask(region, request) for region in request.regions),
            "repaint": tuple(_look_at_mask(shape, request) for shape in request.repaint),
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


def _look(picture: Picture | None) -> Picture | None:
    if picture is None:
        return None
    found = identify(picture.path)
    if picture.sha256 not in ("", found.sha256):
        raise InvalidRequest(f"{picture.path} holds something else than the request says: leave its sha256 out")
    return picture.model_copy(update={"sha256": found.sha256, "size": (found.width, found.height)})


def _look_at_mask(shape: S, request: RenderRequest) -> S:
    mask = _look(shape.mask)
    if mask is not None:
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
            raise InvalidRequest(f"{name}: {source.path} has {getattr(was, name)!r}: ask for the same")
