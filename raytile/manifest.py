"""What a batch leaves beside its canvases: the manifest, and exported pictures with their captions."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytile.canvas.export import export_picture
from raytile.canvas.place import bytes_at, is_remote, where
from raytile.errors import InvalidRequest

if TYPE_CHECKING:
    from raytile.canvas.bytes import Bytes
    from raytile.canvas.canvas import Canvas

MANIFEST, PICTURES, METADATA = "manifest.jsonl", "pictures", "pictures/metadata.jsonl"
EVERY = 10.0
"""Seconds between two writings of the whole manifest, at least."""


class Book:
    """Keeps manifest.jsonl of the folder `out` (local or S3), one line a finished picture; with an `ending` (png, jpg,
    tif) also pictures/NAME.ENDING and pictures/metadata.jsonl, in the form of Hugging Face's `imagefolder`.

    What those files said of other pictures stays. Raises `InvalidRequest` if they are something else."""

    def __init__(self, out: str, ending: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._ending, self._clock = out, ending, clock
        self._at = bytes_at(where(f"{out.rstrip('/')}/{MANIFEST}").rpartition("/")[0])
        self._manifest = Lines(self._at, MANIFEST, "name")
        self._metadata = Lines(self._at, METADATA, "file_name") if ending else None
        self._saved = clock()

    def add(self, name: str, canvas: Canvas) -> None:
        """Enter a finished picture, and export it unless metadata.jsonl says that it was."""
        row = manifest_row(name, canvas)
        self._manifest.add(row)
        if self._metadata is not None:
            known = metadata_row(row, f"{name}.{self._ending}")
            self._export(canvas, name, there=self._metadata.says(known, "pixels_sha256"))
            self._metadata.add(known)
        if self._clock() - self._saved >= EVERY:
            self.save()

    def save(self) -> None:
        for lines in (self._manifest, self._metadata):
            if lines is not None:
                lines.save()
        self._saved = self._clock()

    def _export(self, canvas: Canvas, name: str, there: bool) -> None:
        key = f"{PICTURES}/{name}.{self._ending}"
        if there and self._at.exists(key):
            return
        if not is_remote(self._out):
            file = Path(self._out, key)
            file.parent.mkdir(parents=True, exist_ok=True)
            export_picture(canvas, file, overwrite=True)  # what stands there is of another canvas
            return
        with tempfile.TemporaryDirectory(prefix="raytile-") as folder:  # it streams to a file only: then put that
            self._at.write(key, export_picture(canvas, Path(folder, f"{name}.{self._ending}")).read_bytes())


class Lines:
    """A file of JSON objects, one a line, each with a `key` of its own; written whole and atomically."""

    def __init__(self, at: Bytes, file: str, key: str) -> None:
        self._at, self._file, self._key = at, file, key
        self._rows: dict[str, dict[str, Any]] = {}
        self._changed = False
        found = at.read(file)
        try:
            for line in filter(None, found[0].decode().split("\n") if found else ()):  # captions may have line breaks
                row = json.loads(line)
                self._rows[row[key]] = row
        except (ValueError, KeyError, TypeError):
            raise InvalidRequest(
                f"{at.where}/{file} is not of a batch: move it away, or choose another --out"
            ) from None

    def add(self, row: dict[str, Any]) -> None:
        if self._rows.get(row[self._key]) != row:
            self._rows[row[self._key]] = row
            self._changed = True

    def says(self, row: Mapping[str, Any], field: str) -> bool:
        """Whether the row that stands under the key of `row` has the same `field`."""
        return bool(self._rows.get(row[self._key], {}).get(field) == row[field])

    def save(self) -> None:
        if self._changed:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self._rows.values())
            self._at.write(self._file, text.encode())
            self._changed = False


def manifest_row(name: str, canvas: Canvas) -> dict[str, Any]:
    """What the manifest says of a finished picture; `request` is all that it takes to paint it again."""
    head = canvas.head()
    summary, request = head.summary or {}, head.request
    return {
        "name": name,
        "file": f"{name}.zarr",
        "caption": request.prompt,
        "width": request.width,
        "height": request.height,
        "seed": request.seed,
        "model": head.model.name,
        "model_digest": head.model.digest,
        "plan_hash": head.plan_hash,
        "pixels_sha256": summary.get("pixels_sha256"),
        "latents_sha256": summary.get("latents_sha256"),
        "request": request.model_dump(mode="json"),
    }


def metadata_row(row: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The same for metadata.jsonl: the file, its caption as `text`, and what one may choose by."""
    kept = ("width", "height", "seed", "model", "pixels_sha256")
    return {"file_name": file, "text": row["caption"], **{name: row[name] for name in kept}}
