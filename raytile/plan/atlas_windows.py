"""The windows of one step of an atlas: placed on every face by itself, sticking out over its joined sides."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from raytile.errors import InvalidRequest
from raytile.geometry.atlas import Atlas, Mosaic, Part, Vertex
from raytile.geometry.axis import Axis, shifted_origins, strided_origins
from raytile.geometry.box import Box, minus
from raytile.geometry.tiling import Piece, Tiling
from raytile.geometry.topology import Side as Edge
from raytile.geometry.turn import compose, inverse, place, places
from raytile.plan.windows import Pieces

ENDS: tuple[tuple[Edge, Edge], ...] = (("top", "bottom"), ("left", "right"))
"""The low and the high side of both axes, y first."""
Place = tuple[int, int, int]
"""(face, y, x): where a window's top left cell lies, counted from the top left corner of the face."""


@dataclass(frozen=True, eq=False)
class AtlasWindows:
    """Windows of `size` x `size` cells at `places` at `step`; same use as `raytile.plan.windows.Windows`.

    Two patches belong to a window: what it *reads*, and what it *gives*: each canvas cell that it reads once (where it
    is first read), and the same to all cells that are the same (see `Atlas.twins`). `seen`: what each window reads;
    `spoken`: of those that hold a vertex, what they may speak of."""

    tiling: Tiling
    size: int
    atlas: Atlas
    step: int
    places: tuple[Place, ...]
    seen: tuple[tuple[Part, ...], ...] = field(repr=False)
    spoken: Mapping[int, tuple[Part, ...]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.places)

    def reads(self, window: int) -> Mosaic:
        return self._mosaic(self._reads, window)

    def gives(self, window: int) -> Mosaic:
        return self._mosaic(self._gives, window)

    @property
    def local(self) -> bool:
        """Whether windows give only cells of tiles that they read: not where cells are the same as others."""
        return not self.atlas.strips.zones

    @cached_property
    def compact_order(self) -> tuple[int, ...]:
        """Window ids in the order in which runs of them are dealt, the same way as tiles are: by their middles."""
        boxes = np.array([face.box for face in self.atlas.faces])
        face, *at = np.array(self.places).T
        y, x = (
            boxes[face, 2 * axis]
            + np.clip(at[axis] + self.size // 2, 0, boxes[face, 2 * axis + 1] - boxes[face, 2 * axis] - 1)
            for axis in (0, 1)
        )
        ids = np.arange(len(self))
        wide = self.tiling.x.cells >= self.tiling.y.cells
        return tuple(np.lexsort((ids, y, x) if wide else (ids, x, y)).tolist())

    @cached_property
    def tiles(self) -> NDArray[np.int64]:
        """The tiles that each window reads, [windows, most of any]; where it reads fewer, one comes again."""
        pieces, starts = self._reads
        counts = np.diff(starts)
        column = np.minimum(np.arange(counts.max()), counts[:, None] - 1)
        tiles: NDArray[np.int64] = pieces.tile[starts[:-1, None] + column]
        return tiles

    def pieces(self, windows: NDArray[np.int64], given: bool) -> Pieces:
        """The pieces of many windows at once: of what they give, or of what they read."""
        pieces, starts = self._gives if given else self._reads
        counts = starts[windows + 1] - starts[windows]
        ends = np.cumsum(counts)
        chosen = np.repeat(starts[windows] - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)
        return _chosen(pieces, chosen)

    def _mosaic(self, table: tuple[Pieces, NDArray[np.int64]], window: int) -> Mosaic:
        pieces, starts = table
        mine = _chosen(pieces, np.arange(starts[window], starts[window + 1]))
        columns = (mine.tile, mine.box, mine.at, mine.turn)
        entries = zip(*(column.tolist() for column in columns), strict=True)
        return Mosaic(
            self.size, self.size, tuple(Piece(tile, Box(*box), y, x, turn) for tile, box, (y, x), turn in entries)
        )

    @cached_property
    def _reads(self) -> tuple[Pieces, NDArray[np.int64]]:
        return _cut(self.tiling, self.seen)

    @cached_property
    def _gives(self) -> tuple[Pieces, NDArray[np.int64]]:
        given = [_given(self.atlas, self.spoken.get(window, parts)) for window, parts in enumerate(self.seen)]
        return self._reads if all(map(operator.is_, given, self.seen)) else _cut(self.tiling, given)


def atlas_windows(
    atlas: Atlas, tiling: Tiling, size: int, step: int, offset: tuple[int, int] | None, stride: int
) -> AtlasWindows:
    """The windows of `step`: side by side on each face, its grid moved by `offset` (y, x) cells, those at joined sides
    sticking out; or, where `offset` is None, `stride` apart, sticking out by up to half a window.

    A window that holds a vertex crosses one of its two sides, the other at the next step: beyond the one it shows, and
    speaks of, what lies there; beyond the other it shows what lies there but leaves speaking to others; in the quarter
    that is not there it shows what one finds walking over the first side, then on. `InvalidRequest` where a face is
    smaller than a window."""
    seen: dict[Place, tuple[Part, ...]] = {}
    spoken: dict[Place, tuple[Part, ...]] = {}
    for face in range(len(atlas.faces)):
        y, x = _axes(atlas, face, size, step)
        if offset is None:
            ys, xs = _strided(*y, size, stride), _strided(*x, size, stride)
        else:
            ys, xs = _shifted(*y, size, offset[0]), _shifted(*x, size, offset[1])
        for where in product((face,), ys, xs):
            seen[where], own = _placed(atlas, *where, size, step)
            if own is not seen[where]:
                spoken[where] = own
    ordered = sorted(seen)
    return AtlasWindows(
        tiling,
        size,
        atlas,
        step,
        tuple(ordered),
        tuple(seen[where] for where in ordered),
        {window: spoken[where] for window, where in enumerate(ordered) if where in spoken},
    )


def _placed(atlas: Atlas, face: int, y: int, x: int, size: int, step: int) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """What a window at (y, x) of a face shows, and of that what it may speak of."""
    box = atlas.faces[face].box
    if 0 <= y <= box.height - size and 0 <= x <= box.width - size:
        inside = (Part(Box(0, size, 0, size).shift(box.y0 + y, box.x0 + x), 0, 0, 0),)
        return inside, inside
    try:
        parts = atlas.parts(face, y, x, size, size, step)
    except Vertex:
        # All faces that meet at a vertex turn the same way round it, so that each of its sides is crossed by one of
        # their windows; the other way at the next step.
        sideways = ((y < 0) != (x > box.width - size)) == (step % 2 == 0)
        parts = atlas.past_vertex(face, y, x, size, size, step, x_first=sideways)
        low, high = (-y, box.height - y) if sideways else (-x, box.width - x)
        return parts, tuple(part for part in parts if low <= (part.y if sideways else part.x) < high)
    return parts, parts


def _axes(atlas: Atlas, face: int, size: int, step: int) -> tuple[tuple[Axis, bool, bool], ...]:
    """Both axes of a face, y first, and whether windows may stick out at its low and at its high side.

    An axis is wrapped where its two sides meet and no corner is a vertex: then windows need never slide along it."""
    name, box = atlas.faces[face]
    wraps = atlas.wraps(face)
    if any(wraps) and any(_vertex(atlas, face, y, x, step) for y in (-1, box.height - 1) for x in (-1, box.width - 1)):
        wraps = (False, False)
    axes = []
    for cells, wrap, ends in zip((box.height, box.width), wraps, ENDS, strict=True):
        if cells < size and not wrap:
            raise InvalidRequest(
                f"picture {name}: {box.width}x{box.height} cells are less than the model's window of {size}:"
                f" make it at least {size} a side, or lower levels"
            )
        low, high = (atlas.partner((face, end), step) is not None for end in ends)
        axes.append((Axis(cells, size, wrap), low, high))
    return tuple(axes)


def _vertex(atlas: Atlas, face: int, y: int, x: int, step: int) -> bool:
    try:
        atlas.parts(face, y, x, 2, 2, step)
    except Vertex:
        return True
    except ValueError:
        return False
    return False


def _shifted(axis: Axis, low: bool, high: bool, size: int, offset: int) -> tuple[int, ...]:
    if axis.wrap:
        return shifted_origins(axis, size, offset)
    origins = (origin for origin in range(offset - size, axis.cells, size) if origin > -size)
    return _inside(origins, axis.cells - size, low, high)


def _strided(axis: Axis, low: bool, high: bool, size: int, stride: int) -> tuple[int, ...]:
    inside = strided_origins(axis, size, stride)
    if axis.wrap:
        return inside
    out = range(min(stride, size // 2), size // 2 + 1, stride)
    beyond = ((-by, axis.cells - size + by) for by in out)
    return _inside((*inside, *(origin for pair in beyond for origin in pair)), axis.cells - size, low, high)


def _inside(origins: Iterable[int], last: int, low: bool, high: bool) -> tuple[int, ...]:
    """`origins`, those that stick out where they may not moved back inside; ascending, each once."""
    bounded = (origin if low else max(origin, 0) for origin in origins)
    return tuple(sorted({origin if high else min(origin, last) for origin in bounded}))


def _given(atlas: Atlas, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """What a window gives that reads `parts`: `parts` themselves where nothing in them is the same as anything."""
    if not atlas.strips.zones and not any(a.box.intersect(b.box).area for a, b in combinations(parts, 2)):
        return parts
    found: list[Part] = []
    before: list[Box] = []
    for box, y, x, turn in parts:
        for part, origin, turned in atlas.origin(box):
            dy, dx = place(turn, box.height, box.width, part.shift(-box.y0, -box.x0))
            laid = compose(turned, turn)
            for fresh in minus(origin, before):
                ey, ex = place(laid, origin.height, origin.width, fresh.shift(-origin.y0, -origin.x0))
                for twin, other in atlas.strips.copies(fresh):
                    found.append(Part(twin, y + dy + ey, x + dx + ex, compose(inverse(other), laid)))
            before.append(origin)
    return tuple(found)


def _cut(tiling: Tiling, seen: Sequence[tuple[Part, ...]]) -> tuple[Pieces, NDArray[np.int64]]:
    """The parts of all windows cut by tiles, in order, and where those of each window begin (and the last end)."""
    window = np.repeat(np.arange(len(seen)), [len(parts) for parts in seen])
    box = np.array([part.box for parts in seen for part in parts])
    at = np.array([(part.y, part.x) for parts in seen for part in parts])
    turn = np.array([part.turn for parts in seen for part in parts])
    side = np.array((tiling.y.tile, tiling.x.tile))
    first = box[:, 0::2] // side
    counts = (box[:, 1::2] - 1) // side + 1 - first
    many = counts.prod(axis=1)
    part = np.repeat(np.arange(len(box)), many)
    within = np.arange(len(part)) - np.repeat(np.cumsum(many) - many, many)
    tile = first[part] + np.stack(np.divmod(within, counts[part, 1]), axis=1)
    low = np.maximum(box[part, 0::2], tile * side)
    high = np.minimum(box[part, 1::2], (tile + 1) * side)
    sub = np.stack((low[:, 0], high[:, 0], low[:, 1], high[:, 1]), axis=1)
    corner = box[part, 0::2]
    found = places(turn[part], box[part, 1::2] - corner, sub - np.repeat(corner, 2, axis=1))
    pieces = Pieces(window[part], tile[:, 0] * tiling.x.tiles + tile[:, 1], sub, at[part] + found, turn[part])
    return pieces, np.searchsorted(pieces.window, np.arange(len(seen) + 1))


def _chosen(pieces: Pieces, rows: NDArray[np.int64]) -> Pieces:
    return Pieces(pieces.window[rows], pieces.tile[rows], pieces.box[rows], pieces.at[rows], pieces.turn[rows])
