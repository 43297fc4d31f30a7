"""Making canvases in a bucket, where nothing can be renamed.

A canvas is there once its head is; the head comes last. Whenever a request is the last one that is heard, what
stands there is a canvas whose head is true, or no canvas:

- New: the zarr metadata, then the head, all by conditional puts. Metadata without a head is no canvas: it is what is
  left of a run that died here, and the next run puts its own in place.
- Replaced: (1) the old head is swapped for one that is ours and says that nothing is painted: still the old canvas,
  running, to be resumed or replaced; (2) all chunks and snapshots go; (3) the head goes: no canvas; (4) metadata;
  (5) the new head. If the new layout is the old one, (3) and (4) are left out, and (5) is a swap.
- With inputs: their chunks are written between the metadata and the head. Replacing a canvas that has inputs, the head
  goes first, and all else once the group is that of the new canvas: without its inputs the old one can't be resumed.

Two makers of different layouts at once: the group's metadata names the layout. A maker first reads all metadata, then
puts that of the group, then looks for a head (and if there is one, puts the group back), then changes the arrays it
has read, by their tags, and puts its head; if the group is no longer its own after that, it takes its head away. So at
most one believes it has made a canvas. Whoever has something to remove or to take in puts its token into the group, to
tell makers of the same layout apart, and looks before each write whether the group is still its own."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from raytile.canvas.arrays import GROUP, MADE_BY, MAKER, attributes, make_arrays
from raytile.canvas.bytes import Bytes
from raytile.canvas.canvas import Canvas
from raytile.canvas.fill import Progress, fill
from raytile.canvas.head import Head, HeadConflict
from raytile.canvas.headstore import HEAD, HeadStore
from raytile.canvas.inputs import NAMES, Inputs
from raytile.canvas.layout import IMAGE, LATENTS, PREVIEW, CanvasLayout
from raytile.canvas.owners import refuse_live
from raytile.canvas.patience import Patience, store_deadline
from raytile.canvas.place import bytes_at
from raytile.canvas.snapshots import FOLDER
from raytile.errors import CanvasError

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

_ARRAYS = rf"{IMAGE}|{LATENTS}|level_\d+|{PREVIEW}(?:_\d+)?|{NAMES.pattern}"
_OUR_METADATA = re.compile(rf"((?:{_ARRAYS})/)?{re.escape(GROUP)}")
_OURS = re.compile(rf"(?:{_ARRAYS})/c/[\d/]+|{FOLDER}.*")
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


def create(
    where: str,
    layout: CanvasLayout,
    head: Head,
    now: float,
    inputs: Inputs | None = None,
    progress: Progress | None = None,
) -> Canvas:
    """Create a canvas, empty but for its inputs, in place of the one that may stand there."""
    tag = make(bytes_at(where), layout, head, now, inputs, progress)
    return Canvas(where, layout, (head, tag))


def make(
    objects: Bytes,
    layout: CanvasLayout,
    head: Head,
    now: float,
    inputs: Inputs | None = None,
    progress: Progress | None = None,
) -> str:
    """The requests of `create`, in the order that this file's first lines give; returns the new head's tag."""
    wanted = _metadata(layout)
    heads = HeadStore(objects)
    if objects.exists(HEAD):
        if _marked(objects):
            _take_over(heads, head, now, emptied=False)
        else:
            tag = _take_over(heads, head, now, emptied=True)
            objects.delete(key for key in objects.sizes() if key != HEAD and not _OUR_METADATA.fullmatch(key))
            if inputs is None and all(_is(objects, key, data) for key, data in wanted.items()):
                return heads.swap(tag, head)
        objects.delete([HEAD])
    else:
        _refuse_strangers(objects)
        objects.delete(key for key in objects.sizes() if key.startswith(PROBE))
    if inputs is not None or _marked(objects) or objects.sizes().keys() - {HEAD, *wanted}:
        wanted = _metadata(layout, inputs, head.owner.token)
    stood = {key: objects.read(key) for key in wanted}
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
            if key == GROUP and _marked(objects):
                objects.delete(key for key in objects.sizes() if key not in wanted and key != HEAD)
    if inputs is not None:
        _take_in(objects, layout, inputs, wanted[GROUP], progress)
    made = heads.create(head)
    if not _is(objects, GROUP, wanted[GROUP]):
        objects.delete([HEAD])
        raise _rival(objects)
    return made


def _take_in(objects: Bytes, layout: CanvasLayout, inputs: Inputs, group: bytes, progress: Progress | None) -> None:
    """Copy the inputs; what cannot be is taken away again, unless the place is another's by then."""

    def still_ours() -> None:
        if not _is(objects, GROUP, group):
            raise _rival(objects)

    try:
        fill(objects, objects.where, layout, inputs, still_ours, progress)
    except BaseException:
        with suppress(Exception):
            still_ours()
            objects.delete(sorted(objects.sizes(), reverse=True))  # the group's metadata last
        raise


def _take_over(heads: HeadStore, head: Head, now: float, emptied: bool) -> str:
    """Make the canvas that stands there ours, with nothing painted if `emptied`; returns the tag of its head.

    Raises `CanvasError` if it may not be replaced."""
    old, tag = heads.read()
    refuse_live(old, heads.where, head.owner.host, now)
    ours = old.but(owner=head.owner, claims=old.claims + 1, state="running", updated=now)
    empty = ours.but(
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
        return heads.swap(tag, empty if emptied else ours)
    except HeadConflict:
        raise CanvasError(f"{heads.where} was changed by another process just now: it stays") from None


def _refuse_strangers(objects: Bytes) -> None:
    """Raise `CanvasError` when there is anything but what a run that died while making a canvas leaves."""
    keys = {key for key in objects.sizes() if not key.startswith(PROBE)}
    if HEAD in keys:
        raise _rival(objects)
    if keys and not _said(objects).items() >= MADE_BY.items():
        strange = keys - {GROUP} or {GROUP}
    else:
        strange = {key for key in keys if not _OUR_METADATA.fullmatch(key)}
        if strange and _marked(objects):
            strange = {key for key in strange if not _OURS.fullmatch(key)}
    if strange:
        raise CanvasError(
            f"{objects.where} is not a raytile canvas, and holds {min(strange)}:"
            " it stays; choose another name, or remove it yourself"
        )


def _rival(objects: Bytes) -> HeadConflict:
    return HeadConflict(f"another process makes a canvas at {objects.where} at this moment: choose another name")


def _said(objects: Bytes) -> dict[str, Any]:
    found = objects.read(GROUP)
    return attributes(found[0] if found else None)


def _marked(objects: Bytes) -> bool:
    """Whether the group names its maker: there are inputs, or were when it was made, or what a maker left."""
    return MAKER in _said(objects)


def _is(objects: Bytes, key: str, data: bytes) -> bool:
    found = objects.read(key)
    return found is not None and found[0] == data


def _metadata(layout: CanvasLayout, inputs: Inputs | None = None, maker: str = "") -> dict[str, bytes]:
    """The zarr metadata of a new canvas, the group's first."""
    from zarr.storage import MemoryStore

    made: dict[str, Buffer] = {}
    make_arrays(MemoryStore(made), layout, inputs.arrays(layout) if inputs else (), maker)
    return {key: made[key].to_bytes() for key in (GROUP, *sorted(made.keys() - {GROUP}))}
