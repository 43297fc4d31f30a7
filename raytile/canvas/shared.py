"""Proof that the directory a canvas lies in is one and the same on every node: a nonce that each of them finds."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from raytile.canvas.bytes import LocalBytes
from raytile.canvas.disk import explained
from raytile.canvas.headstore import HEAD, HeadStore
from raytile.canvas.place import is_remote, where
from raytile.errors import CanvasError


def leave_proof(path: Path | str, token: str) -> None:
    """Put a small file named by `token` into the nearest directory above the canvas that exists; on S3 nothing.

    A canvas that exists with this owner's token is proof itself."""
    if is_remote(path) or _is_ours(Path(where(path)), token):
        return
    folder = Path(where(path)).parent
    while not folder.is_dir():
        folder = folder.parent
    with explained(f"write to {folder}"):
        (folder / _name(token)).write_text(token)


def remove_proof(path: Path | str, token: str) -> None:
    """Remove what `leave_proof` left, if it is still there."""
    if is_remote(path):
        return
    for folder in Path(where(path)).parents:
        with suppress(OSError):
            (folder / _name(token)).unlink()


def check_proof(path: Path | str, token: str, node: str) -> None:
    """On a worker's `node`: raise `CanvasError` unless the proof, or the canvas of this owner, is seen from here."""
    if is_remote(path) or _is_ours(Path(where(path)), token):
        return
    if not any((folder / _name(token)).is_file() for folder in Path(where(path)).parents):
        raise CanvasError(
            f"{where(path)} on {node} is not the driver's directory: on more than one node the canvas must lie in a"
            " directory that all of them share, or on s3://"
        )


def _name(token: str) -> str:
    return f".raytile.{token}.proof"


def _is_ours(canvas: Path, token: str) -> bool:
    if not (canvas / HEAD).is_file():
        return False
    try:
        return HeadStore(LocalBytes(canvas)).read()[0].owner.token == token
    except CanvasError:
        return False
