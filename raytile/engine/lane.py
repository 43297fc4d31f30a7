"""A worker's part in the lane of thinned-out windows: its cells go to who predicts them, predictions come back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from raytile.engine.held import Held, gather
from raytile.engine.messages import Flat, pack
from raytile.engine.predictor import Predictor
from raytile.geometry.tiling import Tiling
from raytile.plan.cascade import blur, dilated_weight
from raytile.plan.phases import thin_route
from raytile.plan.plan import Plan
from raytile.plan.route import Partition
from raytile.plan.thin import STATS, Comb
from raytile.sync.dilate import Spread, gaussian, merge, renormalise


class Lane:
    """The lane of `worker` at one step: its tiles filtered, the spread of all tiles, what its windows predict."""

    def __init__(self, plan: Plan, worker: int, partition: Partition, level: int, step: int) -> None:
        self.plan, self.worker, self.level, self.step = plan, worker, level, step
        self.route = thin_route(plan, partition, level, step)
        self.stride = 2**level
        self._tiling: Tiling = plan.levels[level].tiling
        self._own = partition.tiles(self._tiling, worker)
        self._filtered: dict[int, Tensor] = {}
        self._spreads: dict[int, tuple[Spread, Spread]] = {}
        self._told: dict[int, Flat] = {}
        self.predictions: dict[int, Tensor] = {}

    def ask(self, cells: Mapping[int, Held]) -> list[Flat]:
        """Filter my tiles, whose surroundings are in `cells`. Returns what predictors want of them."""
        held = {tile: (cell,) for tile, cell in cells.items()}
        radius = self.stride - 1
        for tile in self._own:
            core = self._tiling.core(tile)
            patch, top, left = self._tiling.around(tile, radius)
            below, right = radius - (patch.height - top - core.height), radius - (patch.width - left - core.width)
            whole = gather(patch, held, self.plan.spec.channels)
            edges = (radius - left, right, radius - top, below)
            whole = F.pad(whole[None], edges, mode="replicate")[0] if any(edges) else whole
            self._filtered[tile] = gaussian(whole, blur(self.step, self.plan.steps), radius)
            self._spreads[tile] = Spread.of(cells[tile].cut(core)), Spread.of(self._filtered[tile])
        told = torch.tensor([number for tile in self._own for number in _numbers(self._spreads[tile])])
        return [
            pack([told, *(self._teeth(comb) for _, comb in self.route.asks(*pair))])
            for pair in self.route.ask_pairs
            if pair[0] == self.worker
        ]

    def predict(self, predictor: Predictor, partition: Partition, messages: Sequence[Flat]) -> None:
        """Predict my windows from my own cells and those that others sent."""
        size, channels = self.plan.spec.window, self.plan.spec.channels
        mine = self.route.predicts(self.worker)
        if not mine:
            return
        x = {window: torch.full((channels, size, size), torch.nan) for window in mine}
        for window, comb in self.route.asks(self.worker, self.worker):
            _put(x[window], comb, self._teeth(comb))
        senders = [owner for owner, reader in self.route.ask_pairs if reader == self.worker]
        for owner, message in zip(senders, messages, strict=True):
            tiles = partition.tiles(self._tiling, owner)
            at = STATS * len(tiles)
            for tile, values in zip(tiles, message[:at].reshape(-1, STATS).tolist(), strict=True):
                count = self._tiling.core(tile).area * channels
                self._spreads[tile] = Spread(count, *values[:2]), Spread(count, *values[2:])
            for window, comb, part in self._parts(message[at:], self.route.asks(owner, self.worker)):
                _put(x[window], comb, part)
        wanted, own = (merge(spread[kind] for _, spread in sorted(self._spreads.items())) for kind in (0, 1))
        shown = {window: renormalise(values, own, wanted) for window, values in x.items()}
        self.predictions = predictor.plain(self.level, self.step, shown)

    def tell(self, holder: int) -> Flat:
        """What I tell `holder` of its cells."""
        entries = self.route.says(self.worker, holder)
        return pack(_take(self.predictions[window], comb) for window, comb in entries)

    def hear(self, sender: int, message: Flat) -> None:
        """What `sender` tells me."""
        self._told[sender] = message

    def mixed(self, tile: int, held: Held, fused: Tensor) -> Tensor:
        """`fused` predictions of a tile, and what the lane says of its cells, by the share that it has at this step."""
        share = dilated_weight(self.step, self.plan.steps)
        return fused * (1 - share) + self._fused(held, self._said[tile]) * share

    @cached_property
    def _said(self) -> dict[int, list[tuple[int, Comb, Tensor]]]:
        """What I and others said of each tile."""
        found: dict[int, list[tuple[int, Comb, Tensor]]] = defaultdict(list)
        for window, comb in self.route.says(self.worker, self.worker):
            found[comb.tile].append((window, comb, _take(self.predictions[window], comb)))
        for sender, message in self._told.items():
            for window, comb, values in self._parts(message, self.route.says(sender, self.worker)):
                found[comb.tile].append((window, comb, values))
        return found

    def _parts(self, message: Flat, entries: Sequence[tuple[int, Comb]]) -> Iterator[tuple[int, Comb, Tensor]]:
        at, channels = 0, self.plan.spec.channels
        for window, comb in entries:
            size = comb.ny * comb.nx * channels
            yield window, comb, torch.from_numpy(message[at : at + size].copy()).view(channels, comb.ny, comb.nx)
            at += size
        if at != message.size:
            raise ValueError(f"message holds {message.size} numbers where the route says {at}")

    def _fused(self, held: Held, entries: Sequence[tuple[int, Comb, Tensor]]) -> Tensor:
        """The mean of what the windows of the lane say of the cells of `held`, in the order of windows."""
        total, count = torch.zeros_like(held.x), torch.zeros(held.x.shape[1:])
        for _, comb, values in sorted(entries, key=lambda entry: (entry[0], entry[1].down, entry[1].right)):
            y, x = comb.y - held.box.y0, comb.x - held.box.x0
            rows = slice(y, y + self.stride * (comb.ny - 1) + 1, self.stride)
            columns = slice(x, x + self.stride * (comb.nx - 1) + 1, self.stride)
            total[:, rows, columns] += values
            count[rows, columns] += 1
        return total / count

    def _teeth(self, comb: Comb) -> Tensor:
        core = self._tiling.core(comb.tile)
        found = self._filtered[comb.tile][:, comb.y - core.y0 :: self.stride, comb.x - core.x0 :: self.stride]
        return found[:, : comb.ny, : comb.nx]


def _numbers(spreads: tuple[Spread, Spread]) -> tuple[float, ...]:
    own, filtered = spreads
    return own.mean, own.variance, filtered.mean, filtered.variance


def _put(window: Tensor, comb: Comb, values: Tensor) -> None:
    window[:, comb.down : comb.down + comb.ny, comb.right : comb.right + comb.nx] = values


def _take(window: Tensor, comb: Comb) -> Tensor:
    return window[:, comb.down : comb.down + comb.ny, comb.right : comb.right + comb.nx]
