"""A worker's part of a render: its tiles' latents and one phase at a time. Knows no Ray, no processes, no clock.

Each call takes the messages that the route says it needs, in the order of their senders, and returns the messages for
others, in the order of their receivers. Calls come in the order of the plan's phases, but that `restore` goes back.
Who owns what is settled by epoch: an epoch begins with `restore`, or with `export` by the members of the one before
and `assume` by its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raytile.engine.messages import Flat, pack, unpack
from raytile.errors import Abandoned, RaytileError
from raytile.events import Counts
from raytile.geometry.box import Box
from raytile.geometry.tiling import Patch, Piece, Tiling
from raytile.models.base import Module
from raytile.plan import noise
from raytile.plan.phases import Phase, early, holdings, moves, phases, reads_before, route
from raytile.plan.plan import Plan
from raytile.plan.route import Partition, Reads
from raytile.plan.upsample import Taps, coarse_patch
from raytile.sampling import SAMPLERS, Memory, needs_noise, renoise, scale_input, start
from raytile.sync.fuse import Contribution, fuse, guide, profile
from raytile.sync.upsample import double, upsample

if TYPE_CHECKING:
    from raytile.models.base import Conditioning

T = TypeVar("T")
Cells = NDArray[np.float32]


@dataclass
class Held:
    """Cells of one tile that this worker keeps up to date: latents [channels, h, w] of `box`, and the sampler's memory.

    `step`: the one they are at the start of."""

    box: Box
    x: Tensor
    memory: Memory
    step: int

    def cut(self, box: Box, of: int = 0) -> Tensor:
        """A view of the cells of `box`, which lies inside: of the latents, or the memory's tensor number `of` - 1."""
        top, left = self.box.y0, self.box.x0
        cells = (self.x, *self.memory)[of]
        return cells[..., box.y0 - top : box.y1 - top, box.x0 - left : box.x1 - left]


Said = dict[int, list[tuple[tuple[int, int, int], Contribution]]]
"""What is said about each tile, every entry with (window, y, x) to sort by."""


class TileGroup:
    """What `worker` holds: its tiles and the halo it reads, latents, sampler's memory, module. `stopped` says between
    micro-batches whether the work is wanted no more."""

    def __init__(self, plan: Plan, module: Module, worker: int, stopped: Callable[[], bool]) -> None:
        self.plan, self.module, self.worker, self._stopped = plan, module, worker, stopped
        self.partition = Partition((worker,))
        self._rows = self._rows_padded = self._bytes_received = 0
        self.schedule = module.schedule(plan.sampler, plan.steps)
        self._doubling = module.doubling()
        texts = list(dict.fromkeys([level.prompt for level in plan.levels] + [plan.request.negative]))
        self._conditioning = dict(zip(texts, module.encode_prompts(texts), strict=True))
        line = profile(plan.weights, plan.spec.window)
        self._weights = None if line is None else torch.outer(line, line)
        self._course = phases(plan)
        self._number = 0
        self._cells: dict[int, Held] = {}
        # By step: what this worker predicted of its windows, until it has been told and taken in.
        self._predictions: dict[int, dict[int, Tensor]] = {}

    @property
    def _phase(self) -> Phase:
        return self._course[self._number]

    # -- epochs --------------------------------------------------------------------------------------------------

    def restore(self, number: int, partition: Partition, stored: Callable[[int], Cells]) -> None:
        """Forget everything and go on from phase `number` as a member of `partition`: from nothing at phase 0, else
        from what was stored of each tile at the start of that phase (see `saved`)."""
        self.partition, self._number, self._cells = partition, number, {}
        self._predictions.clear()
        if number == 0:
            return
        _, level, step = self._phase
        tiling = self.plan.levels[level].tiling
        for tile, box in holdings(self.plan, partition, level).of(self.worker).items():
            whole, cells = tiling.core(tile), torch.from_numpy(stored(tile).copy())
            if cells.shape[1:] != (self.plan.spec.channels, whole.height, whole.width):
                raise RaytileError(f"what was stored of tile {tile} does not fit it: {tuple(cells.shape)}")
            part = Held(whole, cells, (), step).cut(box)
            self._cells[tile] = Held(box, part[0], tuple(part[1:]), step)

    def saved(self) -> dict[int, Cells]:
        """My tiles as they are now, float32 (1 + sampler's memory, channels, h, w). Called after a step, it gives them
        as they were at the step's start: its predictions are not taken in yet."""
        owned = self.partition.tiles(self._tiling(), self.worker)
        return {tile: torch.stack([self._cells[tile].x, *self._cells[tile].memory]).numpy() for tile in owned}

    def export(self, after: Partition, *predictions: Flat) -> list[Flat]:
        """Bring my tiles to the start of the phase to come, and return what those who hold of them in the epoch
        `after` want. From here on I own nothing."""
        kind, level, step = self._phase
        if kind != "step":
            raise RaytileError(f"no epoch ends before {self._phase}")
        if step - 1 in self._predictions:
            self._update(level, step, self._said(level, step - 1, predictions), list(self._cells))
        self._predictions.clear()
        owned = self.partition.tiles(self._tiling(), self.worker)
        self._cells = {tile: self._cells[tile] for tile in owned}
        return self._send(moves(self.plan, self.partition, after, level), everything=True)

    def assume(self, number: int, before: Partition, after: Partition, *messages: Flat) -> None:
        """Begin the epoch `after` at phase `number` with what the owners of the one `before` sent."""
        if self.worker not in before.members:
            self._cells = {}
        self._number = number
        _, level, step = self._phase
        parts = self._receive(moves(self.plan, before, after, level), messages)
        tiling, fresh = self.plan.levels[level].tiling, {}
        for tile, box in holdings(self.plan, after, level).of(self.worker).items():
            patch = tiling.patch(box.y0, box.x0, box.height, box.width)
            count = 1 + len(parts[tile][0].memory)
            x, *memory = (self._gather(patch, parts, of) for of in range(count))
            fresh[tile] = Held(box, x, tuple(memory), step)
        self._cells, self.partition = fresh, after
        self._predictions.clear()

    # -- phases --------------------------------------------------------------------------------------------------

    def begin(self, level: int, *messages: Flat) -> None:
        """Start a level: the first latents of what I hold, from noise, or from the level before and noise."""
        first = self.plan.levels[level].first_step
        self._expect(Phase("begin", level, first))
        before = self._receive(reads_before(self.plan, self.partition, self._phase), messages) if level else {}
        fresh: dict[int, Held] = {}
        for tile, box in holdings(self.plan, self.partition, level).of(self.worker).items():
            unit = self._noise("start", level, 0, box)
            if level == 0:
                x = start(unit, self.schedule)
            else:
                tilings = self.plan.levels[level - 1].tiling, self.plan.levels[level].tiling
                patch, rows, columns = coarse_patch(*tilings, box)
                clean = self._enlarge(self._gather(patch, before), rows, columns)
                x = renoise(clean, unit, first, self.schedule)
            fresh[tile] = Held(box, x, (), first)
        self._cells = fresh
        self._number += 1

    def early(self, level: int, step: int) -> int:
        """Predict the windows of `step` that hang on nobody's predictions of the step before. Returns how many."""
        self._expect(Phase("step", level, step))
        windows = early(self.plan, self.partition, level, step, self.worker)
        if windows:
            heard = route(self.plan, self.partition, level, step - 1).heard[self.worker]
            quiet = [tile for tile in self._cells if tile >= len(heard) or not heard[tile]]
            self._update(level, step, self._said(level, step - 1, None), quiet)
            self._predict(level, step, windows)
        return len(windows)

    def step(self, level: int, step: int, *predictions: Flat) -> list[Flat]:
        """Take in others' predictions of the step before, update what I hold, predict the rest of my windows.

        Returns the predictions on cells that others hold."""
        self._expect(Phase("step", level, step))
        if step - 1 in self._predictions:  # not in the first step of a level or of an epoch
            self._update(level, step, self._said(level, step - 1, predictions), list(self._cells))
            del self._predictions[step - 1]
        this = route(self.plan, self.partition, level, step)
        done = self._predictions.get(step, {})
        self._predict(level, step, [window for window in this.predicts(self.worker) if window not in done])
        self._number += 1
        return [
            pack(_part(self._predictions[step][window], piece) for window, piece in this.gives(*pair))
            for pair in this.pairs
            if pair[0] == self.worker
        ]

    def end(self, level: int, *predictions: Flat) -> list[Flat]:
        """Take in the last predictions of a level. Returns what the next level's readers want of my tiles."""
        self._expect(Phase("end", level, self.plan.steps))
        self._update(level, self.plan.steps, self._said(level, self.plan.steps - 1, predictions), list(self._cells))
        self._predictions.clear()
        # From here on only owners speak for their cells.
        owned = self.partition.tiles(self._tiling(), self.worker)
        self._cells = {tile: self._cells[tile] for tile in owned}
        self._number += 1
        return self._send(reads_before(self.plan, self.partition, self._phase))

    def keep(self) -> dict[int, Cells]:
        """The final latents of my tiles, float32 (channels, h, w)."""
        self._expect(Phase("keep", len(self.plan.levels) - 1, self.plan.steps))
        return {tile: held.x.numpy() for tile, held in self._cells.items()}

    def decode(self, tile: int, read: Callable[[Box], Cells]) -> tuple[Tensor, Tensor]:
        """Pixels [3, h, w] in [-1, 1] of any tile, as a whole decode would give them within the halo, and its final
        latents; `read` gives the cells of a box."""
        tiling, factor = self.plan.tiling, self.plan.spec.factor
        core = tiling.core(tile)
        patch, top, left = tiling.around(tile, self.plan.spec.decode_halo)
        parts = defaultdict(list)
        for piece in patch.pieces():
            parts[piece.tile].append(Held(piece.box, torch.from_numpy(read(piece.box)), (), self.plan.steps))
        cells = self._gather(patch, parts)
        pixels = self.module.decode(cells)
        rows = slice(top * factor, (top + core.height) * factor)
        columns = slice(left * factor, (left + core.width) * factor)
        return pixels[:, rows, columns], cells[:, top : top + core.height, left : left + core.width].contiguous()

    def counts(self) -> Counts:
        """What this group did and received so far."""
        return Counts(rows=self._rows, rows_padded=self._rows_padded, bytes_received=self._bytes_received)

    # -- what phases are made of --------------------------------------------------------------------------------

    def _expect(self, phase: Phase) -> None:
        if phase != self._phase:
            # A call before this one came to nothing, for a reason that its caller knows better.
            raise Abandoned(f"worker {self.worker} is at {self._phase} and was asked for {phase}")

    def _enlarge(self, patch: Tensor, rows: Taps, columns: Taps) -> Tensor:
        return (
            upsample(patch, rows, columns) if self._doubling is None else double(patch, rows, columns, *self._doubling)
        )

    def _noise(self, purpose: str, level: int, step: int, box: Box) -> Tensor:
        key = noise.key(self.plan.request.seed, level, purpose, step)
        return torch.from_numpy(noise.normal(key, box, self.plan.spec.channels))

    def _tiling(self) -> Tiling:
        return self.plan.levels[self._phase.level].tiling

    def _send(self, reads: Reads, everything: bool = False) -> list[Flat]:
        """What others read of my tiles: latents; with `everything` the sampler's memory after them."""

        def parts(pieces: Iterable[Piece]) -> Iterator[Tensor]:
            for piece in pieces:
                held = self._cells[piece.tile]
                for of in range(1 + len(held.memory) * everything):
                    yield held.cut(piece.box, of)

        return [pack(parts(pieces)) for (sender, _), pieces in sorted(reads.items()) if sender == self.worker]

    def _receive(self, reads: Reads, messages: Sequence[Flat]) -> dict[int, list[Held]]:
        """What I own, together with the cells that others sent of theirs (and their memory), by tile."""
        found = {tile: [held] for tile, held in self._cells.items()}
        mine = [pieces for (_, reader), pieces in sorted(reads.items()) if reader == self.worker]
        step, channels = self._phase.step, self.plan.spec.channels
        for message, pieces in self._counted(messages, mine):
            count = message.size // (channels * sum(piece.box.area for piece in pieces))
            values = [part for _, part in unpack(message, (piece for piece in pieces for _ in range(count)), channels)]
            for at, piece in enumerate(pieces):
                x, *memory = values[at * count : (at + 1) * count]
                found.setdefault(piece.tile, []).append(Held(piece.box, x, tuple(memory), step))
        return found

    def _counted(self, messages: Sequence[Flat], expected: Sequence[T]) -> Iterable[tuple[Flat, T]]:
        for message, what in zip(messages, expected, strict=True):
            self._bytes_received += message.nbytes
            yield message, what

    def _gather(self, patch: Patch, held: Mapping[int, Sequence[Held]], of: int = 0) -> Tensor:
        """The cells of `patch` [channels, height, width]; `of` as in `Held.cut`. A cell that nobody sent is NaN, so no
        wrong route passes."""
        result = torch.full((self.plan.spec.channels, patch.height, patch.width), torch.nan)
        for tile, box, y, x in patch.pieces():
            for part in held[tile]:
                common = box.intersect(part.box)
                if common.area:
                    top, left = y + common.y0 - box.y0, x + common.x0 - box.x0
                    result[:, top : top + common.height, left : left + common.width] = part.cut(common, of)
        return result

    def _update(self, level: int, step: int, said: Said, tiles: Iterable[int]) -> None:
        """Bring `tiles` to the start of `step` by what was said at the step before, unless they are there."""
        update = SAMPLERS[self.plan.sampler]
        for tile in tiles:
            held = self._cells[tile]
            if held.step == step:
                continue
            in_order = (c for _, c in sorted(said[tile], key=lambda entry: entry[0]))
            fused = fuse(held.box, self.plan.spec.channels, in_order)
            fresh = needs_noise(self.schedule, step - 1)
            unit = self._noise("ancestral", level, step - 1, held.box) if fresh else None
            held.x, held.memory = update(held.x, fused, step - 1, held.memory, self.schedule, unit)
            held.step = step

    def _predict(self, level: int, step: int, windows: Sequence[int]) -> None:
        """Run the network on `windows` in micro-batches of the plan's size, the last one padded."""
        plan, grid = self.plan, self.plan.windows(level, step)
        positive = self._conditioning[plan.levels[level].prompt]
        each = [self._conditioning[plan.request.negative], positive] if plan.guided[step] else [positive]
        cells = {tile: (held,) for tile, held in self._cells.items()}
        before = self.module.rows_evaluated()
        told = self._predictions.setdefault(step, {})
        rows = [(window, words) for window in windows for words in each]
        unguided: Tensor | None = None
        for first in range(0, len(rows), plan.micro_batch):
            batch = rows[first : first + plan.micro_batch]
            x = torch.stack([self._gather(grid.reads(w), cells) for w, _ in batch])
            shown = scale_input(x, step, self.schedule)
            spare = plan.micro_batch - len(batch)
            if self._stopped():
                raise Abandoned(f"worker {self.worker} was told to stop")
            shown = torch.cat([shown, shown[-1:].expand(spare, -1, -1, -1)])
            words: list[Conditioning] = [words for _, words in batch] + [batch[-1][1]] * spare
            output = self.module.predict(shown, self.schedule.timesteps[step], words)
            for (window, said), values in zip(batch, output, strict=False):
                if said is not positive:
                    unguided = values
                else:
                    told[window] = values if unguided is None else guide(unguided, values, plan.guidance)
                    unguided = None
            self._rows_padded += spare
        self._rows += self.module.rows_evaluated() - before

    def _said(self, level: int, step: int, messages: Sequence[Flat] | None) -> Said:
        """What I and others predicted at `step`, by tile; with None for `messages` what I did."""
        said: Said = defaultdict(list)

        def add(window: int, piece: Piece, values: Tensor) -> None:
            weights = None if self._weights is None else _part(self._weights, piece)
            said[piece.tile].append(((window, piece.y, piece.x), Contribution(piece.box, values, weights)))

        grid = self.plan.windows(level, step)
        for window, prediction in self._predictions[step].items():
            for whole in grid.gives(window).pieces():
                box = whole.box.intersect(self._cells[whole.tile].box)
                if box.area:
                    y, x = whole.y + box.y0 - whole.box.y0, whole.x + box.x0 - whole.box.x0
                    piece = Piece(whole.tile, box, y, x)
                    add(window, piece, _part(prediction, piece))
        if messages is None:
            return said
        this = route(self.plan, self.partition, level, step)
        mine = [this.gives(*pair) for pair in this.pairs if pair[1] == self.worker]
        for message, entries in self._counted(messages, mine):
            parts = unpack(message, (piece for _, piece in entries), self.plan.spec.channels)
            for (window, _), (piece, values) in zip(entries, parts, strict=True):
                add(window, piece, values)
        return said


def _part(window: Tensor, piece: Piece) -> Tensor:
    """The part of a window's tensor that `piece` speaks of."""
    return window[..., piece.y : piece.y + piece.box.height, piece.x : piece.x + piece.box.width]
