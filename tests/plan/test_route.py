"""Laws of partition and route: even shares, nothing missing, nothing sent twice, foretold cost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from raytile.plan.cost import foretell, step_work
from raytile.plan.phases import phases, reads_before, route
from raytile.plan.plan import Plan
from raytile.plan.route import Partition
from raytile.plan.traffic import traffic_before
from tests.plan.strategies import plans

workers = st.integers(1, 9)


@given(plans(), workers)
def test_every_tile_has_one_owner_and_shares_differ_by_one_at_most(plan: Plan, count: int) -> None:
    partition = Partition(count)
    for level in plan.levels:
        shares = [partition.tiles(level.tiling, worker) for worker in range(count)]
        assert sorted(tile for mine in shares for tile in mine) == list(range(level.tiling.count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        owners = partition.owners(level.tiling)
        assert all(owners[tile] == worker for worker, mine in enumerate(shares) for tile in mine)


@settings(max_examples=60, deadline=None)
@given(plans(max_cells=40), workers)
def test_a_step_predicts_each_window_once_evenly_and_sends_just_what_is_needed(plan: Plan, count: int) -> None:
    partition = Partition(count)
    for level in plan.levels:
        for step in range(level.first_step, level.steps):
            this, windows = route(plan, partition, level.index, step), plan.windows(level.index, step)
            owners = partition.owners(level.tiling)
            assert sorted(w for mine in this.predicts for w in mine) == list(range(len(windows)))
            assert max(map(len, this.predicts)) - min(map(len, this.predicts)) <= 1
            for worker, mine in enumerate(this.predicts):
                needed, held = set(), Counter()
                spoken = {owner: set() for owner in range(count)}
                for window in mine:
                    for piece in windows.reads(window).pieces():
                        if owners[piece.tile] != worker:
                            needed |= _cells(piece.box)
                    for piece in windows.gives(window).pieces():
                        spoken[int(owners[piece.tile])].add((window, piece))
                for (_, reader), pieces in this.reads.items():
                    if reader == worker:
                        held.update(cell for piece in pieces for cell in _cells(piece.box))
                assert set(held) == needed
                assert set(held.values()) <= {1}, "a cell is sent to a reader once"
                for owner in range(count):
                    sent = this.gives.get((worker, owner), ())
                    assert set(sent) == (spoken[owner] if owner != worker else set())
                    assert [w for w, _ in sent] == sorted(w for w, _ in sent)
                inside = {w for w in mine if all(owners[p.tile] == worker for p in windows.reads(w).pieces())}
                assert set(this.interior[worker]) == inside


@settings(max_examples=30, deadline=None)
@given(plans(max_cells=40), workers)
def test_nobody_reads_from_itself_and_one_worker_reads_nothing(plan: Plan, count: int) -> None:
    for phase in phases(plan):
        reads = reads_before(plan, Partition(count), phase)
        assert all(sender != reader and pieces for (sender, reader), pieces in reads.items())
        assert not reads_before(plan, Partition(1), phase)


@settings(max_examples=60, deadline=None)
@given(plans(max_cells=40), workers)
def test_traffic_is_counted_as_the_route_lists_it(plan: Plan, count: int) -> None:
    partition = Partition(count)
    for phase in phases(plan):
        counted, reads = traffic_before(plan, partition, phase), reads_before(plan, partition, phase)
        if counted is None:
            assert not reads
            continue
        assert counted.pairs == set(reads)
        assert counted.read_cells == sum(piece.box.area for pieces in reads.values() for piece in pieces)
        if phase.kind == "step":
            this = route(plan, partition, phase.level, phase.step)
            assert counted.pairs == {(owner, predictor) for predictor, owner in this.gives}
            assert counted.given_cells == this.given_cells
            assert counted.shares == tuple(map(len, this.predicts))
            assert counted.inside == tuple(map(len, this.interior))


@settings(max_examples=30, deadline=None)
@given(plans(max_cells=40), workers)
def test_cost_counts_what_the_plan_says(plan: Plan, count: int) -> None:
    cost = foretell(plan, Partition(count))
    steps = [(level.index, step) for level in plan.levels for step in range(level.first_step, level.steps)]
    assert cost.windows == sum(len(plan.windows(*at)) for at in steps)
    assert cost.evaluations == sum(len(plan.windows(*at)) * (2 if plan.guided[at[1]] else 1) for at in steps)
    assert cost.evaluations <= cost.evaluations_padded
    work = step_work(plan, Partition(count))
    assert len(work) == len(steps)
    assert sum(work) <= cost.evaluations_padded <= count * sum(work)
    assert (cost.bytes == cost.messages == 0) if count == 1 else cost.bytes % (4 * plan.spec.channels) == 0
    assert sum(cost.tiles) == plan.tiling.count


def _cells(box: object) -> set[tuple[int, int]]:
    y0, y1, x0, x1 = box  # type: ignore[misc]
    return {(y, x) for y in range(y0, y1) for x in range(x0, x1)}
