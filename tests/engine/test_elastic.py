"""Law 2 under trouble: workers are lost, leave and come at any call, and the picture is the same to the bit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from raytile import api
from raytile.canvas.canvas import Canvas
from raytile.events import Event, PhaseDone, Regrouped, RolledBack, SnapshotWhole, StepDone
from raytile.plan.phases import phases
from raytile.plan.request import RenderRequest
from tests.engine.renders import digests, paint, toy_request
from tests.engine.trouble import TroubledPool

WISHES = {
    "shift": toy_request(tile=128),
    "overlap": toy_request(tile=128, sync="overlap", weights="gaussian", wrap="x", width=640),
    "memory": toy_request(tile=128, sampler="dpmpp_2m", steps=5),
    "noise": toy_request(tile=128, sampler="euler_ancestral", levels=1),
}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """The digests of undisturbed renders."""
    folder = tmp_path_factory.mktemp("calm")
    return {name: digests(paint(wish, folder / f"{name}.zarr")[1]) for name, wish in WISHES.items()}


def troubled(
    wish: RenderRequest, out: Path, pool: TroubledPool, pause: float = 0.0, **options: Any
) -> tuple[Canvas, dict[str, Any], list[Event]]:
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        if isinstance(event, StepDone):
            time.sleep(pause)

    canvas = api.render(wish, out, pool=pool, listeners=[listen], **options)
    summary = canvas.head().summary
    assert summary is not None
    return canvas, summary, heard


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_whatever_happens_the_bits_are_the_same(
    data: st.DataObject, calm: dict[str, tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = data.draw(st.sampled_from(sorted(WISHES)))
    workers = data.draw(st.integers(1, 4))
    moments = st.integers(1, 60)
    lose = data.draw(st.dictionaries(moments, st.integers(0, workers), max_size=2))
    leave = data.draw(st.dictionaries(moments, st.integers(0, workers - 1), max_size=1))
    arrive = data.draw(st.dictionaries(moments, st.integers(1, 2), max_size=2))
    # Whoever is lost or leaves has somebody in their place in the end.
    arrive[61] = len(lose) + len(leave)
    ahead = data.draw(st.integers(1, 4))
    lose_in = data.draw(st.sampled_from([{}, {"export": 0}, {"assume": 1}, {"keep": 0}, {"decode": 0}, {"restore": 1}]))
    arrive[61] += len(lose_in)
    pool = TroubledPool(workers, lose=lose, leave=leave, arrive=arrive, lose_in=lose_in, ahead=ahead)
    out = tmp_path_factory.mktemp("troubled") / "a.zarr"
    canvas, summary, _ = troubled(WISHES[name], out, pool, snapshot_every=data.draw(st.sampled_from([None, 0, 1, 2])))
    assert digests(summary) == calm[name] == canvas.digests()
    assert not (out / "snapshots").exists()


def test_a_loss_goes_on_from_the_last_snapshot(calm: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    pool = TroubledPool(3, lose={30: 1}, arrive={61: 1})
    _, summary, heard = troubled(WISHES["memory"], tmp_path / "a.zarr", pool, pause=0.05, snapshot_every=1)
    assert digests(summary) == calm["memory"]
    assert summary["rollbacks"] == summary["restarts"] == 1
    (back,) = [event for event in heard if isinstance(event, RolledBack)]
    whole = [event.phase for event in heard[: heard.index(back)] if isinstance(event, SnapshotWhole)]
    assert back.phase == whole[-1] > 0, "it went further back than it had to"
    furthest = max(event.phase for event in heard[: heard.index(back)] if isinstance(event, PhaseDone))
    steps = [phase.kind for phase in phases(api.plan(WISHES["memory"]))]
    done, begun = (steps[back.phase : furthest + more].count("step") for more in (1, 2))
    assert done <= back.steps_redone == summary["steps_redone"] <= begun
    assert back.members == (0, 2)
    assert summary["snapshots"]["count"] >= 2


def test_a_member_that_dies_while_it_hands_its_tiles_over_takes_the_others_back(
    calm: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    for method in ("export", "assume"):
        pool = TroubledPool(3, leave={8: 0}, arrive={61: 1}, lose_in={method: 0 if method == "export" else 1}, ahead=3)
        canvas, summary, heard = troubled(WISHES["overlap"], tmp_path / f"{method}.zarr", pool)
        assert summary["rollbacks"] == 1
        assert any(isinstance(event, Regrouped) for event in heard)
        assert digests(summary) == calm["overlap"] == canvas.digests()


def test_who_comes_and_goes_costs_nothing_that_was_done(calm: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    pool = TroubledPool(2, leave={25: 0}, arrive={8: 1})
    _, summary, heard = troubled(WISHES["shift"], tmp_path / "a.zarr", pool)
    assert digests(summary) == calm["shift"]
    assert (summary["joins"], summary["leaves"]) == (1, 1)
    assert summary["steps_redone"] == summary["rollbacks"] == 0
    assert summary["evaluations"] == summary["evaluations_planned"]
    assert summary["bytes_exchanged"] == summary["bytes_planned"]
    assert [event.members for event in heard if isinstance(event, Regrouped)] == [(0, 1, 2), (1, 2)]
    assert summary["moves"] > 0


def test_a_render_that_failed_is_resumed_where_it_stood(calm: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    from raytile.errors import RenderCancelled
    from raytile.events import TileDone

    for number, stop in enumerate((SnapshotWhole, TileDone)):
        out = tmp_path / f"{number}.zarr"
        seen = []

        def listen(event: Event, stop: type = stop, seen: list[Event] = seen) -> None:
            time.sleep(0.01)  # what is stored gets onto the head meanwhile
            if isinstance(event, stop):
                seen.append(event)
                if len(seen) == 2:
                    raise KeyboardInterrupt

        with pytest.raises(RenderCancelled, match="raytile resume"):
            api.render(WISHES["memory"], out, workers=2, in_process=True, snapshot_every=1, listeners=[listen])
        head = api.store.open(out).head()
        assert head.state == "cancelled"
        assert (head.snapshot or 0) > 0 if stop is SnapshotWhole else head.denoised
        heard: list[Event] = []
        canvas = api.resume(out, workers=3, in_process=True, listeners=[heard.append])
        assert canvas.digests() == calm["memory"]
        summary = canvas.head().summary or {}
        assert digests(summary) == calm["memory"]
        assert summary["evaluations"] < summary["evaluations_planned"]
        assert api.resume(out, in_process=True).head().state == "finished"
        again = api.render(WISHES["memory"], out, in_process=True, resume=True)
        assert again.digests() == calm["memory"]
