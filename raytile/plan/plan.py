"""The plan: f(request, model spec). It names no worker; what it says decides every pixel, and it is what is hashed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from raytile.geometry.axis import shifted_origins, shifted_spans, strided_origins
from raytile.geometry.tiling import Tiling
from raytile.plan import area
from raytile.plan.request import RenderRequest, Weights
from raytile.plan.spec import ModelSpec
from raytile.plan.voices import Voice, speaking
from raytile.plan.windows import GridWindows, SomeWindows, Windows

if TYPE_CHECKING:
    from raytile.geometry.atlas import Atlas

FORMAT = 1
# Fractions of 2**64 of the two-dimensional R2 sequence (Roberts 2018): 1/g and 1/g**2, g**3 = g + 1.
R2_Y, R2_X = 0xC13FA9A902A6328F, 0x91E10DA5C79E7B1D

Begins = Literal["noise", "level", "clean"]


@dataclass(frozen=True)
class Level:
    """One synchronised render of the cascade: the canvas at some size, painted from `first_step` of the schedule on.

    `begins`: from pure noise; from the level before, its latents enlarged by those who read them; or from clean latents
    that owners make first (of a source, or of the level before by way of pixels). `voices`: the base prompt, then each
    region, with the model's words for the level's zoom added. `anchored`: its clean start is kept at hand, since every
    step is drawn towards it. `dilated`: with a lane of thinned-out windows."""

    index: int
    tiling: Tiling
    first_step: int
    steps: int
    voices: tuple[Voice, ...]
    begins: Begins
    atlas: Atlas | None = None
    anchored: bool = False
    dilated: bool = False

    @property
    def prompt(self) -> str:
        return self.voices[0].prompt

    @property
    def cells(self) -> int:
        return self.tiling.y.cells * self.tiling.x.cells

    def joined(self, step: int) -> Atlas | None:
        """The atlas at `step`. Strips that sides alike share begin deep, where a level begins with noise, and lose a
        cell time after time: were their inner edge at one place at every step, it would show there as a line.

        They never grow, so that what is the same at a step was the same at all steps before, noise included."""
        if self.atlas is None or self.begins != "noise":
            return self.atlas
        depths, last = self.atlas.graded, self.steps - 1 - self.first_step
        return depths[(len(depths) - 1) * (self.steps - 1 - step) // max(1, last)]


@dataclass(frozen=True)
class Plan:
    """Everything a render needs to know but who does it. `request` has no open choices left (see `make_plan`)."""

    request: RenderRequest
    spec: ModelSpec
    levels: tuple[Level, ...]
    guidance: float
    guided: tuple[bool, ...]
    sampler: str
    stride: int
    micro_batch: int
    weights: Weights

    def __hash__(self) -> int:
        return hash(self.hash)  # by its fields it would be worked out anew at every look into a cache

    @property
    def steps(self) -> int:
        """The length of the schedule; a level runs from its `first_step` to here."""
        return len(self.guided)

    @property
    def tiling(self) -> Tiling:
        """Of the finished picture."""
        return self.levels[-1].tiling

    @property
    def partial(self) -> bool:
        """Whether only a part of the canvas is painted, the rest being there already."""
        return bool(self.request.repaint) or self.request.place is not None

    @cached_property
    def period(self) -> area.Period:
        """(height, width) in pixels after which the picture comes again; None where it does not."""
        wraps, request = self.tiling, self.request
        round_x = wraps.x.wrap or request.topology == "equirectangular"
        return request.height if wraps.y.wrap else None, request.width if round_x else None

    def windows(self, level: int, step: int) -> Windows:
        """The windows of `step` (index into the schedule) of `level`."""
        return _windows(self, level, step)

    def rows(self, level: int, step: int) -> NDArray[np.int64]:
        """Network rows that each window costs at `step`: one for each text that it is asked with."""
        return _rows(self, level, step)

    def heard(self, level: int, step: int) -> NDArray[np.bool_]:
        """[windows, voices]: which voices of the level each window hears."""
        return _heard(self, level, step)

    def pixels(self, level: int, boxes: NDArray[np.int64]) -> area.Floats:
        """Boxes [n, (y0, y1, x0, x1)] of cells of `level` in pixels of the finished picture."""
        tiling, last, factor = self.levels[level].tiling, self.tiling, self.spec.factor
        down, across = factor * last.y.cells / tiling.y.cells, factor * last.x.cells / tiling.x.cells
        return np.asarray(boxes * np.array([down, down, across, across]), dtype=np.float64)

    def touched(self, boxes: area.Floats) -> NDArray[np.bool_]:
        """In which boxes (pixels) anything is painted: those less than a cell away from what is to be repainted."""
        request = self.request
        if request.repaint:
            rim = self.spec.factor * np.array([-1, 1, -1, 1])
            found = [area.touches(shape, boxes + rim, self.period) for shape in request.repaint]
            return np.asarray(np.stack(found).any(axis=0))
        if request.place is not None:
            return ~area.within(boxes, self.kept)
        return np.ones(len(boxes), dtype=bool)

    @cached_property
    def kept(self) -> tuple[int, int, int, int]:
        """Under `place`: (y0, y1, x0, x1) in pixels of what was there before."""
        assert self.request.place is not None
        assert self.request.source is not None
        assert self.request.source.size is not None
        (x, y), (width, height) = self.request.place, self.request.source.size
        return y, y + height, x, x + width

    @property
    def source_size(self) -> tuple[int, int]:
        """(height, width) in pixels to which a source is scaled: that of the coarsest level."""
        if len(self.levels) == 1:
            return self.request.height, self.request.width
        tiling = self.levels[0].tiling
        return tiling.y.cells * self.spec.factor, tiling.x.cells * self.spec.factor

    @cached_property
    def active(self) -> NDArray[np.bool_]:
        """Of each tile of the finished picture, whether anything in it is painted."""
        cores = np.array([self.tiling.core(tile) for tile in range(self.tiling.count)])
        return self.touched(self.pixels(len(self.levels) - 1, cores))

    def offset(self, level: int, step: int) -> tuple[int, int]:
        """How far the grid of `shift` has moved at `step`: (y, x) cells, multiples of the network's stride."""
        slots = self.spec.window // self.spec.network_stride
        start = hashlib.sha256(f"raytile shift {FORMAT}|{self.request.seed}|{level}".encode()).digest()
        moved = []
        for axis, rate in enumerate((R2_Y, R2_X)):
            fraction = (int.from_bytes(start[8 * axis : 8 * axis + 8], "little") + step * rate) % 2**64
            moved.append(self.spec.network_stride * (fraction * slots >> 64))
        return moved[0], moved[1]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of what decides the pixels: equal hashes, equal pictures."""
        wish = _without_paths(self.request.model_dump(mode="json", exclude={"model"}))
        text = json.dumps({"format": FORMAT, "request": wish, "model": self.spec.identity()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _without_paths(wish: object) -> object:
    """Where a picture lies decides nothing; what is in it (`sha256`) does."""
    if isinstance(wish, dict):
        return {name: _without_paths(value) for name, value in wish.items() if name != "path"}
    return [_without_paths(value) for value in wish] if isinstance(wish, list) else wish


@lru_cache(maxsize=256)
def _windows(plan: Plan, level: int, step: int) -> Windows:
    this, size = plan.levels[level], plan.spec.window
    tiling, offset = this.tiling, None if plan.request.sync == "overlap" else plan.offset(level, step)
    found: Windows
    atlas = this.joined(step)
    if atlas is not None:
        from raytile.plan.atlas_windows import atlas_windows

        found = atlas_windows(atlas, tiling, size, step, offset, plan.stride)
    else:
        if offset is None:
            ys, xs = (strided_origins(axis, size, plan.stride) for axis in (tiling.y, tiling.x))
            found = GridWindows(tiling, size, ys, xs)
        else:
            (down, across), axes = offset, (tiling.y, tiling.x)
            ys, xs = shifted_origins(axes[0], size, down), shifted_origins(axes[1], size, across)
            spans = shifted_spans(axes[0], size, down), shifted_spans(axes[1], size, across)
            found = GridWindows(tiling, size, ys, xs, spans)
    if not plan.partial:
        return found
    seen = found.pieces(np.arange(len(found)), given=False)
    wanted = np.zeros(len(found), dtype=bool)
    np.logical_or.at(wanted, seen.window, plan.touched(plan.pixels(level, seen.box)))
    return SomeWindows(found, tuple(np.flatnonzero(wanted).tolist()))


@lru_cache(maxsize=256)
def _heard(plan: Plan, level: int, step: int) -> NDArray[np.bool_]:
    windows = plan.windows(level, step)
    if not plan.request.regions:
        return np.ones((len(windows), 1), dtype=bool)
    seen = windows.pieces(np.arange(len(windows)), given=False)
    boxes = plan.pixels(level, seen.box)
    return speaking(plan.request.regions, boxes, seen.window, len(windows), plan.period)


@lru_cache(maxsize=256)
def _rows(plan: Plan, level: int, step: int) -> NDArray[np.int64]:
    asked = [voice.texts(plan.guided[step]) for voice in plan.levels[level].voices]
    texts = list(dict.fromkeys(text for several in asked for text in several))
    needs = np.array([[text in several for text in texts] for several in asked])
    return np.asarray((plan.heard(level, step).astype(np.int64) @ needs > 0).sum(axis=1), dtype=np.int64)
