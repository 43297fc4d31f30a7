"""The state machine alone: Hypothesis plays the workers; the invariants hold after every event."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raytile.engine.state import Cancel, DecodeTile, Fail, Finish, RenderState, RunPhase
from raytile.events import CancelAsked, Counts, PhaseDone, TileDone, WorkerLost, WorkerReady


def ready(worker: int, probe: str = "same", version: str = "1") -> WorkerReady:
    return WorkerReady(worker, f"node{worker}", 1, "cpu", probe, version, 0)


@given(st.integers(1, 5), st.integers(1, 8), st.integers(1, 5), st.integers(0, 12), st.data())
def test_any_order_of_events_ends_in_a_finished_picture(
    workers: int, phases: int, ahead: int, tiles: int, data: st.DataObject
) -> None:
    tiles += 1
    state = RenderState([range(k, tiles, workers) for k in range(workers)], phases, ahead, "1")
    waiting: list[object] = [ready(worker) for worker in range(workers)]
    queues: list[list[int]] = [[] for _ in range(workers)]
    submitted: list[int] = []
    decoded: list[int] = []
    finished = 0
    while waiting or any(queues):
        # Anything comes in any order, the reports of one worker too.
        ready_to_come = waiting + [PhaseDone(w, phase, Counts()) for w, queue in enumerate(queues) for phase in queue]
        event = data.draw(st.sampled_from(ready_to_come))
        if isinstance(event, PhaseDone):
            queues[event.worker].remove(event.phase)
        else:
            waiting.remove(event)
        for instruction in state.handle(event):  # type: ignore[arg-type]
            if isinstance(instruction, RunPhase):
                submitted.append(instruction.phase)
                for queue in queues:
                    queue.append(instruction.phase)
            elif isinstance(instruction, DecodeTile):
                decoded.append(instruction.tile)
                waiting.append(TileDone(instruction.worker, instruction.tile, "", "", Counts()))
            else:
                assert isinstance(instruction, Finish)
                finished += 1
        state.check()
    assert submitted == list(range(phases))
    assert sorted(decoded) == list(range(tiles))
    assert state.status == "finished"
    assert finished == 1


@given(st.integers(2, 4), st.integers(0, 3), st.booleans())
def test_a_lost_worker_or_a_cancel_ends_the_render_once(workers: int, before: int, cancel: bool) -> None:
    state = RenderState([[k] for k in range(workers)], 6, 2, "1")
    for worker in range(min(before, workers)):
        state.handle(ready(worker))
    end = state.handle(CancelAsked() if cancel else WorkerLost(1, "it fell"))
    assert [type(instruction) for instruction in end] == [Cancel if cancel else Fail]
    state.check()
    assert state.handle(ready(0)) == state.handle(WorkerLost(0, "again")) == state.handle(CancelAsked()) == []


def test_workers_that_do_not_compute_alike_or_run_other_code_are_refused_by_name() -> None:
    for odd, word in (
        (ready(1, probe="other"), "do not compute alike"),
        (ready(1, version="2"), "raytile is 2 on node1"),
    ):
        state = RenderState([[0], [1]], 3, 2, "1")
        assert state.handle(ready(0)) == []
        (instruction,) = state.handle(odd)
        assert isinstance(instruction, Fail)
        assert word in instruction.why
