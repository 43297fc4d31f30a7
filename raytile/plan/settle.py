"""From a request to its plan: what was left open is settled, what makes no sense is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raytile.errors import InvalidRequest
from raytile.geometry.axis import Axis
from raytile.geometry.tiling import Tiling
from raytile.geometry.topology import Topology
from raytile.plan.plan import Begins, Level, Plan
from raytile.plan.refusals import check
from raytile.plan.request import RenderRequest, Weights
from raytile.plan.spec import ModelSpec, samplers_for
from raytile.plan.voices import Voice

if TYPE_CHECKING:
    from raytile.geometry.atlas import Atlas

MAX_TILE = 8192
"""Pixels a side: a tile is decoded whole, and a chunk of the canvas."""
RESTYLED, REPAINTED = 0.6, 1.0
"""Shares of the steps for which a source is painted anew, and a region of a canvas."""


def make_plan(request: RenderRequest, spec: ModelSpec) -> Plan:
    """Settle what the request leaves open and check the whole; raises `InvalidRequest`, one line with the fix."""
    steps = request.steps or spec.default_steps
    guidance = spec.default_guidance if request.guidance is None else request.guidance
    interval = request.guidance_interval or spec.guidance_interval
    if not 0 <= interval[0] < interval[1] <= 1:
        raise InvalidRequest(f"guidance_interval: {list(interval)} is no part of [0, 1]: give two rising shares")
    sampler = request.sampler or spec.default_sampler
    usable = samplers_for(spec.prediction)
    if sampler not in usable:
        raise InvalidRequest(f"sampler: {sampler!r} does not fit model {spec.name}: choose from {', '.join(usable)}")
    check(request, spec)
    topology = Topology.of(request.wrap)
    atlas = None
    if request.topology != "flat" or request.tileset is not None:
        from raytile.plan.tilesets import atlas_of

        atlas = atlas_of(request, spec.factor, (request.height // spec.factor, request.width // spec.factor))
    if atlas is not None:
        _check_faces(atlas, spec)
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
            "strength": _strength(request, spec),
        }
    )
    sizes = _level_sizes(settled, spec, topology, atlas)
    if len(sizes) == 1:
        _refuse_finer(request)
    renoise = request.renoise or spec.renoise
    settled = settled.model_copy(update={"levels": len(sizes), "renoise": renoise if len(sizes) > 1 else None})
    levels = tuple(
        Level(
            index=index,
            tiling=Tiling(
                Axis(height, tile_pixels // spec.factor, topology.wrap_y),
                Axis(width, tile_pixels // spec.factor, topology.wrap_x),
            ),
            first_step=_first_step(settled, index, steps),
            steps=steps,
            voices=_voices(settled, spec, guidance, index, len(sizes)),
            begins=_begins(settled, index),
            atlas=None if atlas is None else atlas.scaled(2 ** (len(sizes) - 1 - index)),
            anchored=bool(index and request.skip_residual) or bool(request.repaint) or request.place is not None,
            dilated=bool(index) and request.dilated,
        )
        for index, (height, width) in enumerate(sizes)
    )
    plan = Plan(
        request=settled,
        spec=spec,
        levels=levels,
        guidance=guidance,
        guided=tuple(
            any(voice.guidance > 1 for voice in levels[0].voices) and interval[0] <= i / steps < interval[1]
            for i in range(steps)
        ),
        sampler=sampler,
        stride=max(1, round(share * spec.window / spec.network_stride)) * spec.network_stride,
        micro_batch=settled.micro_batch or spec.micro_batch,
        weights=weights,
    )
    if atlas is not None:
        for level in levels:  # a face may be too small for windows to stand on
            plan.windows(level.index, level.first_step)
    if request.repaint and atlas is not None:
        _check_strips(plan, atlas)
    return plan


def _check_faces(atlas: Atlas, spec: ModelSpec) -> None:
    """A window stands on one face, but for axes that close on themselves."""
    for number, (name, box) in enumerate(atlas.faces):
        sides = zip((box.height, box.width), atlas.wraps(number), strict=True)
        if any(cells < spec.window and not wrap for cells, wrap in sides):
            width, height, least = (cells * spec.factor for cells in (box.width, box.height, spec.window))
            raise InvalidRequest(
                f"size: picture {name} of {width}x{height} pixels is less than the model's window: "
                f"make it at least {least} a side"
            )


def _check_strips(plan: Plan, atlas: Atlas) -> None:
    """Sides that are alike can only be painted anew together."""
    boxes = np.array([box for zone in atlas.strips.zones for box, _ in zone]).reshape(-1, 4)
    if plan.touched(plan.pixels(len(plan.levels) - 1, boxes)).any():
        away = (atlas.strip + 1) * plan.spec.factor
        raise InvalidRequest(
            f"repaint: this would change a side that others are like: stay {away} pixels away from shared sides"
        )


def _strength(request: RenderRequest, spec: ModelSpec) -> float | None:
    """For how many of the steps a source is painted anew, as a share."""
    if request.source is None or request.strength is not None:
        return request.strength
    if request.place is not None:
        return 1.0
    if request.repaint:
        return REPAINTED
    return spec.renoise if _larger(request) else RESTYLED


def _larger(request: RenderRequest) -> bool:
    """Whether the canvas is larger than the source that it shows whole."""
    size = None if request.source is None or request.place is not None else request.source.size
    return size is not None and (request.width > size[0] or request.height > size[1])


def _first_step(settled: RenderRequest, index: int, steps: int) -> int:
    share = settled.renoise if index else settled.strength
    return 0 if share is None else steps - max(1, int(steps * share))


def _begins(settled: RenderRequest, index: int) -> Begins:
    if index == 0:
        return "noise" if settled.source is None else "clean"
    return "clean" if settled.enlarge == "pixels" else "level"


def _refuse_finer(request: RenderRequest) -> None:
    """What speaks of finer levels says nothing where there is one level only."""
    for name in ("renoise", "skip_residual", "dilated"):
        if getattr(request, name):
            raise InvalidRequest(f"{name}: this picture is painted in one level: leave it out, or ask for more levels")
    if request.enlarge != "latents":
        raise InvalidRequest("enlarge: this picture is painted in one level: leave it out, or ask for more levels")


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


def _level_sizes(
    request: RenderRequest, spec: ModelSpec, topology: Topology, atlas: Atlas | None
) -> tuple[tuple[int, int], ...]:
    """Latent (height, width) of each level, coarsest first."""
    sides = (("height", request.height, topology.wrap_y), ("width", request.width, topology.wrap_x))
    finest = []
    for name, pixels, wrap in sides:
        if wrap and pixels % spec.factor:
            low = pixels - pixels % spec.factor
            near = f"{low} or {low + spec.factor}" if low else f"{spec.factor}"
            raise InvalidRequest(f"{name}: a wrapped side must be a multiple of {spec.factor} pixels: {near}")
        # A bounded side shorter than a window is painted as one whole window and cropped.
        cells = -(-pixels // spec.factor)
        finest.append(cells if wrap or atlas is not None else max(spec.window, cells))
    sizes = [(finest[0], finest[1])]
    while True:
        height, width = sizes[0]
        if request.levels == "auto" and _enough(request, spec, height, width, atlas, len(sizes)):
            break
        if len(sizes) == request.levels:
            break
        coarse = (-(-height // 2), -(-width // 2))
        if _smallest(coarse, atlas, len(sizes)) < spec.window:
            if request.levels != "auto":
                raise InvalidRequest(f"levels: this size has room for {len(sizes)}: no side may fall below a window")
            break
        sizes.insert(0, coarse)
    return tuple(sizes)


def _enough(request: RenderRequest, spec: ModelSpec, height: int, width: int, atlas: Atlas | None, levels: int) -> bool:
    """Whether a level of this size is coarse enough to begin with."""
    if request.source is not None:
        size = request.source.size
        if request.place is not None or request.repaint or size is None:
            return True
        return height * spec.factor <= 2 * size[1] and width * spec.factor <= 2 * size[0]
    if atlas is None:
        return max(height, width) <= 2 * spec.window
    shrink = 1 << (levels - 1)
    longest: int = max(max(face.box.height, face.box.width) for face in atlas.faces)
    return longest // shrink <= 2 * spec.window


def _smallest(coarse: tuple[int, int], atlas: Atlas | None, halvings: int) -> int:
    """The shortest side of what is painted at this size; 0 where the faces of an atlas cannot be halved so often."""
    if atlas is None:
        return min(coarse)
    shrink = 1 << halvings
    if any(edge % shrink for face in atlas.faces for edge in face.box):
        return 0
    shortest: int = min(min(face.box.height, face.box.width) for face in atlas.faces)
    return shortest // shrink


def _voices(request: RenderRequest, spec: ModelSpec, guidance: float, index: int, levels: int) -> tuple[Voice, ...]:
    base = Voice(_with_zoom(request.prompt, spec, index, levels), request.negative, guidance)
    return (
        base,
        *(
            Voice(
                _with_zoom(region.prompt, spec, index, levels),
                request.negative if region.negative is None else region.negative,
                guidance if region.guidance is None else region.guidance,
            )
            for region in request.regions
        ),
    )


def _with_zoom(prompt: str, spec: ModelSpec, index: int, levels: int) -> str:
    """The prompt with the words for the level's zoom, unless the user named a zoom and there is one level only.

    A picture of one level is shown at the last zoom but one, and the more levels it has the farther out it starts."""
    if not spec.zooms or (levels == 1 and any(zoom.phrase in prompt for zoom in spec.zooms)):
        return prompt
    last = len(spec.zooms) - 1
    phrase = spec.zooms[min(max(0, last - levels) + index, last)].phrase
    return f"{prompt}, {phrase}" if prompt else phrase
