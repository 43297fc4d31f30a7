"""Pictures that clients send, to start from or as masks: checked, kept below the store, found again by id."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from raytile.canvas.bytes import Bytes
from raytile.canvas.place import is_remote
from raytile.errors import InvalidRequest
from raytile.plan.request import RenderRequest
from raytile.plan.scene import Picture, Region, Shape
from raytile.serve.checking import Unknown, check
from raytile.serve.errors import NotFound, Unprocessable, WrongKind
from raytile.serve.names import UPLOAD, check_id, is_id, made_at, new_id

S = TypeVar("S", Region, Shape)


class Upload(BaseModel):
    """A picture that a client sent: width and height in pixels, upright; `created` in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    object: Literal["upload"] = "upload"
    owner: str
    created: float
    bytes: int
    sha256: str
    width: int
    height: int
    format: Literal["png", "jpeg", "tiff", "webp"]


class Uploads:
    """The uploads below a store. `clock` says the seconds since 1970; `max_pixels` is what one may have."""

    def __init__(self, objects: Bytes, clock: Callable[[], float], rng: random.Random, max_pixels: int) -> None:
        self.objects, self._clock, self._rng, self._max_pixels = objects, clock, rng, max_pixels

    def keep(self, owner: str, file: Path) -> Upload:
        """Look at a file that was received, and keep it. Raises `WrongKind` for what is no picture, `Unprocessable` for
        a picture that is damaged or too large."""
        try:
            looks = check(file, self._max_pixels)
        except Unknown as error:
            raise WrongKind(str(error), "file") from None
        except InvalidRequest as error:
            raise Unprocessable(str(error), "file") from None
        data, now = file.read_bytes(), self._clock()
        upload = Upload(
            id=new_id(UPLOAD, now, self._rng),
            owner=owner,
            created=now,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            width=looks.width,
            height=looks.height,
            format=looks.format,
        )
        self.objects.write(_data(upload.id), data)
        self.objects.write(_meta(upload.id), upload.model_dump_json().encode())  # last: with it the upload is there
        return upload

    def get(self, owner: str | None, id: str) -> Upload:
        """What is known of an upload of `owner` (None: of anybody); raises `NotFound`."""
        held = self.objects.read(_meta(check_id(id, UPLOAD)))
        found = None if held is None else Upload.model_validate(json.loads(held[0]))
        if found is None or owner not in (None, found.owner):
            raise NotFound("there is no such upload", "id")
        return found

    def remove(self, owner: str | None, id: str) -> None:
        """Forget an upload; renders that have begun with it go on. Raises `NotFound`."""
        self.get(owner, id)
        self.objects.delete([_meta(id), _data(id)])

    def expire(self, before: float, needed: Collection[str] = ()) -> list[str]:
        """Forget the uploads that were sent before that second, but those `needed`; returns their ids."""
        ids = {key.split("/")[1] for key in self.objects.sizes("uploads/") if key.count("/") == 2}
        old = [id for id in ids - {*needed} if is_id(id, UPLOAD) and made_at(id) < before]
        self.objects.delete([key for id in old for key in (_meta(id), _data(id))])
        return old

    def path(self, id: str) -> str:
        """What a request calls the picture by (see `at_hand`)."""
        return f"{self.objects.where}/{_data(check_id(id, UPLOAD))}"


def at_hand(request: RenderRequest, objects: Bytes, scratch: Path) -> RenderRequest:
    """The request with the uploads that it names, if they are in a bucket, copied to `scratch` and named there.

    Pictures are read from files: whoever plans or paints a request of the service calls this first. An upload that was
    removed is named all the same: a canvas that has taken it in can do without."""

    def near(picture: Picture | None) -> Picture | None:
        below = f"{objects.where}/"
        if picture is None or not is_remote(picture.path) or not picture.path.startswith(below):
            return picture
        parts = picture.path.removeprefix(below).split("/")
        if len(parts) != 3 or not is_id(parts[1], UPLOAD) or "/".join(parts) != _data(parts[1]):
            return picture
        return picture.model_copy(update={"path": str(_fetched(objects, parts[1], scratch))})

    def marked(shape: S) -> S:
        return shape if shape.mask is None else shape.model_copy(update={"mask": near(shape.mask)})

    return request.model_copy(
        update={
            "source": near(request.source),
            "control": near(request.control),
            "regions": tuple(marked(region) for region in request.regions),
            "repaint": tuple(marked(shape) for shape in request.repaint),
        }
    )


def _fetched(objects: Bytes, id: str, scratch: Path) -> Path:
    file = scratch / id
    if not file.is_file():
        held = objects.read(_data(id))
        if held is None:
            return file
        scratch.mkdir(parents=True, exist_ok=True)
        fresh = scratch / f".{id}.{os.getpid()}-{os.urandom(4).hex()}"
        fresh.write_bytes(held[0])
        fresh.replace(file)
    return file


def _data(id: str) -> str:
    return f"uploads/{id}/data"


def _meta(id: str) -> str:
    return f"uploads/{id}/meta.json"
