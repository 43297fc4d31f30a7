"""Bodies that are too large to hold: counted as they come, spooled to files, given up when they come too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from raytile.serve.errors import BadRequest, SlowBody, TooLarge

IDLE = 30.0
"""Seconds without a byte after which a body is given up."""
SLOWEST = 16 * 2**10
"""Bytes a second that a body comes with at least, after the first `IDLE` seconds."""
FIELD, FIELDS = 64 * 2**10, 64


@dataclass(frozen=True)
class Form:
    """A multipart body: text fields, each name with all its values, and files, in a folder that goes with the form."""

    fields: dict[str, list[str]]
    files: dict[str, list[Path]]


async def metered(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body in pieces. Raises `TooLarge` beyond `limit` bytes, `SlowBody` for one that comes too slowly."""
    clock = asyncio.get_running_loop().time
    begun, seen = clock(), 0
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > limit:
        raise _too_large(limit)
    pieces = request.stream()
    while True:
        try:
            piece = await asyncio.wait_for(anext(pieces), IDLE)
        except StopAsyncIteration:
            return
        except ClientDisconnect:
            raise BadRequest("the connection ended before the body did") from None
        except TimeoutError:
            raise SlowBody(f"the body came to a halt: nothing in {IDLE:g} s") from None
        seen += len(piece)
        if seen > limit:
            raise _too_large(limit)
        if clock() - begun > IDLE + seen / SLOWEST:
            raise SlowBody(f"the body comes too slowly: send at least {SLOWEST} bytes a second")
        yield piece


@asynccontextmanager
async def received(request: Request, limit: int) -> AsyncIterator[Path]:
    """A raw body as a file, for as long as the context lasts. Raises as `metered` does."""
    with TemporaryDirectory(prefix="raytile-body-") as folder:
        file = Path(folder, "data")
        with file.open("wb") as opened:
            async for piece in metered(request, limit):
                await asyncio.to_thread(opened.write, piece)
        yield file


@asynccontextmanager
async def form(request: Request, limit: int, files: int) -> AsyncIterator[Form]:
    """A multipart body with at most so many files, for as long as the context lasts. Raises as `metered` does, and
    `BadRequest` for what is no multipart."""
    with TemporaryDirectory(prefix="raytile-body-") as folder:
        parser = MultiPartParser(
            request.headers, metered(request, limit), max_files=files, max_fields=FIELDS, max_part_size=FIELD
        )
        try:
            parsed = await parser.parse()
        except MultiPartException as error:
            raise BadRequest(f"the form cannot be read: {error.message}") from None
        except (KeyError, ValueError):  # headers of parts that are none
            raise BadRequest("the form cannot be read") from None
        made = Form({}, {})
        try:
            for number, (name, value) in enumerate(parsed.multi_items()):
                if isinstance(value, UploadFile):
                    file = Path(folder, f"part{number}")
                    await asyncio.to_thread(_spill, value, file)
                    made.files.setdefault(name, []).append(file)
                else:
                    made.fields.setdefault(name, []).append(value)
        finally:
            await parsed.close()
        yield made


def _spill(upload: UploadFile, file: Path) -> None:
    with file.open("wb") as opened:
        while piece := upload.file.read(2**20):
            opened.write(piece)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than the {limit} bytes that are taken")
