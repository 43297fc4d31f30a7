"""An atlas: one canvas made of rectangular faces (pictures), and how their sides are joined.

A window is placed in the coordinates of one face and may stick out over joined sides: there it shows cells of other
faces, turned as they lie when one walks over the seam. Seams that one may walk round in any order are flat; where the
order matters (a corner of a cube) is a *vertex*, which no window holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from raytile.errors import InvalidRequest
from raytile.geometry.box import Box, disjoint, minus
from raytile.geometry.strips import Copy, Strips, strips_of
from raytile.geometry.tiling import Piece, Tiling
from raytile.geometry.topology import Side as Edge
from raytile.geometry.turn import MIRROR, compose, extent, inverse, place

QUARTERS: dict[Edge, int] = {"right": 0, "top": 1, "left": 2, "bottom": 3}
"""How many quarter turns counter-clockwise bring the right side there. Positions along sides run clockwise round a
face, so that they stay what they are when it turns."""

ACROSS: tuple[Edge, Edge] = ("left", "right")
ALONG: tuple[Edge, Edge] = ("top", "bottom")

DEEPER = 4
"""How many times deeper than at last strips are at first, where a level begins with noise (see `Atlas.graded`)."""

Side = tuple[int, Edge]
"""Number of a face, and which of its sides."""


class Face(NamedTuple):
    """A picture on the canvas: `box` in cells."""

    name: str
    box: Box


@dataclass(frozen=True)
class Join:
    """Any side of `one` may lie against any of `other`, and comes to lie against each in turn, step by step.

    `mirrored`: one of the two lies there turned over. `shift`: the position met is so many cells further along the side
    of `other`, modulo its length: only where the ends of the side meet (the pole row of a map of a sphere)."""

    one: tuple[Side, ...]
    other: tuple[Side, ...]
    mirrored: bool = False
    shift: int = 0


class Part(NamedTuple):
    """Cells `box` of the canvas, turned by `turn`, found at (`y`, `x`) of a patch."""

    box: Box
    y: int
    x: int
    turn: int


@dataclass(frozen=True)
class Mosaic:
    """A rectangle of `height` x `width` cells put together from pieces of tiles, turned or not."""

    height: int
    width: int
    found: tuple[Piece, ...]

    def pieces(self) -> Iterator[Piece]:
        return iter(self.found)

    def tiles(self) -> Iterator[int]:
        """The tiles it touches; one may come twice."""
        return (piece.tile for piece in self.found)


class Vertex(ValueError):
    """A patch holds a corner where it matters over which side one walks first."""


class _Way(NamedTuple):
    """How a side is left: the sides it may lie against, and `Join`'s words as seen from here."""

    partners: tuple[Side, ...]
    mirrored: bool
    shift: int


@dataclass(frozen=True)
class Atlas:
    """`faces` that do not overlap, and `joins` of their sides; a side is in one join at most.

    strip: where several sides are alike (several members on one side of a join), how many cells next to the side are
    the same in all of them (see `twins`, and `graded`). Raises `InvalidRequest` where sides do not fit together."""

    faces: tuple[Face, ...]
    joins: tuple[Join, ...]
    strip: int = 2

    def __post_init__(self) -> None:
        known: set[Side] = set()
        for join in self.joins:
            sides = set(join.one) | set(join.other)
            names = ", ".join(sorted(f"{self.faces[face].name}.{edge}" for face, edge in sides))
            if known & sides or (set(join.one) & set(join.other) and join.one != join.other):
                raise InvalidRequest(f"seams: one of {names} is in two of them: name each side in one seam only")
            if len(sides) < len(join.one) + (len(join.other) if join.one != join.other else 0):
                raise InvalidRequest(f"seams: one of {names} is named twice: name it once")
            lengths = {self.length(side) for side in sides}
            if len(lengths) > 1:
                raise InvalidRequest(f"seams: {names} are of different lengths: give them one length")
            if join.one == join.other and join.mirrored and 2 * join.shift % lengths.pop():
                raise InvalidRequest(
                    f"seams: {names} cannot meet themselves mirrored unless half way round or not moved"
                )
            known |= sides

    def length(self, side: Side) -> int:
        """Of a side, in cells."""
        box = self.faces[side[0]].box
        return box.height if side[1] in ACROSS else box.width

    def scaled(self, divisor: int) -> Atlas:
        """The same atlas on a canvas `divisor` times smaller; `InvalidRequest` where it does not divide."""
        for name, box in self.faces:
            if any(edge % divisor for edge in box):
                raise InvalidRequest(
                    f"levels: picture {name} of {box.width}x{box.height} cells does not divide by {divisor}:"
                    f" make its sides multiples of {divisor} cells, or lower levels"
                )
        return Atlas(
            tuple(Face(name, Box(*(edge // divisor for edge in box))) for name, box in self.faces),
            tuple(Join(join.one, join.other, join.mirrored, join.shift // divisor) for join in self.joins),
            max(1, self.strip // divisor),
        )

    def partner(self, side: Side, step: int) -> Side | None:
        """The side one comes in by when leaving by `side` at `step`: each that may lie there in turn, in the order
        given (Tiled Diffusion, Madar and Fried 2025, chooses so). None where the picture ends. From there one may come
        out elsewhere."""
        way = self._ways.get(side)
        return way.partners[step % len(way.partners)] if way else None

    def wraps(self, face: int) -> tuple[bool, bool]:
        """Whether a face's (top and bottom, left and right) meet one another, straight and at every step."""
        plain = (join for join in self.joins if not (join.mirrored or join.shift) and join.one != join.other)
        straight = {frozenset((*join.one, *join.other)) for join in plain}
        y, x = (frozenset((face, edge) for edge in edges) in straight for edges in (ALONG, ACROSS))
        return y, x

    def face_at(self, y: int, x: int) -> int | None:
        """The face that cell (y, x) of the canvas is in."""
        for number, (_, box) in enumerate(self.faces):
            if box.y0 <= y < box.y1 and box.x0 <= x < box.x1:
                return number
        return None

    def gaps(self, tiling: Tiling) -> tuple[Box, ...]:
        """The parts of the canvas that are in no face."""
        return disjoint(minus(Box(0, tiling.y.cells, 0, tiling.x.cells), (face.box for face in self.faces)))

    def cross(self, leaving: Side, entering: Side, y: int, x: int) -> tuple[int, int]:
        """The cell of the canvas one step beyond cell (y, x) at side `leaving`, when `entering` lies there."""
        way = self._ways[leaving]
        box = self.faces[leaving[0]].box
        dy, dx = {"top": (-1, 0), "bottom": (1, 0), "left": (0, -1), "right": (0, 1)}[leaving[1]]
        beyond = Box(y, y + 1, x, x + 1).shift(dy - box.y0, dx - box.x0)
        ((_, found, _),) = self._enter(leaving, _Way((entering,), way.mirrored, way.shift), 0, beyond)
        there = self.faces[entering[0]].box
        return found.y0 + there.y0, found.x0 + there.x0

    def parts(self, face: int, y: int, x: int, height: int, width: int, step: int) -> tuple[Part, ...]:
        """What a patch shows whose top left cell is (y, x) of `face`, counted from its top left corner, at `step`.

        Raises `Vertex` where it would hold one, `ValueError` where it sticks out over a side that is not joined."""
        rect, box = Box(y, y + height, x, x + width), self.faces[face].box
        rows, columns = (y < 0, y + height > box.height), (x < 0, x + width > box.width)
        for edge, out in zip((*ALONG, *ACROSS), (*rows, *columns), strict=True):
            if out and (face, edge) not in self._ways:
                raise self._ends(face, edge)
        if not (any(rows) and any(columns)):
            return _in_order(self._walk(face, rect, step, x_first=True))
        try:
            found = _in_order(self._walk(face, rect, step, x_first=True))
            flat = _agree(found, tuple(self._walk(face, rect, step, x_first=False)))
        except ValueError:
            flat = False
        if not flat:
            raise Vertex(f"{height}x{width} cells at ({y}, {x}) of {self.faces[face].name} hold a vertex")
        return found

    def past_vertex(
        self, face: int, y: int, x: int, height: int, width: int, step: int, *, x_first: bool
    ) -> tuple[Part, ...]:
        """`parts` of a patch that holds a vertex, walking over one of its sides first; where a side ends beyond that,
        one turns back as in a mirror."""
        rect = Box(y, y + height, x, x + width)
        return _in_order(self._walk(face, rect, step, x_first=x_first, back=True))

    def patch(self, tiling: Tiling, face: int, y: int, x: int, height: int, width: int, step: int) -> Mosaic:
        """`parts`, cut by tiles."""
        return Mosaic(height, width, cut(tiling, self.parts(face, y, x, height, width, step)))

    def around(self, tiling: Tiling, face: int, box: Box, halo: int, step: int) -> tuple[Mosaic, int, int]:
        """`box` of the canvas, inside `face`, with `halo` cells around it (none beyond sides that are not joined), and
        where `box` lies in that.

        Always a full rectangle, vertex or not: beyond a corner it shows what lies there when one walks in x first, and
        at a side that ends there it turns back as in a mirror."""
        whole = self.faces[face].box
        y0, y1, x0, x1 = box.shift(-whole.y0, -whole.x0)
        top = halo if (face, "top") in self._ways else min(halo, y0)
        left = halo if (face, "left") in self._ways else min(halo, x0)
        bottom = halo if (face, "bottom") in self._ways else min(halo, whole.height - y1)
        right = halo if (face, "right") in self._ways else min(halo, whole.width - x1)
        rect = Box(y0 - top, y1 + bottom, x0 - left, x1 + right)
        found = cut(tiling, self._walk(face, rect, step, x_first=True, back=True))
        return Mosaic(rect.height, rect.width, found), top, left

    def origin(self, box: Box) -> tuple[Copy, ...]:
        """For every part of `box` of the canvas the cells that it repeats: the first of those alike, else itself."""
        return self.strips.origin(box)

    def twins(self, box: Box) -> tuple[Copy, ...]:
        """For parts of `box` of the canvas that are alike with others, each of those others."""
        return self.strips.twins(box)

    @cached_property
    def strips(self) -> Strips:
        """Cells that are the same in several faces."""
        boxes = [face.box for face in self.faces]
        groups = [[(face, QUARTERS[edge]) for face, edge in group] for group in self._alike]
        return strips_of(boxes, groups, self.strip)

    @cached_property
    def graded(self) -> tuple[Atlas, ...]:
        """This atlas, then with strips ever a cell deeper, up to `DEEPER` times or half a picture. What is the same in
        one is the same in all that come after. This atlas alone where no sides are alike."""
        boxes = [self.faces[face].box for group in self._alike for face, _ in group]
        if not boxes:
            return (self,)
        deepest = min(DEEPER * self.strip, *(min(box.height, box.width) // 2 for box in boxes))
        return (self, *(replace(self, strip=depth) for depth in range(self.strip + 1, deepest + 1)))

    @cached_property
    def _alike(self) -> tuple[tuple[Side, ...], ...]:
        """Groups of several sides that are alike."""
        groups = (group for join in self.joins for group in dict.fromkeys((join.one, join.other)))
        return tuple(group for group in groups if len(group) > 1)

    @cached_property
    def _ways(self) -> dict[Side, _Way]:
        ways: dict[Side, _Way] = {}
        for join in self.joins:
            back = -join.shift if join.mirrored else join.shift
            ways.update((side, _Way(join.one, join.mirrored, back)) for side in join.other)
            ways.update((side, _Way(join.other, join.mirrored, join.shift)) for side in join.one)
        return ways

    def _ends(self, face: int, edge: Edge) -> ValueError:
        return ValueError(f"{self.faces[face].name} ends at its {edge} side")

    def _walk(self, face: int, rect: Box, step: int, *, x_first: bool, back: bool = False) -> Iterator[Part]:
        """The cells of `rect` of `face`, side after side; `back`: a side that is not joined sends one back."""
        todo = [(face, rect, 0, 0, 0)]
        while todo:
            face, rect, turn, y, x = todo.pop()
            box = self.faces[face].box
            for row, column, sub in _split(rect, box.height, box.width):
                if not (row or column):
                    yield Part(sub.shift(box.y0, box.x0), *_found(rect, turn, y, x, sub), turn)
                    continue
                sideways = column != 0 and (row == 0 or x_first == (turn % 2 == 0))
                edge = ACROSS[column > 0] if sideways else ALONG[row > 0]
                way = self._ways.get((face, edge))
                if way is None:
                    if not back:
                        raise self._ends(face, edge)
                    way = _Way(((face, edge),), mirrored=True, shift=0)
                entered = way.partners[step % len(way.partners)][0]
                for part, there, turned in self._enter((face, edge), way, step, sub):
                    todo.append((entered, there, compose(turned, turn), *_found(rect, turn, y, x, part)))

    def _enter(self, leaving: Side, way: _Way, step: int, rect: Box) -> Iterator[tuple[Box, Box, int]]:
        """Parts of `rect`, which lies beyond side `leaving` of its face, the cells of the face entered that they show,
        in its own coordinates, and how those are turned."""
        entering = way.partners[step % len(way.partners)]
        here, there = self.faces[leaving[0]].box, self.faces[entering[0]].box
        q, r = QUARTERS[leaving[1]], QUARTERS[entering[1]]
        turn = MIRROR + (q + r) % 4 if way.mirrored else (q + 2 - r) % 4
        height, width = extent(turn, there.height, there.width)
        y, x = ((0, here.width), (-height, 0), (0, -width), (here.height, 0))[q]
        back = inverse(turn)
        for part, moved in _moved(rect, q, self.length(leaving), -way.shift if way.mirrored else way.shift):
            dy, dx = (y, x + moved) if q % 2 else (y + moved, x)
            at = place(back, height, width, part.shift(-dy, -dx))
            size = extent(back, part.height, part.width)
            yield part, Box(at[0], at[0] + size[0], at[1], at[1] + size[1]), turn


def cut(tiling: Tiling, parts: Iterable[Part]) -> tuple[Piece, ...]:
    """Parts of a patch cut by the tiles they lie in."""
    found: list[Piece] = []
    for box, y, x, turn in parts:
        for row in tiling.y.segments(box.y0, box.height):
            for column in tiling.x.segments(box.x0, box.width):
                sub = Box(row.start, row.stop, column.start, column.stop)
                tile = row.tile * tiling.x.tiles + column.tile
                found.append(Piece(tile, sub, *_found(box, turn, y, x, sub), turn))
    return tuple(found)


def _in_order(parts: Iterable[Part]) -> tuple[Part, ...]:
    return tuple(sorted(parts, key=lambda part: (part.y, part.x)))


def _found(whole: Box, turn: int, y: int, x: int, sub: Box) -> tuple[int, int]:
    """Where `sub` begins when `whole`, turned, begins at (y, x)."""
    dy, dx = place(turn, whole.height, whole.width, sub.shift(-whole.y0, -whole.x0))
    return y + dy, x + dx


def _split(rect: Box, height: int, width: int) -> Iterator[tuple[int, int, Box]]:
    """`rect` cut at the sides of a face: (-1, 0 or 1: above, in or below it; the same in x; the part)."""
    rows = [
        (-1, rect.y0, min(rect.y1, 0)),
        (0, max(rect.y0, 0), min(rect.y1, height)),
        (1, max(rect.y0, height), rect.y1),
    ]
    columns = [
        (-1, rect.x0, min(rect.x1, 0)),
        (0, max(rect.x0, 0), min(rect.x1, width)),
        (1, max(rect.x0, width), rect.x1),
    ]
    for row, y0, y1 in rows:
        for column, x0, x1 in columns:
            if y0 < y1 and x0 < x1:
                yield row, column, Box(y0, y1, x0, x1)


def _moved(rect: Box, quarter: int, length: int, shift: int) -> Iterator[tuple[Box, int]]:
    """`rect` cut where a face that lies beyond a side, moved along it by `shift` and again and again, ends, and by how
    much (in y or x) it is moved there."""
    if not shift:
        yield rect, 0
        return
    first, last = (rect.x0, rect.x1) if quarter % 2 else (rect.y0, rect.y1)
    start = shift if quarter < 2 else -shift  # clockwise is down at the right, up at the left
    start += (first - start) // length * length
    while start < last:
        low, high = max(first, start), min(last, start + length)
        yield (rect._replace(x0=low, x1=high) if quarter % 2 else rect._replace(y0=low, y1=high)), start
        start += length


def _agree(one: tuple[Part, ...], other: tuple[Part, ...]) -> bool:
    """Whether two ways to put a patch together show the same cells: parts that share a place are laid alike."""
    return all(_laid(a) == _laid(b) for a in one for b in other if _in_patch(a).intersect(_in_patch(b)).area)


def _laid(part: Part) -> tuple[int, int, int]:
    """How a part is turned, and where cell (0, 0) of the canvas would come to lie."""
    return part.turn, *_found(part.box, part.turn, part.y, part.x, Box(0, 1, 0, 1))


def _in_patch(part: Part) -> Box:
    height, width = extent(part.turn, part.box.height, part.box.width)
    return Box(part.y, part.y + height, part.x, part.x + width)
