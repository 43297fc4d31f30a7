"""The picture of a render as a file: streamed, in parts if asked for, or by a link into the bucket."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from functools import partial as partial_of
from pathlib import Path as File
from typing import Annotated, Any

from anyio.to_thread import run_sync as to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.background import BackgroundTask

from raytile.canvas import links, store
from raytile.canvas.place import is_remote
from raytile.serve.access import Reader, TheDesk, answers, keys_wanted
from raytile.serve.desk import Desk
from raytile.serve.errors import Conflict
from raytile.serve.exports import Exports, Format, exporting
from raytile.serve.sending import send

router = APIRouter(prefix="/v1", tags=["renders"])
Id = Annotated[str, Path(description="The id of a render.", examples=["r" + "0" * 24])]
BINARY = {"schema": {"type": "string", "format": "binary"}}
PICTURES: dict[str, Any] = {f"image/{kind}": BINARY for kind in ("png", "jpeg", "webp", "tiff")}
SENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture.", "content": PICTURES},
    206: {"description": "The part of it that was asked for.", "content": PICTURES},
    304: {"description": "It is what the client has."},
    307: {"description": "It is at the link in Location, for a while."},
}


@cache
def _scratch() -> File:
    """A folder of this process, for pictures whose canvases are in a bucket."""
    made = tempfile.mkdtemp(prefix="raytile-exports-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return File(made)


def exports_of(desk: Desk) -> Exports:
    """Where a service's exports are made."""
    return Exports(desk.records.objects, _scratch)


@router.get("/renders/{id}/content", response_class=Response, responses={**SENT, **answers(404, 409, 416, 429)})
async def get_content(
    id: Id,
    request: Request,
    desk: TheDesk,
    who: Reader,
    format: Format = "png",
    partial: Annotated[bool, Query(description="Of an unfinished render, what is painted; black where nothing is.")] = (
        False
    ),
) -> Response:
    """The picture, as a file. Takes `Range`, and `If-None-Match`."""
    record = await to_thread(desk.get, who.sees, id)
    canvas, exports, name = desk.records.canvas(id), exports_of(desk), f"{id}.{format}"
    if record.state != "finished":
        if not partial:
            raise Conflict(f"render {id} is {record.state}: wait until it is finished, or ask with partial=true", "id")
        if record.started is None or not await to_thread(store.exists, canvas):
            raise Conflict(f"render {id} is {record.state}: nothing is painted yet", "id")
        folder = tempfile.mkdtemp(prefix="raytile-partial-")
        try:
            export = await exporting(partial_of(exports.partial, record, canvas, format, File(folder)))
            away = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
            return send(request, export.file, export.media_type, name, "", "no-store", away)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    export = await to_thread(exports.expected, record, format)
    if not export.file.is_file():
        export = await exporting(partial_of(exports.whole, record, canvas, format))
    if desk.settings.presign and is_remote(desk.records.objects.where):
        place = await exporting(partial_of(exports.shared, record, export))
        url = await to_thread(links.link, place, desk.settings.presign, export.media_type, name)
        return RedirectResponse(url, 307, {"Cache-Control": "no-store"})
    private = await to_thread(keys_wanted, desk)
    kept = "no-store" if export.passing else f"{'private' if private else 'public'}, max-age=31536000, immutable"
    return send(request, export.file, export.media_type, name, export.etag, kept)
