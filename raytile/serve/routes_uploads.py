"""Uploads over HTTP: pictures to start from, and masks."""

from __future__ import annotations

from pathlib import Path as File
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel

from raytile.serve.access import Painter, Reader, TheDesk, answers
from raytile.serve.bodies import form, received
from raytile.serve.checking import CHECKERS
from raytile.serve.desk import Desk
from raytile.serve.errors import Unprocessable, WrongKind
from raytile.serve.uploads import Upload

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])
Id = Annotated[str, Path(description="The id of an upload.", examples=["u" + "0" * 24])]
RAW = ("application/octet-stream", "image/png", "image/jpeg", "image/tiff", "image/webp")
BINARY = {"type": "string", "format": "binary"}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": BINARY}, "required": ["file"]},
            },
            **{kind: {"schema": BINARY} for kind in RAW},
        },
    }
}
FORM = 64 * 2**10


class UploadView(BaseModel):
    """An upload as its client sees it; width and height in pixels, `created` in seconds since 1970."""

    id: str
    object: str = "upload"
    created: float
    bytes: int
    sha256: str
    width: int
    height: int
    format: str

    @classmethod
    def of(cls, upload: Upload) -> UploadView:
        return cls(**upload.model_dump(exclude={"owner"}))


@router.post("", status_code=201, openapi_extra=BODY, responses=answers())
async def make_upload(request: Request, desk: TheDesk, who: Painter) -> UploadView:
    """Send a picture (PNG, JPEG, TIFF or WebP), as the body or as `file` of a form; use it by its id."""
    kind, most = request.headers.get("content-type", "").partition(";")[0].strip().lower(), desk.settings.max_upload
    if kind == "multipart/form-data":
        async with form(request, most + FORM, files=1) as parts:
            files = parts.files.get("file", [])
            if not files:
                raise Unprocessable("file: missing: send the picture as the part named file", "file")
            return UploadView.of(await keep(desk, who.owner, files[0]))
    if kind in RAW:
        async with received(request, most) as file:
            return UploadView.of(await keep(desk, who.owner, file))
    raise WrongKind(f"send a picture as multipart/form-data, or with one of the types {', '.join(RAW)}", "Content-Type")


@router.get("/{id}", responses=answers(404))
def get_upload(id: Id, desk: TheDesk, who: Reader) -> UploadView:
    """What is known of an upload."""
    return UploadView.of(desk.uploads.get(who.sees, id))


@router.delete("/{id}", status_code=204, response_class=Response, responses=answers(404))
def delete_upload(id: Id, desk: TheDesk, who: Painter) -> Response:
    """Forget an upload. Renders that have begun with it go on; those that wait for it fail."""
    desk.uploads.remove(who.sees, id)
    return Response(status_code=204)


async def keep(desk: Desk, owner: str, file: File) -> Upload:
    """Check and keep a received file, away from the event loop and two at a time."""
    return await anyio.to_thread.run_sync(desk.uploads.keep, owner, file, limiter=CHECKERS)
