"""OpenAI's edits as renders: an image is painted anew, or taken in as it is and repainted where its mask has holes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio

from raytile.errors import InvalidRequest, RaytileError
from raytile.scenes import parse_size
from raytile.serve.checking import Unknown, check
from raytile.serve.desk import Desk
from raytile.serve.errors import Unprocessable, WrongKind
from raytile.serve.exports import EDIT, EXPORTERS, Exports
from raytile.serve.images import EditAsk
from raytile.serve.party import Party
from raytile.serve.records import Record
from raytile.serve.schemas import RepaintWish, Wish
from raytile.serve.uploads import Upload

MOST = 2**24
"""Pixels of an edit: image, mask and picture are held whole when they are put together."""
TAKE_IN = 0.01
"""Strength at which an image becomes a canvas as it is: a single step, the last."""
BESIDE = {EDIT: "yes"}


@dataclass(frozen=True)
class Edit:
    """An edit whose image, and mask if there is one, are uploads; the picture's width and height in pixels."""

    ask: EditAsk
    image: Upload
    mask: Upload | None
    width: int
    height: int

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"


def prepared(desk: Desk, owner: str, ask: EditAsk, image: Path, mask: Path | None) -> Edit:
    """Check and keep the files of an edit. Raises `ServiceError`, naming `image`, `mask` or `size`."""
    if mask is not None:
        holes = mask.with_name("holes.png")
        try:
            seen = check(mask, MOST, holes)
        except Unknown as error:
            raise WrongKind(str(error).replace("file:", "mask:", 1), "mask") from None
        except InvalidRequest as error:
            raise Unprocessable(str(error).replace("file:", "mask:", 1), "mask") from None
    kept = desk.uploads.keep(owner, image)
    try:
        width, height = _size(ask, kept)
        if mask is not None and (seen.width, seen.height) != (kept.width, kept.height):
            raise Unprocessable(
                f"mask: is {seen.width}x{seen.height} and the image {kept.width}x{kept.height}: make them alike", "mask"
            )
        return Edit(ask, kept, None if mask is None else desk.uploads.keep(owner, holes), width, height)
    except BaseException:
        desk.uploads.remove(owner, kept.id)
        raise


async def begin(party: Party, edit: Edit, seed: int) -> None:
    """Take in the first renders of an edit: its pictures, from this seed on, or with a mask the image as a canvas.
    Raises `ServiceError`."""
    ask = edit.ask
    wish: dict[str, Any] = {
        "prompt": ask.prompt,
        "model": ask.model or party.desk.settings.default_model,
        "source": {"upload": edit.image.id},
        "size": edit.size,
    }
    if edit.mask is not None:
        wishes = [{**wish, "strength": TAKE_IN, "levels": 1, "metadata": BESIDE}]
    else:
        strength = {} if ask.strength is None else {"strength": ask.strength}
        wishes = [{**wish, **_said(ask), **strength, "seed": each} for each in _seeds(ask, seed)]
    for each in wishes:
        await party.take(partial(party.desk.submit, party.owner, Wish.model_validate(each)))


async def go_on(party: Party, edit: Edit, seed: int) -> list[str]:
    """The ids of an edit's pictures; with a mask they begin when the image is a canvas. Raises as `Party` does."""
    if edit.mask is None:
        return party.ids
    (canvas,), ask = party.ids, edit.ask
    await party.finished(canvas)
    hole = {"mask": {"upload": edit.mask.id}, "feather": ask.feather}
    wish = {"prompt": ask.prompt, "repaint": [hole], "strength": ask.strength or 1.0, "metadata": BESIDE, **_said(ask)}
    for each in _seeds(ask, seed):
        painted = RepaintWish.model_validate({**wish, "seed": each})
        await party.take(partial(party.desk.repaint, party.owner, canvas, painted))
    return party.ids[1:]


def _said(ask: EditAsk) -> dict[str, Any]:
    return ask.model_dump(include={"steps", "guidance", "negative"}, exclude_none=True)


def _seeds(ask: EditAsk, first: int) -> range:
    return range(first, first + (ask.n or 1))


async def finish(party: Party, exports: Exports, edit: Edit, record: Record) -> None:
    """Put a finished picture together: outside the mask the image as it was sent."""
    if edit.mask is not None:
        await anyio.to_thread.run_sync(_fill, party, exports, edit, record, limiter=EXPORTERS)


async def clean_up(party: Party, edit: Edit) -> None:
    """Forget what was only there for the edit."""
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(_forget, party, edit)


def _fill(party: Party, exports: Exports, edit: Edit, record: Record) -> None:
    from PIL import Image, ImageOps

    assert edit.mask is not None
    desk = party.desk
    painted = exports.whole(record, desk.records.canvas(record.id), "png")
    image, mask = (_read(desk, upload) for upload in (edit.image, edit.mask))
    with Image.open(painted.file, formats=["PNG"]) as new, Image.open(image) as old, Image.open(mask) as holes:
        upright = ImageOps.exif_transpose(old).convert("RGB")
        whole = upright if upright.size == new.size else upright.resize(new.size, Image.Resampling.LANCZOS)
        inside = holes.convert("L").resize(new.size, Image.Resampling.BILINEAR)
        whole.paste(new.convert("RGB"), mask=inside)
    held = BytesIO()
    whole.save(held, format="PNG")
    exports.keep_filled(record.id, held.getvalue())
    painted.file.unlink(missing_ok=True)


def _read(desk: Desk, upload: Upload) -> BytesIO:
    found = desk.uploads.objects.read(f"uploads/{upload.id}/data")
    if found is None:
        raise Unprocessable("image: was removed before the edit was done", "image")
    return BytesIO(found[0])


def _forget(party: Party, edit: Edit) -> None:
    desk, owner = party.desk, party.owner
    for upload in (edit.image, edit.mask):
        if upload is not None:
            with suppress(RaytileError):
                desk.uploads.remove(owner, upload.id)
    if edit.mask is not None and party.ids:
        with suppress(RaytileError):  # it has not ended: it was just called off, and retention finds it later
            desk.remove(owner, party.ids[0])


def _size(ask: EditAsk, image: Upload) -> tuple[int, int]:
    if ask.size in (None, "auto"):
        width, height = image.width, image.height
    else:
        try:
            width, height = parse_size(str(ask.size))
        except InvalidRequest as error:
            raise Unprocessable(str(error), "size") from None
    if width * height > MOST:
        raise Unprocessable(
            f"size: {width}x{height} pixels are too many for an edit, at most {MOST}: use /v1/renders/ID/repaint",
            "size",
        )
    return width, height
