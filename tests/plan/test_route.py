"""Laws of partition and route: even shares, nothing missing, nothing sent twice, foretold cost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from raytile.geometry.box import Box
from raytile.plan.cost import foretell
from raytile.plan.phases import early, early_predictor, holdings, moves, phases, reads_before, route
from raytile.plan.plan import Plan
from raytile.plan.route import Partition
from tests.plan.strategies import plans

NOTHING = Box(0, 0, 0, 0)
workers = st.integers(1, 9)
wishes = st.one_of(plans(max_cells=40), plans(max_cells=40, regions=True, closed=True, partial=True))


@st.composite
def partitions(draw: st.DrawFn) -> Partition:
    """Any members in any order, with equal shares or any."""
    members = tuple(draw(st.lists(st.integers(0, 12), min_size=1, max_size=9, unique=True)))
    some = st.lists(st.integers(1, 20), min_size=len(members), max_size=len(members))
    return Partition(members, draw(st.one_of(st.just(()), some.map(tuple))))


@given(plans(), partitions())
def test_every_tile_has_one_owner_and_everybody_gets_their_share(plan: Plan, partition: Partition) -> None:
    shares = dict(zip(partition.members, partition.shares or (1,) * partition.workers, strict=True))
    for level in plan.levels:
        tiles = {worker: partition.tiles(level.tiling, worker) for worker in partition.members}
        assert sorted(tile for mine in tiles.values() for tile in mine) == list(range(level.tiling.count))
        owners = partition.owners(level.tiling)
        for worker, mine in tiles.items():
            assert all(owners[tile] == worker for tile in mine)
            assert abs(len(mine) - level.tiling.count * shares[worker] / sum(shares.values())) < 1
        if not partition.shares:
            assert max(map(len, tiles.values())) - min(map(len, tiles.values())) <= 1
        assert partition.tiles(level.tiling, 13) == ()


@settings(max_examples=60, deadline=None)
@given(wishes, partitions())
def test_who_predicts_a_window_holds_its_cells_and_hears_all_that_is_said_of_them(
    plan: Plan, partition: Partition
) -> None:
    """One exchange a step is enough: every holder of a cell gets each prediction of it, once, and nothing else."""
    count = partition.slots
    shares = dict(zip(partition.members, partition.shares or (1,) * partition.workers, strict=True))
    for level in plan.levels:
        held = [holdings(plan, partition, level.index).of(worker) for worker in range(count)]
        owners = partition.owners(level.tiling)
        for tile in range(level.tiling.count):
            if not plan.partial or plan.active[tile]:
                assert held[owners[tile]][tile] == level.tiling.core(tile)
        for step in range(level.first_step, level.steps):
            this, windows = route(plan, partition, level.index, step), plan.windows(level.index, step)
            predicts = [this.predicts(worker) for worker in range(count)]
            gives = {pair: this.gives(*pair) for pair in this.pairs}
            assert sorted(w for mine in predicts for w in mine) == list(range(len(windows)))
            rows = plan.rows(level.index, step)
            if not partition.shares and len(set(rows.tolist())) == 1:
                dealt = [len(predicts[worker]) for worker in partition.members]
                assert max(dealt) - min(dealt) <= 1
            whole = sum(shares.values())
            for worker, share in shares.items():
                fair = rows.sum() * share / whole
                assert abs(rows[list(predicts[worker])].sum() - fair) <= rows.max(initial=0)
            assert this.shares().tolist() == [len(mine) for mine in predicts]
            assert this.cells == sum(p.box.area for pieces in gives.values() for _, p in pieces)
            told = [Counter[tuple[int, int, int]]() for _ in range(count)]
            for worker, mine in enumerate(predicts):
                for window in mine:
                    for piece in windows.reads(window).pieces():
                        assert piece.box.intersect(held[worker][piece.tile]) == piece.box
                    for piece in windows.gives(window).pieces():
                        # Over sides that are alike it speaks of cells, too, that it does not look at.
                        box = piece.box.intersect(held[worker].get(piece.tile, NOTHING))
                        told[worker].update((window, *cell) for cell in _cells(box))
            for (sender, holder), pieces in gives.items():
                assert sender != holder
                assert [w for w, _ in pieces] == sorted(w for w, _ in pieces)
                for window, piece in pieces:
                    assert window in predicts[sender]
                    assert piece.box.intersect(held[holder][piece.tile]) == piece.box
                    told[holder].update((window, *cell) for cell in _cells(piece.box))
            for worker in range(count):
                mine = {cell for box in held[worker].values() for cell in _cells(box)}
                said = {
                    (window, *cell)
                    for window in range(len(windows))
                    for piece in windows.gives(window).pieces()
                    for cell in _cells(piece.box) & mine
                }
                assert told[worker].keys() == said
                assert set(told[worker].values()) <= {1}


@settings(max_examples=40, deadline=None)
@given(wishes, workers)
def test_early_windows_hang_on_nobody_and_fill_whole_batches(plan: Plan, count: int) -> None:
    partition = Partition.even(count)
    for level in plan.levels:
        for step in range(level.first_step, level.steps):
            windows = plan.windows(level.index, step)
            for worker in range(count):
                first = early(plan, partition, level.index, step, worker)
                assert len(first) == (early_predictor(plan, partition, level.index, step) == worker).sum()
                if not first:
                    continue
                before = route(plan, partition, level.index, step - 1)
                heard = {
                    cell
                    for pair in before.pairs
                    if pair[1] == worker
                    for _, piece in before.gives(*pair)
                    for cell in _cells(piece.box)
                }
                read = {c for w in first for piece in windows.reads(w).pieces() for c in _cells(piece.box)}
                assert not read & heard
                assert set(first) <= set(route(plan, partition, level.index, step).predicts(worker))
                assert plan.rows(level.index, step)[list(first)].sum() % plan.micro_batch == 0


@settings(max_examples=60, deadline=None)
@given(wishes, partitions(), partitions())
def test_a_new_epoch_gets_every_cell_it_holds_once_from_the_owner_of_the_old(
    plan: Plan, before: Partition, after: Partition
) -> None:
    for level in plan.levels:
        owners, held = before.owners(level.tiling), holdings(plan, after, level.index)
        got = {worker: Counter[tuple[int, int]]() for worker in after.members}
        for (sender, holder), pieces in moves(plan, before, after, level.index).items():
            assert sender != holder
            for piece in pieces:
                assert owners[piece.tile] == sender
                got[holder].update(_cells(piece.box))
        for worker in after.members:
            foreign = {tile: box for tile, box in held.of(worker).items() if owners[tile] != worker}
            # What is never painted stays where it is: everybody finds it on the canvas.
            wanted = {c for tile, box in foreign.items() if not plan.partial or plan.active[tile] for c in _cells(box)}
            assert got[worker].keys() == wanted
            assert set(got[worker].values()) <= {1}


@settings(max_examples=30, deadline=None)
@given(wishes, workers)
def test_nobody_reads_from_itself_and_one_worker_reads_nothing(plan: Plan, count: int) -> None:
    for phase in phases(plan):
        reads = reads_before(plan, Partition.even(count), phase)
        assert all(sender != reader and pieces for (sender, reader), pieces in reads.items())
        assert not reads_before(plan, Partition.even(1), phase)


@settings(max_examples=30, deadline=None)
@given(wishes, workers)
def test_cost_counts_what_the_plan_says(plan: Plan, count: int) -> None:
    cost = foretell(plan, Partition.even(count))
    steps = [(level.index, step) for level in plan.levels for step in range(level.first_step, level.steps)]
    assert cost.windows == sum(len(plan.windows(*at)) for at in steps)
    assert cost.evaluations == sum(_rows(plan, *at) for at in steps)
    assert cost.evaluations <= cost.evaluations_padded
    work = foretell(plan, Partition.even(count)).work
    assert len(work) == len(steps)
    assert sum(work) <= cost.evaluations_padded <= count * sum(work)
    assert (cost.bytes == cost.messages == 0) if count == 1 else cost.bytes % (4 * plan.spec.channels) == 0
    assert sum(cost.tiles) == plan.tiling.count


def _rows(plan: Plan, level: int, step: int) -> int:
    """Every window is asked once with each text of the voices that it hears."""
    voices, total = plan.levels[level].voices, 0
    for heard in plan.heard(level, step):
        spoken = [voice for voice, on in zip(voices, heard, strict=True) if on]
        total += len({text for voice in spoken for text in voice.texts(plan.guided[step])})
    return total


def _cells(box: object) -> set[tuple[int, int]]:
    y0, y1, x0, x1 = box  # type: ignore[misc]
    return {(y, x) for y in range(y0, y1) for x in range(x0, x1)}
