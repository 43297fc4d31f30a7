"""The commands that paint: render, resume and batch. Everything heavy is imported inside them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raytile.cli_options import (
    CanvasOptions,
    CanvasPlace,
    KeepGoing,
    OutFolder,
    Pictures,
    Png,
    Prompts,
    SnapshotEvery,
    TellOptions,
    WorkerOptions,
    default_out,
)
from raytile.cli_picture import DefaultSize, PictureOptions, Prompt, SceneOptions, Size
from raytile.errors import InvalidRequest, RenderCancelled, first_line
from raytile.scenes import settle

if TYPE_CHECKING:
    from rich.console import Console

    from raytile.canvas.canvas import Canvas
    from raytile.plan.request import RenderRequest
    from raytile.progress import Progress


def render(
    *,
    prompt: Prompt = None,
    size: Size = None,
    begin: SceneOptions,
    picture: PictureOptions,
    workers: WorkerOptions,
    keep: CanvasOptions,
    tell: TellOptions,
) -> None:
    """Paint PROMPT onto a new canvas.

    The same options give the same picture, bit for bit, on any number of workers, whoever comes and goes. Ctrl-C stops
    the workers and keeps the canvas: raytile resume goes on with it."""
    request = settle(*begin.layers(picture, prompt=prompt, size=size))
    paint(request, keep.out or default_out(request.prompt, request.seed), workers, keep, tell)


def paint(request: RenderRequest, place: str, workers: WorkerOptions, keep: CanvasOptions, tell: TellOptions) -> None:
    """Render `request` at `place`, with progress, an exported picture where that was asked for, and a summary."""
    from raytile import api
    from raytile.canvas import store
    from raytile.canvas.export import check_output
    from raytile.progress import Progress

    if keep.resume and keep.overwrite:
        raise InvalidRequest("resume: --resume goes on with what --overwrite replaces: give one of them")
    pool = workers.pool()
    replace = keep.overwrite
    if keep.png is not None:
        layout = api.canvas_layout(api.plan(request))
        replace = replace or (keep.resume and store.exists(place))  # a retried command finds its own picture
        check_output(keep.png, layout, replace)
    console = _console(tell.quiet)
    with _stoppable("stopped before anything was painted"), Progress(console) as progress:
        canvas = api.render(
            request,
            place,
            **pool,
            device=workers.device,
            overwrite=keep.overwrite,
            resume=keep.resume,
            snapshot_every=keep.snapshot_every,
            preview_every=keep.preview_every,
            listeners=(progress,),
        )
    _show(canvas, keep.png, replace, tell, console, progress)


def resume(
    canvas: CanvasPlace,
    workers: WorkerOptions,
    tell: TellOptions,
    png: Png = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that --png names.")] = False,
) -> None:
    """Go on with a canvas that was stopped, failed, or lost its driver; with any number of workers.

    The picture is the same to the bit as if nothing had happened. Refused while another process renders it."""
    from raytile import api
    from raytile.canvas import store
    from raytile.canvas.export import check_output
    from raytile.progress import Progress

    pool = workers.pool()
    if png is not None:
        check_output(png, store.open(canvas).layout, overwrite)
    console = _console(tell.quiet)
    with _stoppable("stopped before it went on; the canvas is as it was"), Progress(console) as progress:
        whole = api.resume(canvas, **pool, device=workers.device, listeners=(progress,))
    _show(whole, png, overwrite, tell, console, progress)


@contextmanager
def _stoppable(words: str) -> Iterator[None]:
    """SIGTERM is like Ctrl-C, until the driver heeds both itself; where that is too early, the error says `words`.

    Ray makes SIGTERM a SystemExit once it is connected. A second signal, while workers are being ended, changes
    nothing: what the driver had to say is said."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        before = error.__context__
        raise (before if isinstance(before, RenderCancelled) else RenderCancelled(words)) from None


def _show(canvas: Canvas, png: Path | None, replace: bool, tell: TellOptions, console: Console, seen: Progress) -> None:
    """Export the finished picture, if that was asked for, and say what was painted."""
    from raytile.canvas.export import export_picture
    from raytile.report import summary_lines

    if png is not None:
        export_picture(canvas, png, overwrite=replace)
    summary = canvas.head().summary or {}
    if tell.json:
        print(json.dumps(summary), flush=True)
        return
    if not seen.started:
        console.print("it was finished already:", markup=False)
    for line in summary_lines(summary, png):
        console.print(line, markup=False, soft_wrap=True)


def batch(
    *,
    prompts: Prompts,
    out: OutFolder,
    size: DefaultSize = None,
    begin: SceneOptions,
    picture: PictureOptions,
    workers: WorkerOptions,
    tell: TellOptions,
    pictures: Pictures = None,
    keep_going: KeepGoing = True,
    snapshot_every: SnapshotEvery = None,
) -> None:
    """Paint every line of a file, one picture after the other, and keep a manifest of them.

    Every line is checked before the first is painted. Give the same command again to go on where it stopped: what is
    finished stays, what failed is tried again, what was stopped in the middle goes on there."""
    from raytile import batch as work
    from raytile.manifest import Book
    from raytile.progress import Progress

    pool = workers.pool()
    orders = work.read_orders(prompts, begin.layers(picture, size=size), pictures)
    book = Book(out, pictures)
    done = {order.name: canvas for order in orders if (canvas := work.standing(out, order))}
    todo = [order for order in orders if order.name not in done]
    failures: list[tuple[work.Order, Exception]] = []
    console = _console(tell.quiet)

    @contextmanager
    def watch(order: work.Order) -> Iterator[Progress]:
        console.print(f"{order.name} (line {order.line})", markup=False, soft_wrap=True)
        with Progress(console) as progress:
            yield progress

    painting = work.paint(todo, out, pool, watch, book.add, device=workers.device, snapshot_every=snapshot_every)
    try:
        with _stoppable("stopped; the same command goes on"), closing(painting):
            for name, canvas in done.items():
                book.add(name, canvas)
            for order, failure in painting:
                if failure is not None:
                    failures.append((order, failure))
                    console.print(f"{order.name} failed: {first_line(failure)}", markup=False, soft_wrap=True)
                    if not keep_going:
                        break
    finally:
        book.save()
    if tell.json:
        named = {order.name: first_line(error) for order, error in failures}
        print(json.dumps({"out": out, "pictures": len(orders), "there_before": len(done), "failed": named}), flush=True)
    if failures:
        raise work.failed(failures, len(orders))
    console.print(f"{len(orders)} pictures, {len(done)} of them there before: {out}", markup=False, soft_wrap=True)


def _console(quiet: bool = False) -> Console:
    """Standard error, for people."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet, highlight=False)
