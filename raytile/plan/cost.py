"""What a render will cost, foretold from plan and partition alone: evaluations, messages, bytes, memory."""

from __future__ import annotations

from dataclasses import dataclass

from raytile.plan.phases import phases
from raytile.plan.plan import Plan
from raytile.plan.route import Partition
from raytile.plan.traffic import Traffic, traffic_before

FLOAT32 = 4


@dataclass(frozen=True)
class Memory:
    """Bytes the busiest worker holds, beside the interpreter's own and one micro-batch of activations."""

    weights: int
    tiles: int
    predictions: int
    bands: int
    pixels: int

    @property
    def total(self) -> int:
        return self.weights + self.tiles + self.predictions + self.bands + self.pixels


@dataclass(frozen=True)
class Cost:
    """`evaluations`: rows through the network, padding apart; `evaluations_padded`: with it. `windows`: predictions
    of a window at a step. `window_share`: how many times over the network sees the canvas (1.0: each cell once a
    step). `messages`, `bytes`: between workers, over the whole run; `bytes_per_step`: of the dearest step."""

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
    memory: Memory


def foretell(plan: Plan, partition: Partition) -> Cost:
    """The cost of rendering `plan` under `partition`."""
    cell = plan.spec.channels * FLOAT32
    windows = evaluations = padded = cells_seen = cells_there = messages = total = 0
    dearest, most = (0, 0), 0
    for phase in phases(plan):
        this = traffic_before(plan, partition, phase)
        if this is None:
            continue
        count, size = len(this.pairs), cell * this.read_cells
        if phase.kind == "step":
            count, size = 2 * count, size + cell * this.given_cells
            number, rows = sum(this.shares), plan.rows(phase.step)
            windows, evaluations = windows + number, evaluations + number * rows
            padded += sum(_rows_with_padding(this, rows, plan.micro_batch))
            cells_seen += number * plan.spec.window**2
            cells_there += plan.levels[phase.level].cells
            most = max(most, *this.shares)
            dearest = max(dearest, (size, count))
        messages, total = messages + count, total + size
    everyone = range(partition.workers)
    mine = tuple(len(partition.tiles(plan.tiling, worker)) for worker in everyone)
    tile = plan.tiling.y.tile * plan.tiling.x.tile
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
        memory=Memory(
            weights=plan.spec.weights_bytes,
            tiles=max(mine) * tile * cell * (2 if plan.sampler == "dpmpp_2m" else 1),
            predictions=most * plan.spec.window**2 * cell,
            bands=dearest[0] // partition.workers,
            pixels=decoded,
        ),
    )


def step_work(plan: Plan, partition: Partition) -> tuple[int, ...]:
    """Of each step, in order, the rows that the busiest worker sends through the network: how long it will take."""
    work = []
    for phase in phases(plan):
        this = traffic_before(plan, partition, phase)
        if phase.kind == "step" and this is not None:
            work.append(max(_rows_with_padding(this, plan.rows(phase.step), plan.micro_batch)))
    return tuple(work)


def _rows_with_padding(this: Traffic, rows: int, batch: int) -> list[int]:
    """Each worker's rows at a step: its interior fills whole batches, the rest is padded."""
    padded = []
    waiting = {reader for _, reader in this.pairs}
    for worker, (number, inside) in enumerate(zip(this.shares, this.inside, strict=True)):
        early = inside * rows // batch * batch // rows if worker in waiting else 0
        padded.append(sum(-(-part * rows // batch) * batch for part in (early, number - early)))
    return padded
