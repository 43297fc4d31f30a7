"""The plan: f(request, model spec). It names no worker; what it says decides every pixel, and it is what is hashed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache

from raytile.errors import InvalidRequest
from raytile.geometry.axis import Axis, shifted_origins, strided_origins
from raytile.geometry.tiling import Tiling
from raytile.geometry.topology import Topology
from raytile.plan.request import RenderRequest, Weights
from raytile.plan.spec import ModelSpec, samplers_for
from raytile.plan.windows import Windows

FORMAT = 1
# Fractions of 2**64 of the two-dimensional R2 sequence (Roberts 2018): 1/g and 1/g**2, g**3 = g + 1.
R2_Y, R2_X = 0xC13FA9A902A6328F, 0x91E10DA5C79E7B1D
MAX_TILE = 8192
"""Pixels a side: a tile is decoded whole, and a chunk of the canvas."""


@dataclass(frozen=True)
class Level:
    """One synchronised render of the cascade: the canvas at some size, painted from `first_step` of the schedule on.

    Level 0 starts from pure noise; the others from the level before, upsampled and noised to `first_step`.
    `prompt` has the model's words for the level's zoom added."""

    index: int
    tiling: Tiling
    first_step: int
    steps: int
    prompt: str

    @property
    def cells(self) -> int:
        return self.tiling.y.cells * self.tiling.x.cells


@dataclass(frozen=True)
class Plan:
    """Everything a render needs to know but who does it. `request` has no open choices left (see `make_plan`)."""

    request: RenderRequest
    spec: ModelSpec
    topology: Topology
    levels: tuple[Level, ...]
    guidance: float
    guided: tuple[bool, ...]
    sampler: str
    stride: int
    micro_batch: int
    weights: Weights

    @property
    def steps(self) -> int:
        """The length of the schedule; a level runs from its `first_step` to here."""
        return len(self.guided)

    @property
    def tiling(self) -> Tiling:
        """Of the finished picture."""
        return self.levels[-1].tiling

    def rows(self, step: int) -> int:
        """Network rows a window costs at `step`: two where guidance needs the negative prompt as well."""
        return 2 if self.guided[step] else 1

    def windows(self, level: int, step: int) -> Windows:
        """The windows of `step` (index into the schedule) of `level`."""
        return _windows(self, level, step)

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
        wish = self.request.model_dump(mode="json", exclude={"model"})
        text = json.dumps({"format": FORMAT, "request": wish, "model": self.spec.identity()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=256)
def _windows(plan: Plan, level: int, step: int) -> Windows:
    tiling, size = plan.levels[level].tiling, plan.spec.window
    if plan.request.sync == "overlap":
        ys, xs = (strided_origins(axis, size, plan.stride) for axis in (tiling.y, tiling.x))
    else:
        oy, ox = plan.offset(level, step)
        ys, xs = shifted_origins(tiling.y, size, oy), shifted_origins(tiling.x, size, ox)
    return Windows(tiling, size, ys, xs)


def make_plan(request: RenderRequest, spec: ModelSpec) -> Plan:
    """Settle what the request leaves open and check the whole; raises `InvalidRequest`, one line with the fix."""
    topology = Topology.of(request.wrap)
    steps = request.steps or spec.default_steps
    guidance = spec.default_guidance if request.guidance is None else request.guidance
    interval = request.guidance_interval or spec.guidance_interval
    if not 0 <= interval[0] < interval[1] <= 1:
        raise InvalidRequest(f"guidance_interval: {list(interval)} is no part of [0, 1]: give two rising shares")
    sampler = request.sampler or spec.default_sampler
    usable = samplers_for(spec.prediction)
    if sampler not in usable:
        raise InvalidRequest(f"sampler: {sampler!r} does not fit model {spec.name}: choose from {', '.join(usable)}")
    tile_pixels = _tile(request, spec)
    shift = request.sync == "shift"  # neither stride nor weights change a pixel then
    weights: Weights = "uniform" if shift else request.weights
    share = 1.0 if shift else request.stride
    settled = request.model_copy(
        update={
            "model": spec.path or spec.name,
            "steps": steps,
            "guidance": guidance,
            "guidance_interval": interval,
            "sampler": sampler,
            "stride": share,
            "weights": weights,
            "tile": tile_pixels,
            "micro_batch": request.micro_batch or spec.micro_batch,
        }
    )
    sizes = _level_sizes(settled, spec, topology)
    settled = settled.model_copy(update={"levels": len(sizes)})
    first = steps - max(1, int(steps * spec.renoise))
    levels = tuple(
        Level(
            index=index,
            tiling=Tiling(
                Axis(height, tile_pixels // spec.factor, topology.wrap_y),
                Axis(width, tile_pixels // spec.factor, topology.wrap_x),
            ),
            first_step=first if index else 0,
            steps=steps,
            prompt=_with_zoom(request.prompt, spec, index, len(sizes)),
        )
        for index, (height, width) in enumerate(sizes)
    )
    return Plan(
        request=settled,
        spec=spec,
        topology=topology,
        levels=levels,
        guidance=guidance,
        guided=tuple(guidance > 1 and interval[0] <= i / steps < interval[1] for i in range(steps)),
        sampler=sampler,
        stride=max(1, round(share * spec.window / spec.network_stride)) * spec.network_stride,
        micro_batch=settled.micro_batch or spec.micro_batch,
        weights=weights,
    )


def _tile(request: RenderRequest, spec: ModelSpec) -> int:
    """The side of a tile in pixels: whole windows, and no more of them than the longer side of the picture takes."""
    window = spec.window * spec.factor
    side = request.tile or 2 * window
    if side % window:
        near = max(1, round(side / window)) * window
        raise InvalidRequest(f"tile: must be a multiple of the model's window of {window} pixels, such as {near}")
    side = min(side, -(-max(request.width, request.height) // window) * window)
    if side > MAX_TILE:
        most = max(1, MAX_TILE // window) * window
        raise InvalidRequest(f"tile: at most {MAX_TILE} pixels a side, such as {most} (got {side})")
    return side


def _level_sizes(request: RenderRequest, spec: ModelSpec, topology: Topology) -> tuple[tuple[int, int], ...]:
    """Latent (height, width) of each level, coarsest first."""
    sides = (("height", request.height, topology.wrap_y), ("width", request.width, topology.wrap_x))
    finest = []
    for name, pixels, wrap in sides:
        if wrap and pixels % spec.factor:
            low = pixels - pixels % spec.factor
            near = f"{low} or {low + spec.factor}" if low else f"{spec.factor}"
            raise InvalidRequest(f"{name}: a wrapped side must be a multiple of {spec.factor} pixels: {near}")
        # A bounded side shorter than a window is painted as one whole window and cropped.
        finest.append(-(-pixels // spec.factor) if wrap else max(spec.window, -(-pixels // spec.factor)))
    sizes = [(finest[0], finest[1])]
    while True:
        height, width = sizes[0]
        if request.levels == "auto" and max(height, width) <= 2 * spec.window:
            break
        if len(sizes) == request.levels:
            break
        coarse = (-(-height // 2), -(-width // 2))
        if min(coarse) < spec.window:
            if request.levels != "auto":
                raise InvalidRequest(f"levels: this size has room for {len(sizes)}: no side may fall below a window")
            break
        sizes.insert(0, coarse)
    return tuple(sizes)


def _with_zoom(prompt: str, spec: ModelSpec, index: int, levels: int) -> str:
    """The prompt with the words for the level's zoom, unless the user named a zoom and there is one level only.

    A picture of one level is shown at the last zoom but one, and the more levels it has the farther out it starts."""
    if not spec.zooms or (levels == 1 and any(zoom.phrase in prompt for zoom in spec.zooms)):
        return prompt
    last = len(spec.zooms) - 1
    phrase = spec.zooms[min(max(0, last - levels) + index, last)].phrase
    return f"{prompt}, {phrase}" if prompt else phrase
