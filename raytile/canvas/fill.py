"""Copying what a canvas takes in, strip by strip and tile by tile: nothing is ever held whole."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from raytile.canvas.arrays import open_array
from raytile.canvas.bytes import Bytes
from raytile.canvas.inputs import SOURCE_IMAGE, SOURCE_LATENTS, Inputs, Parent, verify
from raytile.canvas.layout import IMAGE, LATENTS, CanvasLayout, slices
from raytile.canvas.place import is_remote, where
from raytile.geometry.box import Box

if TYPE_CHECKING:
    from raytile.canvas.arrays import Numbers, ZarrArray

AT_ONCE = 8  # tiles that are copied in a bucket, where most of the time is waiting
Progress = Callable[[int, int], None]


def fill(
    objects: Bytes,
    target: str,
    layout: CanvasLayout,
    inputs: Inputs,
    still_ours: Callable[[], None] = lambda: None,
    progress: Progress | None = None,
) -> None:
    """Write `inputs` into the arrays that were made for them below `objects`, of a canvas that is to be at `target`.

    `still_ours` is asked before every write, and raises to stop. `progress` is told how many chunks are copied, and
    of how many. Raises `InvalidRequest` for what is wrong with an input, `CanvasError` for the rest."""
    copier = _Copier(objects, layout, still_ours, progress)
    copier.total = sum(
        -(-spec.shape[1] // spec.chunks[1]) * -(-spec.shape[2] // spec.chunks[2])
        for spec in inputs.arrays(layout)
        if spec.name != SOURCE_LATENTS
    )
    if inputs.parent is not None:
        copier.parent(inputs.parent)
    for name, picture in inputs.pictures():
        copier.picture(name, picture.path, picture.width, picture.height)
    verify(inputs, target, layout)


class _Copier:
    def __init__(
        self, objects: Bytes, layout: CanvasLayout, still_ours: Callable[[], None], progress: Progress | None
    ) -> None:
        self.objects, self.layout, self.still_ours, self.progress = objects, layout, still_ours, progress
        self.done = self.total = 0

    def picture(self, name: str, path: str, width: int, height: int) -> None:
        from raytile.canvas.picture import pour

        array, side = open_array(self.objects, name, "r+"), self.layout.tile

        def write(box: Box, values: Numbers) -> None:
            self.write(array, box, values)
            self.count(-(-box.height // side) * -(-box.width // side))

        pour(path, array.shape[0], width, height, side, write)

    def parent(self, parent: Parent) -> None:
        """The parent's tiles: those that are painted as something to start from, the others as they are."""
        from raytile.canvas import store

        old, new = store.open(where(parent.path)), self.layout
        x, y = parent.place
        dy, dx = y // new.factor, x // new.factor
        arrays = {name: open_array(self.objects, name, "r+") for name in (IMAGE, LATENTS, SOURCE_IMAGE, SOURCE_LATENTS)}
        pixels = Box(y, y + old.layout.height, x, x + old.layout.width)
        cells = Box(dy, dy + old.layout.rows, dx, dx + old.layout.columns)

        def copy(tile: int) -> None:
            touched = tile in parent.touched
            box = new.pixels(tile).intersect(pixels)
            if box.area:
                self.write(arrays[SOURCE_IMAGE if touched else IMAGE], box, old.read_image(box.shift(-y, -x)))
            box = new.cells(tile).intersect(cells)
            if box.area:
                values = old.read_latents(box.shift(-dy, -dx))
                for name in (SOURCE_LATENTS,) if touched else (SOURCE_LATENTS, LATENTS):
                    self.write(arrays[name], box, values)

        with ThreadPoolExecutor(AT_ONCE if is_remote(self.objects.where) else 1) as threads:
            try:
                for _ in threads.map(copy, range(new.tiles)):
                    self.count(1)
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def write(self, array: ZarrArray, box: Box, values: Numbers) -> None:
        self.still_ours()
        doing = f"write {array.path} to {self.objects.where}"
        self.objects.run(doing, lambda: array.__setitem__(slices(box), values))

    def count(self, chunks: int) -> None:
        self.done += chunks
        if self.progress is not None:
            self.progress(self.done, self.total)
