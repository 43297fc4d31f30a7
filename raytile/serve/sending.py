"""A file as an answer: in pieces, from where the client left off, or not at all if it has it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from raytile.serve.errors import OutOfRange

PIECE = 2**18
_RANGE = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?")


def send(
    request: Request, file: Path, media_type: str, name: str, etag: str, cache: str, after: BackgroundTask | None = None
) -> Response:
    """`file` as `name`: 200, 206 for one range of it (RFC 9110, section 14), 304 where `etag` is what the client has,
    416 for a range beyond its end. A range that makes no sense is passed over, as the RFC has it."""
    size = file.stat().st_size
    headers = {"Cache-Control": cache, "Accept-Ranges": "bytes"}
    if etag:
        headers["ETag"] = etag
        if _listed(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers, background=after)
    headers["Content-Disposition"] = f'attachment; filename="{name}"'
    start, stop, status = 0, size, 200
    wanted = _wanted(request, size, etag)
    if wanted is not None:
        start, stop = wanted
        if start >= stop:
            raise OutOfRange(f"the picture has {size} bytes", "Range")
        status, headers["Content-Range"] = 206, f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    return StreamingResponse(_pieces(file, start, stop), status, headers, media_type, after)


def _listed(header: str, etag: str) -> bool:
    return header.strip() == "*" or etag in (one.strip().removeprefix("W/") for one in header.split(","))


def _wanted(request: Request, size: int, etag: str) -> tuple[int, int] | None:
    """(start, stop) of the range that is asked for; None for the whole, an empty one if there is no such part."""
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or found[1] is found[2] is None or request.headers.get("if-range", etag) != etag:
        return None
    if found[1] is None:
        return max(0, size - int(found[2])), size if int(found[2]) else 0
    first = int(found[1])
    last = size - 1 if found[2] is None else min(int(found[2]), size - 1)
    if found[2] is not None and int(found[2]) < first:
        return None
    return (first, last + 1) if first < size else (size, size)


def _pieces(file: Path, start: int, stop: int) -> Iterator[bytes]:
    with file.open("rb") as opened:
        opened.seek(start)
        while start < stop and (piece := opened.read(min(PIECE, stop - start))):
            start += len(piece)
            yield piece
