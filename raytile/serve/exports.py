"""Finished pictures as files, made once: beside their canvas, or in a folder of this machine if that is in a bucket."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import anyio

from raytile.canvas import store
from raytile.canvas.bytes import Bytes
from raytile.canvas.export import JPEG_SIDE, WEBP_SIDE, export_picture
from raytile.canvas.place import is_remote
from raytile.serve.errors import Busy, NotFound, Unprocessable
from raytile.serve.records import Record

T = TypeVar("T")
Format = Literal["png", "jpeg", "webp", "tiff"]
EXPORTERS, WAITING = anyio.CapacityLimiter(2), 32
"""Exports of this process at once, each takes a core; and how many may wait for that."""
LOCKS = tuple(threading.Lock() for _ in range(16))
"""Of files, by their names' hashes: whoever wants one that is being made waits for it."""
KEPT = 8 * 2**30
"""Bytes of pictures that are kept on this machine of canvases in a bucket."""
EDIT = "openai-edit"
"""In the metadata of renders that were made for an edit."""
FILLED = "edit.png"
"""Beside the canvas of an edit: its picture, with what was not to be edited as it was sent."""


@dataclass(frozen=True)
class Export:
    """A picture in a file; `etag` names its bytes, and `passing` says that it is for one answer only."""

    file: Path
    media_type: str
    etag: str
    passing: bool = False


async def exporting(act: Callable[[], T]) -> T:
    """Run what makes a picture's file when there is a core for it. Raises `Busy` where too many wait."""
    if EXPORTERS.statistics().tasks_waiting >= WAITING:
        raise Busy("too many pictures are being made into files: come again soon", retry_after=10)
    return await anyio.to_thread.run_sync(act, limiter=EXPORTERS)


def is_edit(record: Record) -> bool:
    """Whether it was painted for an edit with a mask, and its picture is put together with what was sent."""
    return record.kind == "repaint" and record.metadata.get(EDIT) == "yes"


def check_size(width: int, height: int, format: Format) -> None:
    """Raise `Unprocessable` where the format does not hold so many pixels a side."""
    most = {"jpeg": JPEG_SIDE, "webp": WEBP_SIDE}.get(format)
    if most is not None and max(width, height) > most:
        raise Unprocessable(f"format: {format} holds at most {most} pixels a side: take png or tiff", "format")


class Exports:
    """Exports of the renders below a store; `scratch` gives a folder of this machine, for those in a bucket."""

    def __init__(self, objects: Bytes, scratch: Callable[[], Path]) -> None:
        self.objects = objects
        self._remote = is_remote(objects.where)
        self._scratch = scratch

    def whole(self, record: Record, canvas: str, format: Format, quality: int | None = None) -> Export:
        """The finished picture of `record`, whose canvas lies at `canvas`. `quality`, from 1 to 100, is of JPEG and
        WebP. Raises `Unprocessable` where the format does not hold it."""
        export = self.expected(record, format, quality)
        file = export.file
        with LOCKS[hash(file) % len(LOCKS)]:
            if not file.is_file():
                file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not (is_edit(record) and self._filled(record.id, file, format, quality)):
                    export_picture(store.open(canvas), file, overwrite=True, quality=quality)
                if not self.objects.exists(f"renders/{record.id}/record.json"):  # removed meanwhile
                    shutil.rmtree(file.parent, ignore_errors=True)
                    raise NotFound("there is no such render", "id")
                if self._remote:
                    self._prune(file)
            elif self._remote:
                os.utime(file)
        return export

    def expected(self, record: Record, format: Format, quality: int | None = None) -> Export:
        """What `whole` gives; its file need not be there yet. Of an edit that is not put together yet it holds for this
        answer only."""
        check_size(record.request.width, record.request.height, format)
        name, passing = "picture", False
        if is_edit(record):
            passing = not self.objects.exists(f"renders/{record.id}/{FILLED}")
            name = "unfilled" if passing else "edit"
        if quality is not None and format in ("jpeg", "webp"):
            name = f"{name}-{quality}"
        etag = "" if passing else f'"{(record.digest or record.id)[:32]}-{name}-{format}"'
        return Export(self._folder(record.id) / f"{name}.{format}", f"image/{format}", etag, passing)

    def partial(self, record: Record, canvas: str, format: Format, folder: Path) -> Export:
        """What is there of a picture that is still painted, in `folder`; black where nothing is."""
        check_size(record.request.width, record.request.height, format)
        file = folder / f"partial.{format}"
        export_picture(store.open(canvas), file, partial=True)
        return Export(file, f"image/{format}", "", passing=True)

    def keep_filled(self, id: str, png: bytes) -> None:
        """Let this be the picture of an edit."""
        self.objects.write(f"renders/{id}/{FILLED}", png)

    def shared(self, record: Record, export: Export) -> str:
        """The export as an object beside the canvas in the bucket, where links can point to; its URL."""
        from raytile.canvas.links import put_file

        key = f"renders/{record.id}/exports/{export.file.name}"
        url = f"{self.objects.where}/{key}"
        if not self.objects.exists(key):
            put_file(export.file, url, export.media_type)
        return url

    def _folder(self, id: str) -> Path:
        return self._scratch() / id if self._remote else Path(self.objects.where, "renders", id, "exports")

    def _filled(self, id: str, file: Path, format: Format, quality: int | None) -> bool:
        held = self.objects.read(f"renders/{id}/{FILLED}")
        if held is None:
            return False
        from io import BytesIO

        from PIL import Image

        fresh = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.new")
        if format == "png":
            fresh.write_bytes(held[0])
        else:
            options = {} if format == "tiff" else {"quality": quality or 92}
            Image.open(BytesIO(held[0]), formats=["PNG"]).save(fresh, format=format.upper(), **options)
        fresh.replace(file)
        return True

    def _prune(self, newest: Path) -> None:
        """Remove the files that were asked for longest ago, down to `KEPT` bytes."""
        found = sorted(
            (
                (file.stat().st_mtime, file.stat().st_size, file)
                for file in self._scratch().glob("*/*")
                if file.is_file()
            ),
            reverse=True,
        )
        total = 0
        for _, size, file in found:
            total += size
            if total > KEPT and file != newest:
                file.unlink(missing_ok=True)
