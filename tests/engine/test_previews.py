"""Previews: they show what is being painted, change no pixel, and never hold a render up."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raytile import api
from raytile.canvas.canvas import Canvas
from raytile.engine.previews import Previews, reduced
from raytile.errors import CanvasError, InvalidRequest, RenderCancelled
from raytile.events import Event, PreviewStored, StepDone
from raytile.geometry.box import Box
from raytile.models import registry
from raytile.models.preview import Colours, colours_of
from raytile.plan.request import RenderRequest
from raytile.sampling import clean_estimate

WISH = RenderRequest(prompt="an island", width=360, height=264, model="toy", steps=5, tile=128, levels=2, seed=4)


def paint(place: Path, wish: RenderRequest = WISH, workers: int = 1, **more: Any) -> tuple[Canvas, list[Event]]:
    told: list[Event] = []
    canvas = api.render(wish, place, in_process=True, workers=workers, listeners=[told.append], **more)
    return canvas, told


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every preview is written before the next is taken: none is overtaken."""
    store = Previews.store

    def stored(self: Previews) -> None:
        store(self)
        self.settle()

    monkeypatch.setattr(Previews, "store", stored)


def shown(canvas: Canvas, level: int) -> Any:
    layout = canvas.layout
    last = level == len(layout.levels)
    rows, columns = (layout.rows, layout.columns) if last else layout.level_size(level)
    return canvas.read_preview(level, Box(0, rows, 0, columns))


def digest(canvas: Canvas) -> object:
    return (canvas.head().summary or {})["pixels_sha256"]


def test_previews_change_no_pixel_and_are_told_once_a_step(tmp_path: Path) -> None:
    plain, none = paint(tmp_path / "a.zarr")
    canvas, told = paint(tmp_path / "b.zarr", workers=3, preview_every=2)
    assert digest(plain) == digest(canvas)
    assert not [event for event in none if isinstance(event, PreviewStored)]
    previews = [event for event in told if isinstance(event, PreviewStored)]
    assert len(previews) == len(set(previews))
    steps = [event for event in told if isinstance(event, StepDone)]
    for level in (0, 1):
        count = next(event.steps for event in steps if event.level == level)
        numbers = [event.step for event in previews if event.level == level]
        # One that is overtaken by the next while it is being written is left out, but never the last of the picture.
        assert set(numbers) <= {2, count} | set(range(2, count + 1, 2))
        assert numbers == sorted(numbers)
    assert previews[-1] == PreviewStored(1, next(event.steps for event in steps if event.level == 1))
    assert shown(plain, 0).max() == 0  # no level is shown without previews, ...
    assert (shown(canvas, 0) > 0).all()
    assert (shown(canvas, 1) == shown(plain, 1)).all()  # ... but what is decoded is, always


def test_the_same_preview_by_any_number_of_workers(tmp_path: Path) -> None:
    found = [paint(tmp_path / f"{n}.zarr", workers=n, preview_every=1)[0] for n in (1, 4)]
    assert (shown(found[0], 0) == shown(found[1], 0)).all()


def test_a_decoded_tile_shows_the_means_of_its_pixels(tmp_path: Path) -> None:
    canvas, _ = paint(tmp_path / "a.zarr", preview_every=1)
    layout, preview = canvas.layout, shown(canvas, 1)
    picture = canvas.read_image(Box(0, layout.height, 0, layout.width)).astype(float)
    for y, x in np.ndindex(-(-layout.height // layout.factor), -(-layout.width // layout.factor)):
        there = picture[:, y * 8 : y * 8 + 8, x * 8 : x * 8 + 8].mean(axis=(1, 2))
        assert np.abs(preview[:, y, x] - np.maximum(there, 1)).max() <= 0.51


@pytest.mark.usefixtures("unhurried")
def test_what_a_step_promises_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first preview is the clean estimate of the second step, not the latents that the step begins with."""
    first: dict[int, Any] = {}
    estimates: list[torch.Tensor] = []
    write = Canvas.write_preview

    def kept(self: Canvas, level: int, tile: int, colours: Any) -> None:
        first.setdefault(tile, colours)
        write(self, level, tile, colours)

    def noted(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        estimates.append(clean_estimate(x, *rest))
        return estimates[-1]

    monkeypatch.setattr(Canvas, "write_preview", kept)
    monkeypatch.setattr("raytile.engine.previews.clean_estimate", noted)
    canvas, told = paint(tmp_path / "a.zarr", WISH.model_copy(update={"levels": 1}), preview_every=100)
    assert [event.step for event in told if isinstance(event, PreviewStored)] == [2, 5]
    colours, count = colours_of(registry.load(registry.resolve("toy"))), canvas.layout.tiles
    assert len(estimates) == 2 * count
    for tile, estimate in enumerate(estimates[:count]):
        assert (colours.of(estimate) == first[tile]).all()
    # The last promises what it becomes: the final latents.
    for tile, estimate in enumerate(estimates[count:]):
        latents = canvas.read_latents(canvas.layout.cells(tile))
        assert np.abs(estimate.numpy() - latents).max() < 1e-4


@pytest.mark.usefixtures("unhurried")
def test_each_preview_is_told_once(tmp_path: Path) -> None:
    _, told = paint(tmp_path / "a.zarr", workers=3, preview_every=2)
    found = [(event.level, event.step) for event in told if isinstance(event, PreviewStored)]
    count = {event.level: event.steps for event in told if isinstance(event, StepDone)}
    assert found == [
        (level, step)
        for level in (0, 1)
        for step in range(1, count[level] + 1)
        if step % 2 == 0 or step == count[level]
    ]


def test_a_preview_that_cannot_be_written_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither while it is painted nor when it is decoded."""
    whole, _ = paint(tmp_path / "a.zarr")

    def broken(*_: object) -> None:
        raise CanvasError("the disk is full")

    monkeypatch.setattr(Canvas, "write_preview", broken)
    canvas, told = paint(tmp_path / "b.zarr", preview_every=1)
    assert digest(canvas) == digest(whole)
    assert not [event for event in told if isinstance(event, PreviewStored)]


def test_after_a_render_nothing_is_written_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a canvas that is removed stays removed: a preview that is being written ends, the rest is left out."""
    writing = threading.Event()
    write = Canvas.write_preview

    def slow(self: Canvas, *what: Any) -> None:
        writing.set()
        time.sleep(0.05)
        write(self, *what)

    monkeypatch.setattr(Canvas, "write_preview", slow)
    stop = Stop(after=4)
    with pytest.raises(RenderCancelled):
        _stopped(tmp_path, stop)
    assert writing.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "preview"]


def test_what_was_taken_before_a_roll_back_is_not_shown(tmp_path: Path) -> None:
    canvas, _ = paint(tmp_path / "a.zarr")
    plan = api.plan(WISH)
    module = registry.load(registry.resolve("toy"))
    previews = Previews(0, plan, module, canvas, 1)
    x = torch.zeros(4, canvas.layout.tile_cells, canvas.layout.tile_cells)
    before = shown(canvas, 1)
    previews.take(1, plan.levels[1].first_step, 0, x, x, module.schedule(plan.sampler, plan.steps))
    previews.drop()
    previews.store()
    previews.settle()
    assert not previews.news()
    assert (shown(canvas, 1) == before).all()


def test_a_canvas_without_preview_arrays_is_painted_all_the_same(tmp_path: Path) -> None:
    stopped = Stop(after=6)
    with pytest.raises(RenderCancelled):
        _stopped(tmp_path, stopped)
    for name in ("preview", "preview_0"):
        shutil.rmtree(tmp_path / "a.zarr" / name)
    canvas = api.resume(tmp_path / "a.zarr", in_process=True, preview_every=1)
    assert canvas.head().state == "finished"
    assert canvas.read_preview(1, Box(0, 1, 0, 1)) is None


class Stop:
    """Says yes once so many steps are done."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        return self.left <= 0

    def hear(self, event: Event) -> None:
        self.left -= isinstance(event, StepDone)


def _stopped(folder: Path, stop: Stop) -> None:
    api.render(WISH, folder / "a.zarr", in_process=True, listeners=[stop.hear], stop=stop, preview_every=1)


@pytest.mark.parametrize("every", [-1, -5])
def test_a_wrong_number_is_refused(tmp_path: Path, every: int) -> None:
    with pytest.raises(InvalidRequest, match="preview_every"):
        api.render(WISH, tmp_path / "a.zarr", preview_every=every)


def test_means_of_a_tile_that_ends_inside_a_cell() -> None:
    pixels = np.zeros((3, 5, 9), np.uint8)
    pixels[:, 4:] = 200
    found = reduced(pixels, Box(0, 4, 0, 5), 2)
    assert found.shape == (3, 4, 5)
    assert (found[:, :2] == 1).all()
    assert (found[:, 2:] == 200).all()


def test_colours_are_never_what_stands_for_nothing() -> None:
    colours = Colours(torch.eye(3), torch.zeros(3))
    values = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0, torch.nan]).view(1, 1, 6).expand(3, 1, 6)
    assert colours.of(values)[0, 0].tolist() == [1, 1, 128, 255, 255, 1]


@pytest.fixture
def toy_colours() -> Callable[[], Colours]:
    return lambda: colours_of(registry.load(registry.resolve("toy")))


def test_the_map_of_a_model_is_fitted_once_and_kept(
    toy_colours: Callable[[], Colours], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    first = toy_colours()
    (kept,) = (tmp_path / ".cache" / "raytile" / "preview").iterdir()
    stamp = kept.stat().st_mtime_ns
    again = toy_colours()
    assert kept.stat().st_mtime_ns == stamp
    assert torch.equal(first.matrix, again.matrix)
    kept.write_bytes(b"cut short")
    assert torch.equal(toy_colours().matrix, first.matrix)


def test_the_map_foretells_what_the_decoder_makes(toy_colours: Callable[[], Colours]) -> None:
    """Smooth latents, decoded and averaged, are what the map says of them."""
    module = registry.load(registry.resolve("toy"))
    pixels = (
        torch.linspace(-0.5, 0.5, 192).view(1, 1, 192).expand(3, 128, 192) * torch.tensor([1.0, -1, 0.5])[:, None, None]
    )
    latents = module.encode(pixels)
    said = toy_colours().of(latents)[:, 2:-2, 2:-2].astype(float)
    there = torch.nn.functional.avg_pool2d(module.decode(latents), 8)[:, 2:-2, 2:-2]
    wanted = ((there / 2 + 0.5).clamp(0, 1) * 255).numpy()
    assert np.abs(said - wanted).mean() < 7


def test_terra_ships_its_map() -> None:
    """It explains most of what cells look like when a smooth scene is decoded."""
    module = registry.load(registry.resolve("terra"))
    y, x = np.mgrid[0:128, 0:128] / 128
    picture = np.stack([0.3 * np.sin(5 * x + 3 * y), 0.2 + 0.3 * np.cos(4 * y), 0.4 * np.sin(6 * x)]).astype(np.float32)
    latents = module.encode(torch.from_numpy(picture))
    said = colours_of(module).of(latents)[:, 2:-2, 2:-2].astype(float)
    wanted = torch.nn.functional.avg_pool2d(module.decode(latents), 8)[:, 2:-2, 2:-2]
    assert np.abs(said - ((wanted / 2 + 0.5) * 255).numpy()).mean() < 12
