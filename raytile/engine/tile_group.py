"""A worker's part of a render: its tiles' latents and one phase at a time. Knows no Ray, no processes, no clock.

Each call takes the messages that the route says it needs, in the order of their senders, and returns the messages for
others, in the order of their receivers. Calls come in the order of the plan's phases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from raytile.engine.messages import Flat, pack, unpack
from raytile.errors import RaytileError
from raytile.events import Counts
from raytile.geometry.box import Box
from raytile.geometry.tiling import Patch, Piece
from raytile.models.base import Module
from raytile.plan import noise
from raytile.plan.phases import Phase, phases, reads_before, route
from raytile.plan.plan import Plan
from raytile.plan.route import Partition, Reads, Route
from raytile.plan.upsample import coarse_patch
from raytile.plan.windows import Windows
from raytile.sampling import SAMPLERS, Memory, needs_noise, renoise, scale_input, start
from raytile.sync.fuse import Contribution, fuse, guide, profile
from raytile.sync.upsample import upsample

if TYPE_CHECKING:
    from raytile.models.base import Conditioning

T = TypeVar("T")


class TileGroup:
    """The tiles of `worker` under `partition`: their latents, the sampler's memory of them, and the module."""

    def __init__(self, plan: Plan, module: Module, partition: Partition, worker: int) -> None:
        self.plan, self.module, self.partition, self.worker = plan, module, partition, worker
        self._rows = self._rows_padded = self._bytes_received = 0
        self.schedule = module.schedule(plan.sampler, plan.steps)
        texts = list(dict.fromkeys([level.prompt for level in plan.levels] + [plan.request.negative]))
        self._conditioning = dict(zip(texts, module.encode_prompts(texts), strict=True))
        line = profile(plan.weights, plan.spec.window)
        self._weights = None if line is None else torch.outer(line, line)
        self._course = iter(phases(plan))
        self._phase = next(self._course)
        self.tiles: dict[int, Tensor] = {}
        self._memory: dict[int, Memory] = {}
        self._foreign: dict[int, Tensor] = {}
        self._predictions: dict[int, Tensor] = {}

    # -- phases -----------------------------------------------------------------------------------------------

    def begin(self, level: int, *messages: Flat) -> list[Flat]:
        """Start a level: its first latents, from noise or from the level before. Returns bands for its first step."""
        self._expect(Phase("begin", level, self.plan.levels[level].first_step))
        old = self.tiles
        if level:
            self._receive(self._reads(), messages, level - 1)
        tiling = self.plan.levels[level].tiling
        fresh: dict[int, Tensor] = {}
        for tile in self.partition.tiles(tiling, self.worker):
            core = tiling.core(tile)
            unit = self._noise("start", level, 0, core)
            if level == 0:
                fresh[tile] = start(unit, self.schedule)
                continue
            patch, rows, columns = coarse_patch(self.plan.levels[level - 1].tiling, tiling, tile)
            clean = upsample(self._gather(patch, old, level - 1), rows, columns)
            fresh[tile] = renoise(clean, unit, self.plan.levels[level].first_step, self.schedule)
        self.tiles = fresh
        self._memory = dict.fromkeys(fresh, ())
        return self._advance(level)

    def interior(self, level: int, step: int) -> int:
        """Predict windows that need nobody's bands, whole micro-batches of them. Returns how many windows."""
        self._expect(Phase("step", level, step))
        ready = self._route.interior[self.worker]
        rows = self.plan.rows(step)
        if self._route.sources(self.worker):
            # What would not fill a batch waits for the boundary's windows, so that a step pads at most once.
            ready = ready[: len(ready) * rows // self.plan.micro_batch * self.plan.micro_batch // rows]
        self._predict(level, step, ready)
        return len(ready)

    def boundary(self, level: int, step: int, *bands: Flat) -> list[Flat]:
        """Predict the rest. Returns the predictions on cells that others own."""
        self._expect(Phase("step", level, step))
        route = self._route
        self._receive(route.reads, bands, level)
        todo = [w for w in route.predicts[self.worker] if w not in self._predictions]
        self._predict(level, step, todo)
        return [
            pack(self._given(window, piece) for window, piece in route.gives[self.worker, owner])
            for owner in route.owners_of(self.worker)
        ]

    def finish(self, level: int, step: int, *predictions: Flat) -> list[Flat]:
        """Fuse, and update my cells. Returns what the next phase's readers want."""
        self._expect(Phase("step", level, step))
        tiling = self.plan.levels[level].tiling
        said = self._contributions(self.plan.windows(level, step), predictions)
        update = SAMPLERS[self.plan.sampler]
        for tile, x in self.tiles.items():
            core = tiling.core(tile)
            in_order = (c for _, c in sorted(said[tile], key=lambda entry: entry[0]))
            fused = fuse(core, self.plan.spec.channels, in_order)
            noisy = self._noise("ancestral", level, step, core) if needs_noise(self.schedule, step) else None
            self.tiles[tile], self._memory[tile] = update(x, fused, step, self._memory[tile], self.schedule, noisy)
        self._predictions = {}
        return self._advance(level)

    def halos(self, *messages: Flat) -> None:
        """Receive what decoding my tiles reads of others'."""
        last = len(self.plan.levels) - 1
        self._expect(Phase("decode", last, self.plan.steps))
        self._receive(self._reads(), messages, last)

    def decode(self, tile: int) -> Tensor:
        """Pixels [3, h, w] in [-1, 1] of one of my tiles, as a whole decode would give them within the halo."""
        tiling, factor = self.plan.tiling, self.plan.spec.factor
        core = tiling.core(tile)
        patch, top, left = tiling.around(tile, self.plan.spec.decode_halo)
        pixels = self.module.decode(self._gather(patch, self.tiles, len(self.plan.levels) - 1))
        rows = slice(top * factor, (top + core.height) * factor)
        columns = slice(left * factor, (left + core.width) * factor)
        return pixels[:, rows, columns]

    def counts(self) -> Counts:
        """What this group did and received so far."""
        return Counts(rows=self._rows, rows_padded=self._rows_padded, bytes_received=self._bytes_received)

    # -- what phases are made of --------------------------------------------------------------------------------

    @property
    def _route(self) -> Route:
        return route(self.plan, self.partition, self._phase.level, self._phase.step)

    def _reads(self) -> Reads:
        return reads_before(self.plan, self.partition, self._phase)

    def _expect(self, phase: Phase) -> None:
        if phase != self._phase:
            raise RaytileError(f"worker {self.worker} is at {self._phase} and was asked for {phase}")

    def _advance(self, level: int) -> list[Flat]:
        """Go on to the next phase and pack what its readers want of my tiles, which are of `level`."""
        self._phase = next(self._course)
        self._foreign = {}
        tiling, reads = self.plan.levels[level].tiling, self._reads()
        return [
            pack(_cut(self.tiles[p.tile], tiling.core(p.tile), p.box) for p in pieces)
            for (sender, _), pieces in sorted(reads.items())
            if sender == self.worker
        ]

    def _noise(self, purpose: str, level: int, step: int, box: Box) -> Tensor:
        key = noise.key(self.plan.request.seed, level, purpose, step)
        return torch.from_numpy(noise.normal(key, box, self.plan.spec.channels))

    def _receive(self, reads: Reads, messages: Sequence[Flat], level: int) -> None:
        """Lay out the cells that others sent; cells nobody sent are NaN, so that a wrong route cannot pass."""
        mine = [pieces for (_, reader), pieces in sorted(reads.items()) if reader == self.worker]
        self._foreign = {}
        for message, pieces in self._counted(messages, mine):
            for piece, values in unpack(message, pieces, self.plan.spec.channels):
                core = self.plan.levels[level].tiling.core(piece.tile)
                if piece.tile not in self._foreign:
                    blank = torch.full((self.plan.spec.channels, core.height, core.width), torch.nan)
                    self._foreign[piece.tile] = blank
                _cut(self._foreign[piece.tile], core, piece.box).copy_(values)

    def _counted(self, messages: Sequence[Flat], expected: Sequence[T]) -> Iterable[tuple[Flat, T]]:
        for message, what in zip(messages, expected, strict=True):
            self._bytes_received += message.nbytes
            yield message, what

    def _gather(self, patch: Patch, own: dict[int, Tensor], level: int) -> Tensor:
        """The cells of `patch` [channels, height, width], from own tiles and from what was received."""
        tiling = self.plan.levels[level].tiling
        result = torch.empty(self.plan.spec.channels, patch.height, patch.width)
        for tile, box, y, x in patch.pieces():
            held = own[tile] if tile in own else self._foreign[tile]
            result[:, y : y + box.height, x : x + box.width] = _cut(held, tiling.core(tile), box)
        return result

    def _predict(self, level: int, step: int, windows: Sequence[int]) -> None:
        """Run the network on `windows` in micro-batches of the plan's size, the last one padded."""
        plan, grid = self.plan, self.plan.windows(level, step)
        positive = self._conditioning[plan.levels[level].prompt]
        each = [self._conditioning[plan.request.negative], positive] if plan.guided[step] else [positive]
        before = self.module.rows_evaluated()
        outputs: list[Tensor] = []
        rows = [(window, words) for window in windows for words in each]
        for first in range(0, len(rows), plan.micro_batch):
            batch = rows[first : first + plan.micro_batch]
            x = torch.stack([self._gather(grid.reads(w), self.tiles, level) for w, _ in batch])
            shown = scale_input(x, step, self.schedule)
            spare = plan.micro_batch - len(batch)
            shown = torch.cat([shown, shown[-1:].expand(spare, -1, -1, -1)])
            words: list[Conditioning] = [words for _, words in batch] + [batch[-1][1]] * spare
            output = self.module.predict(shown, self.schedule.timesteps[step], words)
            outputs += output[: len(batch)].unbind()
            self._rows_padded += spare
        for number, window in enumerate(windows):
            said = outputs[number * len(each) : (number + 1) * len(each)]
            self._predictions[window] = guide(said[0], said[1], plan.guidance) if len(each) == 2 else said[0]
        self._rows += self.module.rows_evaluated() - before

    def _given(self, window: int, piece: Piece) -> Tensor:
        y, x = piece.y, piece.x
        return self._predictions[window][:, y : y + piece.box.height, x : x + piece.box.width]

    def _contributions(
        self, grid: Windows, messages: Sequence[Flat]
    ) -> dict[int, list[tuple[tuple[int, int, int], Contribution]]]:
        """What is said about each of my tiles, each entry with (window, y, x) to sort by."""
        said: dict[int, list[tuple[tuple[int, int, int], Contribution]]] = defaultdict(list)

        def add(window: int, piece: Piece, values: Tensor) -> None:
            y, x = piece.y, piece.x
            weights = self._weights
            if weights is not None:
                weights = weights[y : y + piece.box.height, x : x + piece.box.width]
            said[piece.tile].append(((window, y, x), Contribution(piece.box, values, weights)))

        for window in self._route.predicts[self.worker]:
            for piece in grid.gives(window).pieces():
                if piece.tile in self.tiles:
                    add(window, piece, self._given(window, piece))
        gives = self._route.gives
        mine = [gives[sender, self.worker] for sender in self._route.predictors_for(self.worker)]
        for message, entries in self._counted(messages, mine):
            parts = unpack(message, (piece for _, piece in entries), self.plan.spec.channels)
            for (window, _), (piece, values) in zip(entries, parts, strict=True):
                add(window, piece, values)
        return said


def _cut(tile: Tensor, core: Box, box: Box) -> Tensor:
    """A view of the cells of `box` (canvas coordinates) in a tile's tensor."""
    return tile[:, box.y0 - core.y0 : box.y1 - core.y0, box.x0 - core.x0 : box.x1 - core.x0]
