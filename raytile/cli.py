"""The command `raytile`: a thin skin over `raytile.api`. Everything heavy is imported inside the commands."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from raytile import cli_drain, cli_paint, cli_remote, cli_rework, cli_serve, cli_top, cli_view
from raytile.cli_options import (
    CanvasOptions,
    CanvasPlace,
    TellOptions,
    WorkerOptions,
    spread,
)
from raytile.cli_picture import PictureOptions, Prompt, SceneOptions, Size
from raytile.errors import InvalidRequest, RaytileError
from raytile.scenes import settle

if TYPE_CHECKING:
    from raytile.canvas.canvas import Canvas
    from raytile.geometry.box import Box

EXAMPLES = """**Examples**

raytile render "painted earth, islands" --size 2048x1024 --wrap x --png planet.png

raytile plan "painted earth" --size 65536x65536

raytile info planet.zarr

raytile resume planet.zarr --workers 2..8"""
_EXAMPLE = '**Example:** raytile {} "painted earth, islands" --size 2048x1024 --wrap x {}'

app = typer.Typer(
    help="Paint pictures of any size with many diffusion modules that listen to each other.",
    epilog=EXAMPLES,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
CANCELLED = 130


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code. Every error is one line on standard error.

    RAYTILE_DEBUG=1 adds the traceback."""
    _quieten()
    try:
        return int(app(args=args, prog_name="raytile", standalone_mode=False) or 0)
    except TyperException as error:  # wrong usage
        return _fail(error.format_message(), error.exit_code)
    except RaytileError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("stopped", CANCELLED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except Exception as error:
        return _fail(f"unexpected {type(error).__name__}: {error} (RAYTILE_DEBUG=1 shows where)", 1)


def _fail(message: str, code: int) -> int:
    if os.environ.get("RAYTILE_DEBUG") == "1":
        traceback.print_exc()
    line = " ".join(message.split()).replace("Value error, ", "")
    if line:  # there is none where the help was shown instead
        print(f"error: {line}", file=sys.stderr)
    return code


def _quieten() -> None:
    """Keep the libraries' chatter, advertisements and phoning home away; their errors still come through."""
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("DIFFUSERS_VERBOSITY", "error"),
        ("HF_HUB_OFFLINE", "1"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"),
    ):
        os.environ.setdefault(name, value)


def _version(wanted: bool) -> None:
    if wanted:
        from raytile import __version__

        print(f"raytile {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None: ...


app.command("render", epilog=_EXAMPLE.format("render", "--png planet.png"))(spread(cli_paint.render))
app.command("resume", epilog="**Example:** raytile resume planet.zarr --workers 2..8 --png planet.png")(
    spread(cli_paint.resume)
)
app.command("batch", epilog="**Example:** raytile batch prompts.jsonl --size 2048x1024 --out worlds --pictures png")(
    spread(cli_paint.batch)
)

for _again, _shown in (
    (cli_rework.upscale, "upscale draft.zarr --size 8192x4096 --png large.png"),
    (cli_rework.repaint, 'repaint planet.zarr --box 512,256,300,200 --prompt "islands" --out islands.zarr'),
    (cli_rework.extend, "extend valley.zarr --right 1024 --out wide.zarr"),
):
    app.command(_again.__name__, epilog=f"**Example:** raytile {_shown}")(spread(_again))

app.command("serve", epilog="**Example:** raytile serve --in-process --port 8000")(cli_serve.serve)
app.command("view", epilog="**Example:** raytile view planet.zarr")(cli_view.view)
app.add_typer(cli_serve.keys, name="keys")
app.command("top", epilog="**Example:** raytile top --address 10.0.0.1:6379")(cli_top.top)
app.command("drain", epilog="**Example:** raytile drain --seconds 90")(cli_drain.drain)


@app.command()
def cancel(canvas: CanvasPlace) -> None:
    """Ask whoever renders a canvas, on whatever machine, to stop; raytile resume goes on with it later."""
    from raytile import api
    from raytile.canvas import store

    head = api.cancel(store.open(canvas).path)
    owner = f"process {head.owner.pid} on {head.owner.host}"
    if head.state == "running":
        print(f"{owner} was asked to stop, and does so within a step: raytile info {canvas} shows it")
    else:
        print(f"{canvas} is {head.state}, nobody renders it any more (the last was {owner})")


@app.command(epilog=_EXAMPLE.format("plan", "--workers 4"))
@spread
def plan(
    *,
    prompt: Prompt = None,
    size: Size = None,
    begin: SceneOptions,
    picture: PictureOptions,
    workers: WorkerOptions,
    keep: CanvasOptions,  # noqa: ARG001 (so that a render's command line works here too)
    tell: TellOptions,
) -> None:
    """Foretell what render would do with the same options, and run nothing.

    Of a range of workers the larger number counts. Those that nobody named, and auto, are taken to be one per CPU core
    of this machine (one with --in-process)."""
    from raytile import api
    from raytile.engine.pool import Crew
    from raytile.plan.cost import foretell
    from raytile.plan.route import Partition
    from raytile.report import plan_figures, plan_table

    made = api.plan(settle(*begin.layers(picture, prompt=prompt, size=size)))
    most = Crew.parse(workers.workers).most
    if most is None or workers.workers == "auto":
        most = 1 if workers.in_process else os.cpu_count() or 1
    figures = plan_figures(made, foretell(made, Partition.even(most)), most)
    if tell.json:
        print(json.dumps(figures))
    elif not tell.quiet:
        from rich.console import Console

        Console(highlight=False).print(plan_table(figures))


@app.command()
def info(
    canvas: CanvasPlace, json_: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False
) -> None:
    """Say what a canvas is, and how far it came."""
    from raytile.canvas import store
    from raytile.canvas.info import describe

    facts = describe(store.open(canvas))
    if json_:
        print(json.dumps(facts))
        return
    from rich.console import Console

    from raytile.report import facts_table

    Console(highlight=False).print(facts_table(facts))


@app.command()
def export(
    canvas: CanvasPlace,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE.png", help="The picture to write: PNG, JPEG or TIFF by its ending.", show_default=False
        ),
    ] = None,
    faces: Annotated[
        Path | None,
        typer.Option(
            "--faces",
            metavar="FOLDER",
            help="Write each face of a cube, or each picture of a tileset, to a PNG of its own there.",
            show_default=False,
        ),
    ] = None,
    level: Annotated[
        int | None,
        typer.Option(
            "--level",
            metavar="N",
            min=0,
            help="A coarser level instead, 0 being the coarsest, also while finer ones are still painted.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files.")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Export an unfinished canvas too: gaps are black.")
    ] = False,
) -> None:
    """Write the picture of a canvas to a file, a few rows at a time."""
    from raytile.canvas import store
    from raytile.canvas.export import check_output, export_faces, export_picture

    if file is None and faces is None:
        raise InvalidRequest("export: say where to: a file such as planet.png, or --faces FOLDER")
    if level is not None:
        if file is None or faces is not None:
            raise InvalidRequest("level: goes into one file: name it, and leave --faces out")
        from raytile.preview import export_level

        export_level(canvas, level, file, overwrite)
        return
    found = store.open(canvas)
    if file is not None:
        check_output(file, found.layout, overwrite)
    if faces is not None:
        for written in export_faces(found, faces, _faces(found), overwrite=overwrite, partial=partial):
            print(written)
    if file is not None:
        export_picture(found, file, overwrite=overwrite, partial=partial)


def _faces(canvas: Canvas) -> dict[str, Box]:
    """The faces that a canvas is made of, by name, in pixels."""
    from raytile.geometry.box import Box
    from raytile.plan.tilesets import atlas_of

    layout, request = canvas.layout, canvas.head().request
    atlas = atlas_of(request, layout.factor, (layout.rows, layout.columns))
    if atlas is None or (request.tileset is None and len(atlas.faces) == 1):
        raise InvalidRequest(f"faces: {canvas.path} is one picture, neither cube nor tileset: leave --faces out")
    return {face.name: Box(*(edge * layout.factor for edge in face.box)) for face in atlas.faces}


@app.command()
def models() -> None:
    """List the built-in models."""
    from rich.console import Console

    from raytile.models import registry
    from raytile.report import models_table

    Console(highlight=False).print(models_table(registry.available()))


app.add_typer(cli_remote.app, name="remote")


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(context: typer.Context) -> None:
    """Train the built-in model (needs the extra: pip install 'raytile[train]')."""
    try:
        from raytile.train.cli import app as trainer
    except ModuleNotFoundError as error:
        raise InvalidRequest(f"train needs {error.name}: pip install 'raytile[train]'") from None
    code = trainer(args=context.args, prog_name="raytile train", standalone_mode=False)
    if isinstance(code, int):
        raise typer.Exit(code)
