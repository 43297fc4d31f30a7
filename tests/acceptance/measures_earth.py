"""What a satellite picture shows, block by block: a regressor fitted on the real Earth where terra was trained, and its
error where it was not. Ground is one of `GROUNDS`. Needs the maps of raytile[train]."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.acceptance.measures import Floats

GROUNDS = ("water", "ice", "desert", "forest", "grass")
BLOCK = 16
"""Pixels of a block's side."""
ZOOMS = (0, 1)
"""The two finest, "close view" and "region", are what large pictures are painted in: 4320 and 2160 pixels go round."""


def earth(style: str = "satellite", zoom: int = 0) -> NDArray[np.uint8]:
    """The real thing, [2160, 4320, 3] at the finest zoom."""
    found: NDArray[np.uint8] = _world().maps[style][zoom]
    return found


def earth_land() -> NDArray[np.uint8]:
    """Its land mask, [2160, 4320]: white is land."""
    found: NDArray[np.uint8] = _world().land[0]
    return found


@cache
def real_grounds(zoom: int) -> NDArray[np.int64]:
    """Of each block of the real Earth what it is: land from the mask, then as captions are written (from a smaller
    picture, so that it is not what the regressor sees)."""
    from raytile.train.crops import look

    world = _world()
    side = BLOCK << zoom  # on the finest map, whose coordinates `look` takes
    rows, columns = (side * (np.arange(n // side) + 0.5) for n in (2160, 4320))
    found = np.zeros((len(rows), len(columns)), dtype=np.int64)
    near = side * np.array([-0.375, -0.125, 0.125, 0.375], dtype=np.float32)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            y, x = np.meshgrid(row + near, column + near, indexing="ij")
            sight = look(world, "satellite", 0, y.astype(np.float32), x.astype(np.float32))
            shares = [getattr(sight, name) for name in GROUNDS[1:]]
            found[i, j] = 0 if sight.land < 0.5 else 1 + int(np.argmax(shares))
    return found


def features(picture: Floats) -> Floats:
    """[rows, columns, features] of the blocks of a picture: mean colour, its deviations, and squares and products."""
    height, width = (n // BLOCK * BLOCK for n in picture.shape[:2])
    blocks = picture[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
    mean, spread = blocks.mean((1, 3)), blocks.std((1, 3))
    first = np.concatenate([mean, spread], axis=-1)
    second = (first[..., :, None] * first[..., None, :])[..., *np.triu_indices(6)]
    return np.concatenate([np.ones((*mean.shape[:2], 1)), first, second], axis=-1)


@dataclass(frozen=True)
class Regressor:
    """Multinomial logistic regression; `recall`: of each ground, the share of held-out blocks named right."""

    weights: Floats
    scale: tuple[Floats, Floats]
    recall: dict[str, float]

    def scores(self, found: Floats) -> Floats:
        mean, spread = self.scale
        return np.asarray(((found - mean) / spread) @ self.weights)

    def grounds(self, picture: Floats) -> NDArray[np.int64]:
        """[rows, columns] of blocks: index into `GROUNDS`. Pictures are in [0, 1]."""
        return np.asarray(self.scores(features(picture)).argmax(-1))


@cache
def regressor() -> Regressor:
    """Fitted on longitudes that terra was trained on, judged on those that were held out; grounds weigh alike."""
    import torch

    every = [_blocks(zoom) for zoom in ZOOMS]
    found, labels, unseen = (np.concatenate(each) for each in zip(*every, strict=True))
    mean, spread = found[~unseen].mean(0), found[~unseen].std(0)
    mean[0], spread[0] = 0.0, 1.0
    x, y = torch.from_numpy((found[~unseen] - mean) / spread), torch.from_numpy(labels[~unseen])
    alike = 1.0 / torch.bincount(y, minlength=len(GROUNDS))
    weights = torch.zeros(x.shape[1], len(GROUNDS), dtype=torch.float64, requires_grad=True)
    fit = torch.optim.LBFGS([weights], max_iter=150, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> float:
        fit.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weights, y, alike.double()) + 1e-4 * (weights**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch left it without types
        return float(loss.detach())

    fit.step(closure)  # type: ignore[no-untyped-call]  # torch left it without types
    fitted = Regressor(weights.detach().numpy(), (mean, spread), {})
    guessed = fitted.scores(found[unseen]).argmax(-1)
    recall = {name: round(float((guessed == k)[labels[unseen] == k].mean()), 3) for k, name in enumerate(GROUNDS)}
    return Regressor(fitted.weights, fitted.scale, recall)


def land(picture: Floats) -> Floats:
    """[rows, columns] of blocks: 1.0 where a satellite picture shows land or ice."""
    return np.where(regressor().grounds(picture) != 0, 1.0, 0.0)


def among_islands(ground: NDArray[np.int64], reach: int = 8) -> NDArray[np.bool_]:
    """Blocks that lie among islands: of the 2 reach + 1 blocks around, some are land and more are water."""
    share: Floats = (ground != 0).astype(np.float64)
    for axis in (0, 1):
        share = np.mean([np.roll(share, by, axis) for by in range(-reach, reach + 1)], axis=0)
    return np.asarray((share > 0.02) & (share < 0.5))


def real_shares(at_least: float = 0.5) -> dict[str, float]:
    """The ceiling of obedience: of real held-out squares of 256 pixels that hold mostly a ground (by the labels), the
    mean share of its area that the regressor says is it; for islands, of squares captioned as islands."""
    from raytile.train.crops import look, plain_grid

    found: dict[str, list[float]] = {name: [] for name in (*GROUNDS, "islands")}
    side = 256 // BLOCK
    for zoom in ZOOMS:
        labels, unseen = real_grounds(zoom), _unseen(zoom)
        guessed = regressor().grounds(earth(zoom=zoom) / 255.0)
        islands, scale = among_islands(guessed), 1 << zoom
        for top in range(0, labels.shape[0] - side + 1, side // 2):
            for left in range(0, labels.shape[1] - side + 1, side // 2):
                window = np.s_[top : top + side, left : left + side]
                if not unseen[window].any():
                    continue
                for k, name in enumerate(GROUNDS):
                    inside = labels[window] == k
                    if inside.mean() >= (0.97 if name == "water" else at_least):
                        found[name].append(float((guessed[window] == k)[inside].mean()))
                y, x = (scale * coordinate[2::4, 2::4] for coordinate in plain_grid(1))
                middle = (scale * BLOCK * (edge + side / 2) for edge in (top, left))
                sight = look(_world(), "satellite", zoom, y + next(middle), x + next(middle))
                if 0.03 <= sight.land < 0.45 and sight.shore > 3.0 + 6.0 * sight.land:
                    found["islands"].append(float(islands[window].mean()))
    return {name: round(float(np.mean(shares)), 3) for name, shares in found.items() if shares}


def _blocks(zoom: int) -> tuple[Floats, NDArray[np.int64], NDArray[np.bool_]]:
    """Features, labels and whether they are held out, of all blocks of the Earth."""
    labels = real_grounds(zoom)
    rows, columns = labels.shape
    found = features(earth(zoom=zoom) / 255.0)[:rows, :columns]
    return found.reshape(labels.size, -1), labels.ravel(), _unseen(zoom).ravel()


def _unseen(zoom: int) -> NDArray[np.bool_]:
    from raytile.train.world import held_out

    rows, columns = real_grounds(zoom).shape
    east = (np.arange(columns) + 0.5) * 360 / columns - 180
    return np.broadcast_to(held_out(east.astype(np.float32)), (rows, columns))


@cache
def _world() -> Any:
    from raytile.train.state import DEFAULT_STATE
    from raytile.train.world import load_world

    return load_world(DEFAULT_STATE)
