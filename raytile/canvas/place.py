"""Where a canvas lies: a local path, or s3://BUCKET/PREFIX/NAME.zarr."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from raytile.canvas.layout import SUFFIX
from raytile.errors import CanvasError

if TYPE_CHECKING:
    from raytile.canvas.bytes import Bytes
    from raytile.canvas.patience import Patience

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)  # `Path` makes one slash of two
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,62}")  # with the underscore that old buckets and other servers have


def is_remote(path: Path | str) -> bool:
    """Whether this names a place in an object store (an URL) and not on a local disk."""
    return _SCHEME.fullmatch(str(path)) is not None


def where(path: Path | str) -> str:
    """The one name of a place: the absolute local path, or s3://BUCKET/KEY without empty parts.

    Raises `CanvasError` for an URL that is not of S3, or names no bucket or no key."""
    url = _SCHEME.fullmatch(str(path))
    if url is None:
        return str(Path(path).absolute())
    if url[1] != "s3":
        raise CanvasError(f"cannot use {url[0]}: a canvas lies in a local directory or at s3://BUCKET/NAME{SUFFIX}")
    bucket, *parts = (part for part in url[2].split("/") if part) if url[2].strip("/") else ("",)
    if not _BUCKET.fullmatch(bucket) or not parts or {".", ".."} & {*parts}:
        raise CanvasError(f"s3://{url[2]} does not name a bucket and a key: write s3://BUCKET/NAME{SUFFIX}")
    return "s3://" + "/".join((bucket, *parts))


def split(url: str) -> tuple[str, str]:
    """The bucket and the key of an URL that `where` gave."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return bucket, key


def name(place: str) -> str:
    """The last part of a place."""
    return place.rpartition("/")[2]


def bytes_at(place: str, patience: Patience | None = None) -> Bytes:
    """The objects below a place that `where` gave; `patience` says how long to wait for a store that is away."""
    if is_remote(place):
        from raytile.canvas.s3 import S3Bytes

        return S3Bytes(place, patience)
    from raytile.canvas.bytes import LocalBytes

    return LocalBytes(Path(place))
