"""What a render will cost, foretold from plan and partition alone: evaluations, messages, bytes, memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raytile.plan.phases import (
    early_predictor,
    holdings,
    numbers_said,
    phases,
    reads_before,
    route,
    say_pairs,
    thin_route,
)
from raytile.plan.plan import Plan
from raytile.plan.route import Partition

FLOAT32 = 4


@dataclass(frozen=True)
class Memory:
    """Bytes the busiest worker holds (its halo counts with its tiles), beside the
    interpreter's own and one micro-batch of activations."""

    weights: int
    tiles: int
    predictions: int
    messages: int
    pixels: int

    @property
    def total(self) -> int:
        return self.weights + self.tiles + self.predictions + self.messages + self.pixels


@dataclass(frozen=True)
class Cost:
    """`evaluations`: rows through the network, padding apart; `evaluations_padded`: with it. `windows`: predictions
    of a window at a step. `window_share`: how many times over the network sees the canvas (1.0: each cell once a
    step). `messages`, `bytes`: between workers, over the whole run; `bytes_per_step`: of the dearest step. `tiles`: of
    each worker. `work`: of each step, the rows of the busiest worker, padding included."""

    windows: int
    evaluations: int
    evaluations_padded: int
    evaluations_per_megapixel: float
    window_share: float
    messages: int
    bytes: int
    bytes_per_step: int
    messages_per_step: int
    tiles: tuple[int, ...]
    work: tuple[int, ...]
    memory: Memory


def foretell(plan: Plan, partition: Partition) -> Cost:
    """The cost of rendering `plan` under `partition`."""
    cell = plan.spec.channels * FLOAT32
    windows = evaluations = padded = cells_seen = cells_there = messages = total = 0
    dearest, most = (0, 0), 0
    work: list[int] = []
    for phase in phases(plan):
        reads = reads_before(plan, partition, phase)
        count = len(reads)
        size = cell * sum(piece.box.area for pieces in reads.values() for piece in pieces)
        if phase.kind == "step":
            this = route(plan, partition, phase.level, phase.step)
            pairs = say_pairs(plan, partition, phase.level, phase.step)
            count, size = len(pairs), FLOAT32 * numbers_said(plan, partition, phase.level, phase.step)
            rows = plan.rows(phase.level, phase.step)
            number = len(rows)
            windows, evaluations = windows + number, evaluations + int(rows.sum())
            soon = early_predictor(plan, partition, phase.level, phase.step)
            all_rows = np.bincount(this.predictor, weights=rows, minlength=partition.slots).astype(np.int64)
            first = np.bincount(soon[soon >= 0], weights=rows[soon >= 0], minlength=partition.slots).astype(np.int64)
            # Early windows fill whole batches, the rest is padded.
            batches = -(-first // plan.micro_batch) - (-(all_rows - first) // plan.micro_batch)
            padded += int(batches.sum()) * plan.micro_batch
            work.append(int(batches.max()) * plan.micro_batch)
            if plan.levels[phase.level].dilated:
                thin = thin_route(plan, partition, phase.level, phase.step)
                count += len(thin.ask_pairs)
                size += FLOAT32 * thin.numbers_asked(plan.spec.channels)
                asked = len(set(plan.levels[phase.level].voices[0].texts(plan.guided[phase.step])))
                each = np.bincount(thin.predictor, minlength=partition.slots) * asked
                windows, number = windows + len(thin.predictor), number + len(thin.predictor)
                evaluations += int(each.sum())
                batches = -(-each // plan.micro_batch)
                padded += int(batches.sum()) * plan.micro_batch
                work[-1] += int(batches.max()) * plan.micro_batch
            cells_seen += number * plan.spec.window**2
            cells_there += plan.levels[phase.level].cells
            most = max(most, int(this.shares().max()))
            dearest = max(dearest, (size, count))
        messages, total = messages + count, total + size
    mine = tuple(len(partition.tiles(plan.tiling, worker)) for worker in partition.members)
    cells = int(holdings(plan, partition, len(plan.levels) - 1).cells().max())
    halo = plan.spec.decode_halo
    decoded = (plan.tiling.y.tile + 2 * halo) * (plan.tiling.x.tile + 2 * halo) * plan.spec.factor**2 * 3 * FLOAT32
    return Cost(
        windows=windows,
        evaluations=evaluations,
        evaluations_padded=padded,
        evaluations_per_megapixel=evaluations / (plan.request.width * plan.request.height / 1e6),
        window_share=cells_seen / cells_there,
        messages=messages,
        bytes=total,
        bytes_per_step=dearest[0],
        messages_per_step=dearest[1],
        tiles=mine,
        work=tuple(work),
        memory=Memory(
            weights=plan.spec.weights_bytes,
            tiles=cells * cell * (1 + (plan.sampler == "dpmpp_2m") + plan.levels[-1].anchored),
            predictions=most * plan.spec.window**2 * cell,
            messages=2 * dearest[0] // partition.workers,
            pixels=decoded,
        ),
    )
