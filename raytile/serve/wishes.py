"""From what a client wishes to a request that can be painted: ids become places, what is too much is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytile import api
from raytile.errors import InvalidModel, InvalidRequest
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from raytile.reworks import repainted, upscaled
from raytile.scenes import Layer, settle
from raytile.serve import limits
from raytile.serve.errors import Conflict, NotFound, ServiceError, Unprocessable, served
from raytile.serve.records import Kind, Record, Records
from raytile.serve.schemas import RepaintWish, UpscaleWish, Wish
from raytile.serve.settings import Settings
from raytile.serve.uploads import Uploads, at_hand

AnyWish = Wish | RepaintWish | UpscaleWish
PICTURES = ("source", "control")
SHAPES = ("regions", "repaint")


@dataclass(frozen=True)
class Settled:
    """A wish that can be painted: its request with paths that hold everywhere, its plan, and what it comes from."""

    request: RenderRequest
    plan: Plan
    model: str
    kind: Kind = "render"
    parent: str | None = None


class Wishes:
    """Methods raise `ServiceError`s, which never speak of places on the server."""

    def __init__(self, settings: Settings, records: Records, uploads: Uploads) -> None:
        self._settings, self._records, self._uploads = settings, records, uploads

    def render(self, owner: str, wish: Wish) -> Settled:
        """The request that a wish means, checked and planned."""
        names: dict[str, str] = {}
        values = self._given(owner, wish, names)
        name = values.pop("model", self._settings.default_model)
        values["model"] = self._model(name)
        if not {"size", "width", "height", "tileset"} & {*values}:
            values["size"] = self._size_of(owner, wish)
        return self._finish(lambda: settle(Layer("", values)), names, name)

    def repaint(self, owner: str, id: str, wish: RepaintWish) -> Settled:
        parent, names = self._parent(owner, id), {self._records.canvas(id): f"render {id}"}
        values = self._given(owner, wish, names)
        said = Layer("", values)
        return self._finish(
            lambda: repainted(self._records.canvas(id), said, values["repaint"]),
            names,
            self.model_of(parent),
            "repaint",
            id,
        )

    def upscale(self, owner: str, id: str, wish: UpscaleWish) -> Settled:
        parent, names = self._parent(owner, id), {self._records.canvas(id): f"render {id}"}
        values = self._given(owner, wish, names)
        if not {"size", "width", "height"} & {*values}:
            raise Unprocessable("size: missing: say how large, as WIDTHxHEIGHT", "size")
        said = Layer("", values)
        return self._finish(
            lambda: upscaled(self._records.canvas(id), said), names, self.model_of(parent), "upscale", id
        )

    def _finish(
        self,
        make: Callable[[], RenderRequest],
        names: Mapping[str, str],
        model: str,
        kind: Kind = "render",
        parent: str | None = None,
    ) -> Settled:
        """Build, limit and plan; errors of ours speak of uploads and renders, never of `names`' places."""
        copies: dict[str, str] = {}
        try:
            request = make()
            limits.check_request(request, self._settings)
            with tempfile.TemporaryDirectory(prefix="raytile-plan-") as scratch:
                copies[f"{scratch}/"] = "upload "
                plan = api.plan(at_hand(request, self._records.objects, Path(scratch)))
            limits.check_plan(plan, self._settings)
            return Settled(_as_called(plan.request, request), plan, model, kind, parent)
        except ServiceError:
            raise
        except (InvalidRequest, InvalidModel) as error:
            words = str(error)
            models = {place: f"model {name}" for name, place in self._settings.models.items() if "/" in place}
            for place, name in {**copies, **names, **models, self._records.objects.where: "the store"}.items():
                words = words.replace(place, name)
            raise served(type(error)(words)) from error

    def _given(self, owner: str, wish: AnyWish, names: dict[str, str]) -> dict[str, Any]:
        """The wish's fields as a scene has them, with places for ids; `names` gets what the places stand for."""
        values = wish.of_picture()
        for field in PICTURES:
            if field in values:
                values[field] = self._picture(owner, values[field], names, field)
        for field in SHAPES:
            for number, shape in enumerate(values.get(field, ())):
                if "mask" in shape:
                    shape["mask"] = self._picture(owner, shape["mask"], names, f"{field}.{number}.mask")
        return values

    def _picture(self, owner: str, ref: Mapping[str, str], names: dict[str, str], field: str) -> dict[str, str]:
        try:
            if "upload" in ref:
                path, name = self._uploads.path(self._uploads.get(owner, ref["upload"]).id), f"upload {ref['upload']}"
            else:
                self._parent(owner, ref["render"])
                path, name = self._records.canvas(ref["render"]), f"render {ref['render']}"
        except NotFound as error:
            raise Unprocessable(f"{field}: {error.message}", field) from None
        except Conflict as error:
            raise Unprocessable(f"{field}: {error.message}", field) from None
        names[path] = name
        return {"path": path}

    def _size_of(self, owner: str, wish: Wish) -> str:
        """As large as the source."""
        if wish.source is None:
            raise Unprocessable("size: missing: give it as WIDTHxHEIGHT, or give width and height", "size")
        if wish.source.upload is not None:
            found = self._uploads.get(owner, wish.source.upload)
            return f"{found.width}x{found.height}"
        request = owned(self._records, owner, str(wish.source.render)).request
        return f"{request.width}x{request.height}"

    def _model(self, name: str) -> str:
        if name not in self._settings.models:
            raise Unprocessable(f"model: there is no {name!r} here: {', '.join(self._settings.models)}", "model")
        return self._settings.models[name]

    def model_of(self, record: Record) -> str:
        return str(record.shown.get("model", self._settings.default_model))

    def _parent(self, owner: str, id: str) -> Record:
        record = owned(self._records, owner, id)
        if record.state != "finished":
            raise Conflict(f"render {id} is {record.state}: only a finished one can be painted on", "id")
        return record


def owned(records: Records, owner: str | None, id: str) -> Record:
    """A render of this owner (None: of anybody); another's is not there."""
    record = records.get(id)
    if owner not in (None, record.owner):
        raise NotFound("there is no such render", "id")
    return record


def _as_called(planned: RenderRequest, request: RenderRequest) -> RenderRequest:
    """The planned request with the places that hold everywhere in it, in place of copies at hand."""
    update: dict[str, Any] = {}
    for field in PICTURES:
        made, asked = getattr(planned, field), getattr(request, field)
        if made is not None:
            update[field] = made.model_copy(update={"path": asked.path})
    for field in SHAPES:
        pairs = zip(getattr(planned, field), getattr(request, field), strict=True)
        update[field] = tuple(
            made
            if made.mask is None
            else made.model_copy(update={"mask": made.mask.model_copy(update={"path": asked.mask.path})})
            for made, asked in pairs
        )
    return planned.model_copy(update=update)


def pictures(request: RenderRequest) -> list[str]:
    """The places of all pictures that a request takes in."""
    masks = (shape.mask for field in SHAPES for shape in getattr(request, field))
    found = (*(getattr(request, field) for field in PICTURES), *masks)
    return [picture.path for picture in found if picture is not None]
