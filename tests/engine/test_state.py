"""The state machine alone: Hypothesis plays the cluster; the invariants hold after every event."""

from __future__ import annotations

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from raytile.api import plan
from raytile.engine import policy
from raytile.engine.instructions import Abandon, Cancel, Fail, Finish, Regroup, Release, Restore, RunPhase
from raytile.engine.state import RenderState
from raytile.engine.terms import Bounds, Start
from raytile.events import (
    CancelAsked,
    CanvasTaken,
    PhaseDone,
    SnapshotWhole,
    WorkerFailed,
    WorkerHired,
    WorkerLeaving,
    WorkerLost,
)
from tests.engine.renders import toy_request
from tests.engine.world import World, ready

PLAN = plan(toy_request(tile=128))  # two levels of four steps, 5 x 4 tiles in the end
SMALL = plan(toy_request(levels=1, tile=256))


def run(world: World, choose: st.DataObject | None = None) -> None:
    """Let things happen, drawn by `choose` or the first thing each time, until the render has come to its end."""
    for _ in range(20_000):
        if world.end is not None:
            return
        events = world.possible()
        assert events, "nothing can happen any more, and the picture is not finished"
        event = events[0] if choose is None else choose.draw(st.sampled_from(events))
        world.happen(world.report(event.worker) if isinstance(event, PhaseDone) else event)
    raise AssertionError("the render does not come to an end")


@settings(max_examples=150, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.data())
def test_whatever_happens_the_picture_is_finished_while_somebody_lives(data: st.DataObject) -> None:
    there, coming = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 3))
    ahead, every = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([None, 0, 1, 2, 5]))
    world = World(PLAN, Bounds(data.draw(st.integers(1, there)), there + coming, ahead, every), there, coming)
    kills = data.draw(st.integers(0, policy.RETRIES))
    leaves = data.draw(st.integers(0, 2))
    furthest = 0
    for _ in range(5_000):
        if world.end is not None:
            break
        whats = ["event"] * 12 + ["kill"] * bool(kills) + ["leave"] * bool(leaves)
        living = [k for k, worker in world.workers.items() if worker.alive]
        what = data.draw(st.sampled_from(whats)) if living else "event"
        before = world.redone
        if what == "kill":
            world.kill(data.draw(st.sampled_from(living)))
            kills -= 1
            continue
        if what == "leave":
            world.happen(WorkerLeaving(data.draw(st.sampled_from(living)), 30.0))
            leaves -= 1
            continue
        event = data.draw(st.sampled_from(world.possible()))
        if isinstance(event, PhaseDone):
            # Storing may take longer than the step, and may fail.
            stored = data.draw(st.sampled_from([None, None, 0, 1]))
            event = world.report(event.worker, stored, data.draw(st.sampled_from([None] * 9 + ["no space left"])))
        world.happen(event)
        assert world.state.whole >= furthest or world.redone > before or not world.state.members
        furthest = world.state.whole if world.state.members else 0
        if data.draw(st.integers(0, 399)) == 0:
            failed = [WorkerFailed(worker, "no memory") for worker in world.state.members]
            ending = data.draw(st.sampled_from([CancelAsked(), CanvasTaken("another"), *failed]))
            over = world.end is not None
            world.happen(ending)
            assert over or isinstance(world.end, Cancel if isinstance(ending, CancelAsked) else Fail)
            return
    assert isinstance(world.end, Finish), world.end
    assert world.wrote >= set(range(PLAN.tiling.count))
    assert world.denoised


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_an_undisturbed_render_runs_every_phase_once_in_one_epoch(there: int, ahead: int, data: st.DataObject) -> None:
    world = World(PLAN, Bounds(there, there, ahead), there)
    run(world, data)
    assert isinstance(world.end, Finish)
    assert world.began == {1: tuple(range(there))}
    assert world.redone == world.moved == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.data())
def test_joins_and_leaves_redo_nothing(there: int, coming: int, leaves: int, data: st.DataObject) -> None:
    world = World(PLAN, Bounds(1, there + coming, 2), there, coming)
    for _ in range(data.draw(st.integers(0, 30))):
        event = data.draw(st.sampled_from(world.possible()))
        world.happen(world.report(event.worker) if isinstance(event, PhaseDone) else event)
    for worker in range(min(leaves, there - 1)):
        if world.end is None:
            world.happen(WorkerLeaving(worker, 60.0))
    run(world, data)
    assert isinstance(world.end, Finish)
    assert world.redone == 0


def test_a_kill_redoes_what_came_since_the_last_snapshot_and_no_more() -> None:
    every, ahead = 2, 2
    world = World(PLAN, Bounds(3, 3, ahead, every), 3)
    while not world.whole or world.state.whole < world.whole[-1] + 1:
        run_one(world)
    world.kill(1)
    while not world.redone and 1 in world.lost:
        world.happen(WorkerLost(1, "was lost"))
    assert 0 < world.redone <= every + ahead
    assert world.began[max(world.began)] == (0, 2)
    run(world)
    assert isinstance(world.end, Finish)


def test_a_kill_while_a_snapshot_is_under_way_says_how_far_that_lagged() -> None:
    every, ahead = 2, 2
    world = World(plan(toy_request(steps=40)), Bounds(3, 3, ahead, every), 3)
    while world.state.whole < 12:
        event = world.possible()[0]
        world.happen(world.report(event.worker, stored=0) if isinstance(event, PhaseDone) else event)
    assert not world.whole
    world.kill(1)
    (abandon,) = [i for i in world.state.handle(WorkerLost(1, "was lost")) if isinstance(i, Abandon)]
    assert abandon.lag >= 12 - 1 - every - ahead
    assert every + abandon.lag <= abandon.steps_redone <= every + ahead + abandon.lag


def run_one(world: World) -> None:
    event = world.possible()[0]
    world.happen(world.report(event.worker) if isinstance(event, PhaseDone) else event)


def test_a_member_that_leaves_before_its_part_is_stored_does_not_end_all_snapshots() -> None:
    world = World(plan(toy_request(steps=40)), Bounds(1, 2, 2, 2), 2)
    while not world.state._saving.missing:
        run_one(world)
    world.happen(WorkerLeaving(1, 30.0))
    while world.end is None:
        event = world.possible()[0]
        if isinstance(event, PhaseDone):
            event = world.report(event.worker, 0 if event.worker == 1 else None)
        world.happen(event)
    assert isinstance(world.end, Finish)
    assert len(world.whole) > 10


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(0, 60), st.data())
def test_when_all_are_called_away_they_store_what_they_did_and_go(there: int, before: int, data: st.DataObject) -> None:
    steps, ahead = 40, 2
    world = World(plan(toy_request(steps=steps, levels=1)), Bounds(1, there, ahead), there)
    for _ in range(before):
        run_one(world)
    for worker in range(there):
        world.happen(WorkerLeaving(worker, 30.0))
    # nobody comes for them before they are gone
    while any(worker.alive for worker in world.workers.values()):
        events = [event for event in world.possible() if not isinstance(event, WorkerHired)]
        assert events, "those who are called away wait for ever"
        told = [event for event in events if isinstance(event, SnapshotWhole)]  # the head answers soon
        event = told[0] if told else data.draw(st.sampled_from(events))
        world.happen(world.report(event.worker) if isinstance(event, PhaseDone) else event)
    assert world.end is None
    assert world.redone <= 3 * ahead  # what was begun while the snapshot was under way
    if before > 10 * there:
        assert world.whole or world.denoised
    run(world, data)
    assert isinstance(world.end, Finish)


def test_a_slow_worker_gets_less_and_nobody_is_moved_for_a_stutter() -> None:
    wide = plan(toy_request(width=2048, height=512, steps=20, levels=1, micro_batch=1))
    slow = World(wide, Bounds(2, 2, 2), 2, pace=lambda worker: 0.2 if worker else 0.1)
    run(slow)
    assert slow.moved == 1
    assert slow.state.partition.shares == (100, 50)
    stutters = World(wide, Bounds(2, 2, 2), 2)
    stutters.pace = lambda worker: 0.5 if worker and stutters.workers[1].rows % 50 == 0 else 0.1
    run(stutters)
    assert stutters.moved == 0


def test_deaths_without_progress_spend_the_budget_and_those_with_progress_do_not() -> None:
    world = World(PLAN, Bounds(1, 1, 1), 1)
    while world.end is None:
        event = world.possible()[0]
        if isinstance(event, PhaseDone):
            world.kill(event.worker)
            event = WorkerLost(event.worker, "was lost")
        world.happen(event)
    assert isinstance(world.end, Fail)
    assert "in a row" in world.end.why
    assert world.hired == policy.RETRIES + 1

    world = World(plan(toy_request(steps=40)), Bounds(2, 2, 1, 1), 2)
    killed = 0
    while world.end is None:
        run_one(world)
        if len(world.whole) > 2 * killed and not world.lost and len(world.state.members) > 1:
            killed += 1
            world.kill(world.state.members[-1])
    assert isinstance(world.end, Finish)
    assert killed > policy.RETRIES


def test_a_canvas_that_was_denoised_is_only_decoded_and_finished_tiles_are_only_checked() -> None:
    state = RenderState(PLAN, "1", Bounds(1, 1, 2), [0], [0], Start(denoised=True, tiles_done=frozenset({0, 1})))
    given = state.handle(ready(0))
    assert [(i.tile, i.again) for i in given] == [(0, False), (1, False)]  # type: ignore[union-attr]
    world = World(PLAN, Bounds(1, 2, 2), 1, 1, Start(denoised=True))
    run(world)
    assert isinstance(world.end, Finish)
    assert not world.began


def test_a_stored_render_goes_on_from_its_snapshot() -> None:
    state = RenderState(PLAN, "1", Bounds(2, 2, 2), [0, 1], [0, 1], Start(snapshot=3))
    assert state.handle(ready(0)) == []
    first, *rest = state.handle(ready(1))
    assert isinstance(first, Restore)
    assert first.phase == 3
    assert [i.phase for i in rest if isinstance(i, RunPhase)] == [3, 4]
    assert not any(isinstance(i, Regroup) for i in rest)


def test_workers_that_do_not_compute_alike_or_run_other_code_are_refused_by_name() -> None:
    for odd, word in (
        (ready(1, probe="other"), "do not compute alike"),
        (ready(1, version="2"), "raytile is 2 on node1"),
    ):
        state = RenderState(PLAN, "1", Bounds(2, 2, 2), [0, 1], [0, 1])
        assert state.handle(ready(0)) == []
        (instruction,) = state.handle(odd)
        assert isinstance(instruction, Fail)
        assert word in instruction.why
        state = RenderState(PLAN, "1", Bounds(1, 2, 2), [0, 1], [0])
        state.handle(ready(0))
        released = [i for i in state.handle(odd) if isinstance(i, Release)]
        assert [i.worker for i in released] == [1]
        assert word in released[0].why


def test_what_fails_everywhere_fails_at_once_and_an_end_is_an_end() -> None:
    for event, kind in (
        (WorkerFailed(0, "out of memory"), Fail),
        (CanvasTaken("process 7 on b"), Fail),
        (CancelAsked(), Cancel),
    ):
        state = RenderState(SMALL, "1", Bounds(2, 2, 2), [0, 1], [0, 1])
        state.handle(ready(0))
        assert [type(i) for i in state.handle(event)] == [kind]
        state.check()
        assert state.handle(ready(1)) == state.handle(WorkerLost(0, "again")) == state.handle(CancelAsked()) == []


def test_all_lost_waits_for_those_that_come_and_goes_on_from_the_snapshot() -> None:
    world = World(PLAN, Bounds(2, 2, 2, 1), 2)
    while not world.whole:
        run_one(world)
    for worker in (0, 1):
        world.kill(worker)
    first, second = [world.state.handle(WorkerLost(worker, "was lost")) for worker in (0, 1)]
    assert any(isinstance(i, Abandon) for i in first)
    assert any(isinstance(i, Restore) for i in first)
    assert any(isinstance(i, Abandon) for i in second)
    assert not any(isinstance(i, Restore) for i in second)
    assert not world.state.members
