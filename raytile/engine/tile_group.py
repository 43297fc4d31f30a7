"""A worker's part of a render: its tiles' latents and one phase at a time. Knows no Ray, no processes, no clock.

Each call takes the messages that the route says it needs, in the order of their senders, and returns the messages for
others, in the order of their receivers. Calls come in the order of the plan's phases, but that `restore` goes back.
Who owns what is settled by epoch: an epoch begins with `restore`, or with `export` by the members of the one before
and `assume` by its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raytile.engine.beginning import Beginning
from raytile.engine.held import Held, gather, part, within
from raytile.engine.lane import Lane
from raytile.engine.messages import Flat, pack, unpack
from raytile.engine.parts import Parts, exchanges
from raytile.engine.predictor import Predictor
from raytile.engine.survey import Survey
from raytile.errors import Abandoned, RaytileError
from raytile.events import Counts
from raytile.geometry.tiling import Piece, Tiling
from raytile.models.base import Module
from raytile.plan.phases import Phase, early, holdings, moves, phases, reads_before, route, say_pairs
from raytile.plan.plan import Plan
from raytile.plan.route import Partition, Reads, Route
from raytile.sampling import SAMPLERS, needs_noise
from raytile.sync.fuse import Contribution, fuse, profile

if TYPE_CHECKING:
    from raytile.canvas.canvas import Canvas
    from raytile.engine.previews import Previews

Cells = NDArray[np.float32]

Said = dict[int, list[tuple[tuple[int, int, int], Contribution]]]
"""What is said about each tile, every entry with (window, y, x) to sort by."""


class TileGroup:
    """What `worker` holds: its tiles and the halo it reads, latents, sampler's memory, module. `stopped` says between
    micro-batches whether the work is wanted no more. `canvas`: where the pictures are that the request takes in;
    `previews`: who shows what is painted."""

    def __init__(
        self,
        plan: Plan,
        module: Module,
        worker: int,
        stopped: Callable[[], bool],
        canvas: Canvas | None = None,
        previews: Previews | None = None,
    ) -> None:
        self.plan, self.worker, self._canvas, self._previews = plan, worker, canvas, previews
        self.partition = Partition((worker,))
        self._bytes_received = 0
        self.parts = Parts()
        self.schedule = module.schedule(plan.sampler, plan.steps)
        self._basis = module.turns()
        self._survey = Survey(plan, canvas)
        self._beginning = Beginning(plan, module, self.schedule, self._survey, canvas)
        self._predictor = Predictor(plan, module, self.schedule, self._survey, stopped, self.parts)
        line = profile(plan.weights, plan.spec.window)
        self._weights = None if line is None else torch.outer(line, line)
        self._course = phases(plan)
        self._number = 0
        self._cells: dict[int, Held] = {}
        # By step: what this worker predicted of its windows, until it has been told and taken in.
        self._predictions: dict[int, dict[int, Tensor]] = {}
        self._lane: Lane | None = None  # of the step that was predicted last

    @property
    def _phase(self) -> Phase:
        return self._course[self._number]

    # -- epochs --------------------------------------------------------------------------------------------------

    def restore(self, number: int, partition: Partition, stored: Callable[[int], Cells]) -> None:
        """Forget everything and go on from phase `number` as a member of `partition`: from nothing at phase 0, else
        from what was stored of each tile at the start of that phase (see `saved`)."""
        self.partition, self._number, self._cells, self._lane = partition, number, {}, None
        self._predictions.clear()
        if number == 0:
            return
        _, level, step = self._phase
        tiling = self.plan.levels[level].tiling
        anchored = self.plan.levels[level].anchored
        for tile, box in holdings(self.plan, partition, level).of(self.worker).items():
            if self._frozen(tile):
                self._cells[tile] = self._beginning.frozen(level, step, box)
                continue
            whole, cells = tiling.core(tile), torch.from_numpy(stored(tile).copy())
            if cells.shape[1:] != (self.plan.spec.channels, whole.height, whole.width):
                raise RaytileError(f"what was stored of tile {tile} does not fit it: {tuple(cells.shape)}")
            cut = cells[..., box.y0 - whole.y0 : box.y1 - whole.y0, box.x0 - whole.x0 : box.x1 - whole.x0]
            self._cells[tile] = Held.of(box, cut.unbind(0), step, anchored)

    def saved(self) -> dict[int, Cells]:
        """My tiles as they are now, float32 (1 + sampler's memory, channels, h, w). Called after a step, it gives them
        as they were at the step's start: its predictions are not taken in yet."""
        return {tile: torch.stack(self._cells[tile].tensors).numpy() for tile in self._owned()}

    def export(self, after: Partition, *predictions: Flat) -> list[Flat]:
        """Bring my tiles to the start of the phase to come, and return what those who hold of them in the epoch
        `after` want. From here on I own nothing."""
        kind, level, step = self._phase
        if kind != "step":
            raise RaytileError(f"no epoch ends before {self._phase}")
        if step - 1 in self._predictions:
            self._update(level, step, self._said(level, step - 1, predictions), list(self._cells))
            self._show()
        self._predictions.clear()
        self._cells = {tile: self._cells[tile] for tile in self._owned()}
        return self._send(moves(self.plan, self.partition, after, level), everything=True)

    def assume(self, number: int, before: Partition, after: Partition, *messages: Flat) -> None:
        """Begin the epoch `after` at phase `number` with what the owners of the one `before` sent."""
        if self.worker not in before.members:
            self._cells = {}
        self._number = number
        _, level, step = self._phase
        parts = self._receive(moves(self.plan, before, after, level), messages)
        tiling, anchored, fresh = self.plan.levels[level].tiling, self.plan.levels[level].anchored, {}
        for tile, box in holdings(self.plan, after, level).of(self.worker).items():
            if self._frozen(tile):
                fresh[tile] = self._beginning.frozen(level, step, box)
                continue
            patch = tiling.patch(box.y0, box.x0, box.height, box.width)
            count, channels = len(parts[tile][0].tensors), self.plan.spec.channels
            fresh[tile] = Held.of(box, [gather(patch, parts, channels, of) for of in range(count)], step, anchored)
        self._cells, self.partition, self._lane = fresh, after, None
        self._predictions.clear()

    # -- phases --------------------------------------------------------------------------------------------------

    def clean(self, level: int, *messages: Flat) -> list[Flat]:
        """Make the clean latents of my tiles that `level` begins with: from the source, or by way of pixels from the
        level before. Returns what others who hold of them want."""
        self._expect(Phase("clean", level, self.plan.levels[level].first_step))
        before = self._receive(reads_before(self.plan, self.partition, self._phase), messages) if level else {}
        step = self._phase.step
        owned = self.partition.tiles(self._tiling(), self.worker)
        cores = {tile: self._tiling().core(tile) for tile in owned}
        self._cells = {
            tile: Held(box, self._beginning.clean(level, box, before), (), step) for tile, box in cores.items()
        }
        self._number += 1
        return self._send(reads_before(self.plan, self.partition, self._phase))

    def begin(self, level: int, *messages: Flat) -> None:
        """Start a level: the first latents of what I hold, from noise, or from clean latents and noise."""
        first = self.plan.levels[level].first_step
        self._expect(Phase("begin", level, first))
        noise_only = self.plan.levels[level].begins == "noise"
        before = {} if noise_only else self._receive(reads_before(self.plan, self.partition, self._phase), messages)
        held = holdings(self.plan, self.partition, level).of(self.worker)
        self._cells = {tile: self._beginning.begin(level, box, before) for tile, box in held.items()}
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
            self._show()
        this = route(self.plan, self.partition, level, step)
        done = self._predictions.get(step, {})
        self._predict(level, step, [window for window in this.predicts(self.worker) if window not in done])
        self._number += 1
        if not self.plan.levels[level].dilated:
            return [self._tell(step, this, holder) for sender, holder in this.pairs if sender == self.worker]
        self._lane = Lane(self.plan, self.worker, self.partition, level, step)
        with self.parts.timed("exchange"):
            return self._lane.ask(self._cells)

    def lane(self, level: int, step: int, *cells: Flat) -> list[Flat]:
        """Predict my thinned-out windows from `cells`, thinned out, of all. Returns the predictions, these and those of
        the step, on cells that others hold."""
        self._expect(Phase("lane", level, step))
        lane, this = self._lane, route(self.plan, self.partition, level, step)
        assert lane is not None
        lane.predict(self._predictor, self.partition, list(self._counted(cells)))
        self._number += 1
        return [
            np.concatenate([self._tell(step, this, holder), lane.tell(holder)])
            for sender, holder in say_pairs(self.plan, self.partition, level, step)
            if sender == self.worker
        ]

    def end(self, level: int, *predictions: Flat) -> list[Flat]:
        """Take in the last predictions of a level. Returns what the next level's readers want of my tiles."""
        self._expect(Phase("end", level, self.plan.steps))
        self._update(level, self.plan.steps, self._said(level, self.plan.steps - 1, predictions), list(self._cells))
        self._show()
        self._predictions.clear()
        self._lane = None
        # From here on only owners speak for their cells.
        self._cells = {tile: self._cells[tile] for tile in self._owned()}
        self._number += 1
        return self._send(reads_before(self.plan, self.partition, self._phase))

    def finished(self) -> dict[int, Cells]:
        """The final latents of my tiles after `end`, float32 (channels, h, w)."""
        return {tile: held.x.numpy() for tile, held in self._cells.items()}

    def keep(self) -> dict[int, Cells]:
        """The final latents of my tiles, float32 (channels, h, w)."""
        self._expect(Phase("keep", len(self.plan.levels) - 1, self.plan.steps))
        return self.finished()

    def counts(self) -> Counts:
        """What this group did and received so far."""
        return Counts(
            self._predictor.rows,
            self._predictor.rows_padded,
            self._bytes_received,
            predict_seconds=self.parts.seconds["predict"],
            exchange_seconds=self.parts.seconds["exchange"],
            decode_seconds=self.parts.seconds["decode"],
            write_seconds=self.parts.seconds["write"],
        )

    # -- what phases are made of --------------------------------------------------------------------------------

    def _expect(self, phase: Phase) -> None:
        if phase != self._phase:
            # A call before this one came to nothing, for a reason that its caller knows better.
            raise Abandoned(f"worker {self.worker} is at {self._phase} and was asked for {phase}")

    def _frozen(self, tile: int) -> bool:
        """Whether nothing of this tile is painted."""
        return self.plan.partial and not self.plan.active[tile]

    def _owned(self) -> list[int]:
        """My tiles, but those where nothing is painted."""
        owned = self.partition.tiles(self._tiling(), self.worker)
        return [tile for tile in owned if not self._frozen(tile)]

    def _tiling(self) -> Tiling:
        return self.plan.levels[self._phase.level].tiling

    @exchanges
    def _send(self, reads: Reads, everything: bool = False) -> list[Flat]:
        """What others read of my tiles: latents; with `everything` the sampler's memory after them."""

        def parts(pieces: Iterable[Piece]) -> Iterator[Tensor]:
            for piece in pieces:
                held = self._cells[piece.tile]
                for of in range(len(held.tensors) if everything else 1):
                    yield held.cut(piece.box, of)

        return [pack(parts(pieces)) for (sender, _), pieces in sorted(reads.items()) if sender == self.worker]

    @exchanges
    def _receive(self, reads: Reads, messages: Sequence[Flat]) -> dict[int, list[Held]]:
        """What I own, together with the cells that others sent of theirs (and their memory), by tile."""
        found = {tile: [held] for tile, held in self._cells.items()}
        mine = [pieces for (_, reader), pieces in sorted(reads.items()) if reader == self.worker]
        step, channels = self._phase.step, self.plan.spec.channels
        for message, pieces in zip(self._counted(messages), mine, strict=True):
            count = message.size // (channels * sum(piece.box.area for piece in pieces))
            values = [part for _, part in unpack(message, (piece for piece in pieces for _ in range(count)), channels)]
            for at, piece in enumerate(pieces):
                tensors = values[at * count : (at + 1) * count]
                anchored = count > 1 and self.plan.levels[self._phase.level].anchored
                found.setdefault(piece.tile, []).append(Held.of(piece.box, tensors, step, anchored))
        return found

    def _counted(self, messages: Iterable[Flat]) -> Iterator[Flat]:
        for message in messages:
            self._bytes_received += message.nbytes
            yield message

    @exchanges
    def _tell(self, step: int, this: Route, holder: int) -> Flat:
        """My predictions of the windows of `step` on cells of `holder`."""
        entries = this.gives(self.worker, holder)
        return pack(part(self._predictions[step][window], piece, self._basis) for window, piece in entries)

    @exchanges
    def _update(self, level: int, step: int, said: Said, tiles: Iterable[int]) -> None:
        """Bring `tiles` to the start of `step` by what was said at the step before, unless they are there."""
        update = SAMPLERS[self.plan.sampler]
        shown = self._previews if self._previews is not None and self._previews.wants(level, step - 1) else None
        mine = frozenset() if shown is None else frozenset(self._owned())
        for tile in tiles:
            held = self._cells[tile]
            if held.step == step:
                continue
            in_order = (c for _, c in sorted(said[tile], key=lambda entry: entry[0]))
            fused = fuse(held.box, self.plan.spec.channels, in_order, self._beginning.idle(level, held.box))
            if self._lane is not None:
                fused = self._lane.mixed(tile, held, fused)
            if shown is not None and tile in mine:
                shown.take(level, step - 1, tile, held.x, fused, self.schedule)
            fresh = needs_noise(self.schedule, step - 1)
            unit = self._beginning.noise("ancestral", level, step - 1, held.box) if fresh else None
            held.x, held.memory = update(held.x, fused, step - 1, held.memory, self.schedule, unit)
            held.step = step
            self._beginning.draw(level, held)

    def _show(self) -> None:
        """All tiles have taken in what was said: what they promise may be seen."""
        if self._previews is not None:
            self._previews.store()

    def _predict(self, level: int, step: int, windows: Sequence[int]) -> None:
        cells = {tile: (held,) for tile, held in self._cells.items()}
        self._predictor.predict(level, step, windows, cells, self._predictions.setdefault(step, {}))

    @exchanges
    def _said(self, level: int, step: int, messages: Sequence[Flat] | None) -> Said:
        """What I and others predicted at `step`, by tile; with None for `messages` what I did."""
        said: Said = defaultdict(list)

        def add(window: int, piece: Piece, values: Tensor) -> None:
            weights = None if self._weights is None else part(self._weights, piece)
            said[piece.tile].append(((window, piece.y, piece.x), Contribution(piece.box, values, weights)))

        grid = self.plan.windows(level, step)
        for window, prediction in self._predictions[step].items():
            for whole in grid.gives(window).pieces():
                if whole.tile in self._cells:
                    piece = within(whole, self._cells[whole.tile].box)
                    if piece.box.area:
                        add(window, piece, part(prediction, piece, self._basis))
        if messages is None:
            return said
        this = route(self.plan, self.partition, level, step)
        pairs = say_pairs(self.plan, self.partition, level, step)
        senders = [sender for sender, holder in pairs if holder == self.worker]
        for sender, message in zip(senders, self._counted(messages), strict=True):
            entries = this.gives(sender, self.worker)
            own = self.plan.spec.channels * sum(piece.box.area for _, piece in entries)
            parts = unpack(message[:own], (piece for _, piece in entries), self.plan.spec.channels)
            for (window, _), (piece, values) in zip(entries, parts, strict=True):
                add(window, piece, values)
            if self._lane is not None:
                self._lane.hear(sender, message[own:])
        return said
