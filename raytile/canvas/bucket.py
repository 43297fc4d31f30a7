"""Making canvases in a bucket, where nothing can be renamed.

A canvas is there once its head is; the head comes last. Whenever a request is the last one that is heard, what
stands there is a canvas whose head is true, or no canvas:

- New: the zarr metadata, then the head, all by conditional puts. Metadata without a head is no canvas: it is what is
  left of a run that died here, and the next run puts its own in place.
- Replaced: (1) the old head is swapped for one that is ours and says that nothing is painted: still the old canvas,
  running, to be resumed or replaced; (2) all chunks and snapshots go; (3) the head goes: no canvas; (4) metadata;
  (5) the new head. If the new layout is the old one, (3) and (4) are left out, and (5) is a swap.

Two makers of different layouts at once: the group's metadata names the layout. A maker first reads all metadata, then
puts that of the group, then looks for a head (and if there is one, puts the group back), then changes the arrays it
has read, by their tags, and puts its head; if the group is no longer its own after that, it takes its head away. So at
most one believes it has made a canvas."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from raytile.canvas.arrays import GROUP, MADE_BY, make_arrays
from raytile.canvas.bytes import Bytes
from raytile.canvas.canvas import Canvas
from raytile.canvas.head import Head, HeadConflict
from raytile.canvas.headstore import HEAD, HeadStore
from raytile.canvas.layout import IMAGE, LATENTS, CanvasLayout
from raytile.canvas.owners import refuse_live
from raytile.canvas.patience import Patience, store_deadline
from raytile.canvas.place import bytes_at
from raytile.errors import CanvasError

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

METADATA = (GROUP, f"{IMAGE}/{GROUP}", f"{LATENTS}/{GROUP}")
PROBE = ".raytile-check-"
CHECKING = 20.0  # seconds that a check waits for a store before it says so


def check(where: str, overwrite: bool, host: str, now: float) -> None:
    """Raise `CanvasError` unless a canvas can be made there: bucket, credentials, conditional writes, the name."""
    objects = bytes_at(where, Patience(min(CHECKING, store_deadline())))
    found = objects.read(HEAD)
    if found is not None:
        if not overwrite:
            raise CanvasError(f"{where} exists: choose another name, or replace it with --overwrite")
        refuse_live(Head.from_bytes(found[0], where), where, host, now)
    else:
        _refuse_strangers(objects)
    probe = PROBE + secrets.token_hex(8)
    try:
        if objects.create(probe, b"1") is None or objects.create(probe, b"2") is not None:
            raise CanvasError(
                f"the S3 server of {where} does not keep If-None-Match: raytile needs conditional writes, use another"
            )
    finally:
        objects.delete([probe])


def create(where: str, layout: CanvasLayout, head: Head, now: float) -> Canvas:
    """Create an empty canvas, in place of the one that may stand there."""
    tag = make(bytes_at(where), layout, head, now)
    return Canvas(where, layout, (head, tag))


def make(objects: Bytes, layout: CanvasLayout, head: Head, now: float) -> str:
    """The requests of `create`, in the order that this file's first lines give; returns the new head's tag."""
    wanted = _metadata(layout)
    heads = HeadStore(objects)
    if objects.exists(HEAD):
        tag = _take_over(heads, head, now)
        objects.delete(key for key in objects.sizes() if key not in (*METADATA, HEAD))
        if all(_is(objects, key, data) for key, data in wanted.items()):
            return heads.swap(tag, head)
        objects.delete([HEAD])
    else:
        _refuse_strangers(objects)
        objects.delete(key for key in objects.sizes() if key.startswith(PROBE))
    stood = {key: objects.read(key) for key in METADATA}
    for key, data in wanted.items():
        found = stood[key]
        if found is None or found[0] != data:
            put = objects.create(key, data) if found is None else objects.swap(key, found[1], data)
            if put is None and not _is(objects, key, data):
                raise _rival(objects)
            if key == GROUP and objects.exists(HEAD):
                if put is not None and found is not None:
                    objects.swap(GROUP, put, found[0])
                raise _rival(objects)
    made = heads.create(head)
    if not _is(objects, GROUP, wanted[GROUP]):
        objects.delete([HEAD])
        raise _rival(objects)
    return made


def _take_over(heads: HeadStore, head: Head, now: float) -> str:
    """Make the canvas that stands there ours, with nothing painted; `CanvasError` if it may not be replaced."""
    old, tag = heads.read()
    refuse_live(old, heads.where, head.owner.host, now)
    empty = old.but(
        owner=head.owner,
        claims=old.claims + 1,
        state="running",
        updated=now,
        level=0,
        step=0,
        tiles_done=(),
        snapshot=None,
        denoised=False,
        cancel_asked=False,
        summary=None,
        error=None,
    )
    try:
        return heads.swap(tag, empty)
    except HeadConflict:
        raise CanvasError(f"{heads.where} was changed by another process just now: it stays") from None


def _refuse_strangers(objects: Bytes) -> None:
    """Raise `CanvasError` when there is anything but what a run that died while making a canvas leaves."""
    keys = {key for key in objects.sizes() if not key.startswith(PROBE)}
    if HEAD in keys:
        raise _rival(objects)
    found = objects.read(GROUP) if keys else None
    ours = found is not None and _has_mark(found[0])
    if keys and not (ours and keys <= {*METADATA}):
        raise CanvasError(
            f"{objects.where} is not a raytile canvas, and holds {min(keys - {GROUP}, default=GROUP)}:"
            " it stays; choose another name, or remove it yourself"
        )


def _rival(objects: Bytes) -> HeadConflict:
    return HeadConflict(f"another process makes a canvas at {objects.where} at this moment: choose another name")


def _has_mark(group: bytes) -> bool:
    try:
        return bool(json.loads(group)["attributes"].items() >= MADE_BY.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _is(objects: Bytes, key: str, data: bytes) -> bool:
    found = objects.read(key)
    return found is not None and found[0] == data


def _metadata(layout: CanvasLayout) -> dict[str, bytes]:
    """The zarr metadata of an empty canvas, the group's first."""
    from zarr.storage import MemoryStore

    made: dict[str, Buffer] = {}
    make_arrays(MemoryStore(made), layout)
    return {key: made[key].to_bytes() for key in METADATA}
