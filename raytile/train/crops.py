"""Augmented training crops of the denoiser, with what is to be seen in them (for captions)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from raytile.train.world import HEIGHT, SCALES, STYLES, WIDTH, Reals, World, held_out

SIZE = 256
"""Pixels of a crop's side: one window of 32 latent cells."""
ZOOM_SHARES = (0.34, 0.28, 0.2, 0.18)
SATELLITE_SHARE = 0.6
CELL = 8
MOST_TRIES = 120
KINDS = ("sea", "coast", "mountain", "forest", "desert", "ice", "plain")
WANTED = (0.06, 0.28, 0.17, 0.16, 0.15, 0.10, 0.08)
"""Shares of kinds in a bank: the kind is drawn first, then places until one of that kind turns up."""


@dataclass(frozen=True)
class Sight:
    """What a crop shows, as shares of its area (land classes: of its land)."""

    style: str
    level: int
    land: float
    ice: float
    desert: float
    forest: float
    grass: float
    mountain: float
    shore: float
    """Length of shoreline, in crop sides."""
    latitude: float
    """Degrees of the crop's middle, without sign."""


@dataclass(frozen=True)
class Crop:
    """Pixels [256, 256, 3], what they show, which of the 32x32 cells may be trained on, where land is [256, 256]."""

    pixels: NDArray[np.uint8]
    sight: Sight
    trainable: NDArray[np.bool_]
    land: NDArray[np.bool_]


def sight_kind(sight: Sight) -> str:
    """The kind a crop is balanced under."""
    if sight.land < 0.03:
        return "sea"
    if sight.land < 0.75 and sight.shore > 0.8:
        return "coast"
    if sight.mountain > 0.4:
        return "mountain"
    shares = {"ice": sight.ice, "desert": sight.desert, "forest": sight.forest}
    best = max(shares, key=lambda kind: shares[kind])
    return best if shares[best] > 0.5 else "plain"


def draw_crop(world: World, seed: int, index: int) -> Crop:
    """Crop number `index` of a bank: a function of (seed, index) alone."""
    rng = np.random.default_rng((seed, index))
    style = STYLES[0] if rng.random() < SATELLITE_SHARE else STYLES[1]
    level = int(rng.choice(len(SCALES), p=ZOOM_SHARES))
    wanted = str(rng.choice(KINDS, p=WANTED))
    for attempt in range(MOST_TRIES):
        view = draw_view(rng, style, level)
        rows, columns = view.source(*plain_grid(CELL))
        if level < 2 and not trainable_cells(columns).all():
            continue
        kind = sight_kind(look(world, style, level, rows, columns))
        if level == 3 or kind == wanted or (attempt > MOST_TRIES // 2 and kind != "sea"):
            break
    y, x = plain_grid(1)
    spacing, wobble = (48, rng.uniform(8.0, 14.0)) if level < 2 else (32, rng.uniform(7.0, 11.0))
    rows, columns = view.source(y + wobble * smooth_noise(rng, spacing), x + wobble * smooth_noise(rng, spacing))
    pixels = tone(rng, sample(world.maps[style][level], rows, columns, level))
    sight = look(world, style, level, rows[2::4, 2::4], columns[2::4, 2::4])
    land = sample(world.land[level][..., None], rows, columns, level)[..., 0] > 127.5
    return Crop(pixels, sight, trainable_cells(columns[CELL // 2 :: CELL, CELL // 2 :: CELL]), land)


def plain_grid(step: int) -> tuple[Reals, Reals]:
    """Places (y, x) of every `step`-th pixel of a crop, from its middle."""
    along = np.arange(step // 2, SIZE, step, dtype=np.float32) - (SIZE - 1) / 2
    y, x = np.meshgrid(along, along, indexing="ij")
    return y, x


def trainable_cells(columns: Reals) -> NDArray[np.bool_]:
    """Where a longitude, given as a column of the finest map, is not held out."""
    return ~held_out((columns * (360.0 / WIDTH) - 180.0).astype(np.float32))


@dataclass(frozen=True)
class View:
    """Where a crop looks. Never mirrored but for satellite pictures of the whole planet, where no shading is
    to be seen; transposed for half, which keeps light from the north-west. The whole planet is seen with its
    globe turned by `tilt` about a horizontal axis: another planet each time."""

    row: float
    column: float
    scale: float
    """Pixels of the finest map a crop pixel covers."""
    angle: float
    transposed: bool
    mirrored: bool
    tilt: float | None
    turn: float

    def source(self, y: Reals, x: Reals) -> tuple[Reals, Reals]:
        """Coordinates (row, column) on the finest map of places in the crop; columns may run past its ends."""
        y, x = (
            np.cos(self.angle) * y - np.sin(self.angle) * x,
            np.sin(self.angle) * y + np.cos(self.angle) * x,
        )
        if self.transposed:
            y, x = x, y
        if self.mirrored:
            x = -x
        rows, columns = self.row + self.scale * y, self.column + self.scale * x
        if self.tilt is not None:
            latitude = np.pi * (0.5 - rows / HEIGHT)
            longitude = 2 * np.pi * columns / WIDTH
            east, north = np.cos(latitude) * np.sin(longitude), np.sin(latitude)
            front = np.cos(latitude) * np.cos(longitude)
            cosine, sine = np.cos(self.tilt), np.sin(self.tilt)
            front, north = cosine * front - sine * north, sine * front + cosine * north
            rows = HEIGHT * (0.5 - np.arcsin(np.clip(north, -1, 1)) / np.pi)
            columns = WIDTH * np.arctan2(east, front) / (2 * np.pi) + self.turn
        return rows.astype(np.float32), columns.astype(np.float32)


def draw_view(rng: np.random.Generator, style: str, level: int) -> View:
    """A random view at a zoom level, uniform in area on the sphere."""
    whole = level == 3
    stretch = rng.uniform(0.72, 1.02) if whole else np.exp(rng.uniform(np.log(0.75), np.log(1.33)))
    scale = float(stretch / SCALES[level])
    reach = min(HEIGHT / 2, scale * SIZE * (0.5 if whole else 0.56))
    while True:
        row = float(rng.uniform(reach, HEIGHT - reach))
        if whole or rng.random() < np.cos(np.pi * (0.5 - row / HEIGHT)):
            break
    return View(
        row=row,
        column=float(rng.uniform(0, WIDTH)),
        scale=scale,
        angle=float(np.radians(rng.uniform(-10.0, 10.0))),
        transposed=bool(rng.random() < 0.5) and not whole,
        mirrored=bool(rng.random() < 0.5) and whole and style == "satellite",
        tilt=float(np.radians(rng.uniform(-24.0, 24.0))) if whole else None,
        turn=float(rng.uniform(0, WIDTH)),
    )


def smooth_noise(rng: np.random.Generator, spacing: int) -> Reals:
    """Noise [256, 256] of deviation about 0.5 that changes over some `spacing` pixels."""
    knots = SIZE // spacing + 4
    coarse = torch.from_numpy(rng.standard_normal((1, 1, knots, knots)).astype(np.float32))
    fine = F.interpolate(coarse, size=(knots * spacing,) * 2, mode="bicubic", align_corners=False)
    cut = fine[0, 0, spacing : spacing + SIZE, spacing : spacing + SIZE]
    return np.asarray(0.5 * cut.numpy(), dtype=np.float32)


def sample(picture: NDArray[np.uint8], rows: Reals, columns: Reals, level: int) -> Reals:
    """Bicubic values [h, w, channels] of a map at coordinates of the finest map; wraps in x, clamps in y."""
    at_row, at_column = rows * SCALES[level] - 0.5, columns * SCALES[level] - 0.5
    height, width = picture.shape[:2]
    y0, x0 = np.floor(at_row).astype(np.int64), np.floor(at_column).astype(np.int64)
    y_weights, x_weights = cubic(at_row - y0), cubic(at_column - x0)
    total = np.zeros((*rows.shape, picture.shape[2]), dtype=np.float32)
    for i in range(4):
        lines = np.clip(y0 + i - 1, 0, height - 1) * width
        part = np.zeros_like(total)
        for j in range(4):
            flat = picture.reshape(-1, picture.shape[2])[lines + np.mod(x0 + j - 1, width)]
            part += x_weights[j][..., None] * flat
        total += y_weights[i][..., None] * part
    return total


def cubic(t: Reals) -> tuple[Reals, ...]:
    """Catmull-Rom weights of the four neighbours at fraction t."""
    t = t.astype(np.float32)
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


def tone(rng: np.random.Generator, pixels: Reals) -> NDArray[np.uint8]:
    """Saturation and gamma changed by up to 6 %."""
    unit = np.clip(pixels, 0.0, 255.0) / 255.0
    grey = unit.mean(-1, keepdims=True)
    unit = np.clip(grey + rng.uniform(0.94, 1.06) * (unit - grey), 0.0, 1.0) ** rng.uniform(0.94, 1.06)
    return np.asarray(np.rint(255.0 * unit), dtype=np.uint8)


def look(world: World, style: str, level: int, rows: Reals, columns: Reals) -> Sight:
    """Judge a crop by Blue Marble's colours, the land mask and the height map, on a square grid of places."""

    def nearest(picture: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
        y = np.clip((rows * scale).astype(np.int64), 0, picture.shape[0] - 1)
        return picture[y, np.mod((columns * scale).astype(np.int64), picture.shape[1])]

    land = nearest(world.land[level], SCALES[level]) > 127
    colour = nearest(world.maps["satellite"][max(level, 2)], SCALES[max(level, 2)]).astype(np.float32)
    high = nearest(world.height, SCALES[2]) > 90
    light = colour.mean(-1)
    ice = land & (colour.min(-1) > 150)
    desert = land & ~ice & (colour[..., 0] - colour[..., 2] > 38) & (light > 82)
    forest = land & ~ice & (light < 56)
    area = max(1, int(land.sum()))
    edges = int((land[1:] != land[:-1]).sum() + (land[:, 1:] != land[:, :-1]).sum())
    middle = float(rows[len(rows) // 2, len(rows) // 2])
    return Sight(
        style=style,
        level=level,
        land=float(land.mean()),
        ice=float(ice.sum() / area),
        desert=float(desert.sum() / area),
        forest=float(forest.sum() / area),
        grass=float((land & ~ice & ~desert & ~forest).sum() / area),
        mountain=float((high & land).sum() / area),
        shore=edges / land.shape[0],
        latitude=abs(90.0 - 180.0 * middle / HEIGHT),
    )
