"""The options that say who paints and what becomes of it, and how groups of options become commands. Imports nothing
heavy."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

WORKERS, OUTPUT = "Workers", "Output"


def option(panel: str, name: str, help: str, **more: Any) -> Any:
    return typer.Option(name, help=help, rich_help_panel=panel, **more)


Workers = Annotated[
    str | None,
    option(
        WORKERS,
        "--workers",
        "How many. A range such as **2..16** starts as soon as 2 are there, takes in more as they come and "
        "goes on when some leave or are lost; **auto** is **1..64**, as far as there is work.",
        show_default="one per GPU of the cluster, else per CPU core",
        metavar="N|A..B|auto",
    ),
]
InProcess = Annotated[bool, option(WORKERS, "--in-process", "Render in this process, without Ray.")]
Address = Annotated[
    str | None,
    option(
        WORKERS,
        "--address",
        "The Ray cluster to use.",
        show_default="a local Ray, started and ended here",
        envvar="RAY_ADDRESS",
    ),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], option(WORKERS, "--device", "Where the network runs.")]
WorkerResources = Annotated[
    str | None,
    option(
        WORKERS,
        "--worker-resources",
        'What a worker asks of Ray, such as {"num_gpus": 0.5}.',
        show_default="a GPU where the cluster has any, else a core",
        metavar="JSON",
        envvar="RAYTILE_WORKER_RESOURCES",
    ),
]
SnapshotEvery = Annotated[
    int | None,
    option(
        OUTPUT,
        "--snapshot-every",
        "Steps from one snapshot to the next: as many are done again after a loss, at most. 0 takes none.",
        show_default="from what they cost, under 2 % of the run",
        metavar="N",
        min=0,
    ),
]
PreviewEvery = Annotated[
    int,
    option(
        OUTPUT,
        "--preview-every",
        "Steps after which the canvas shows what is becoming of it, for raytile view. 0 shows finished tiles alone.",
        metavar="N",
        min=0,
    ),
]
Out = Annotated[
    str | None,
    option(
        OUTPUT,
        "--out",
        "The canvas: a directory, or s3://BUCKET/NAME.zarr.",
        show_default="named after prompt and seed",
        metavar="NAME.zarr",
    ),
]
Resume = Annotated[
    bool,
    option(
        OUTPUT,
        "--resume",
        "Start, go on with what stands there, or leave it as it is if it is finished: safe to repeat, as a retried "
        "job does. Refused where another picture stands there.",
    ),
]
Overwrite = Annotated[bool, option(OUTPUT, "--overwrite", "Replace what stands there.")]
Png = Annotated[
    Path | None, option(OUTPUT, "--png", "Export the finished picture too: PNG, JPEG or TIFF.", metavar="FILE.png")
]
CanvasPlace = Annotated[
    str, typer.Argument(metavar="CANVAS", help="A canvas: NAME.zarr, or s3://BUCKET/NAME.zarr.", show_default=False)
]
Prompts = Annotated[
    Path,
    typer.Argument(
        help='One picture a line, as JSON: {"prompt": "an island", "seed": 7, "name": "a"}. Any field of a request '
        "may stand there; the options are for lines without it.",
        metavar="PROMPTS.jsonl",
        exists=True,
        dir_okay=False,
        readable=True,
        show_default=False,
    ),
]
OutFolder = Annotated[
    str,
    option(
        OUTPUT,
        "--out",
        "Where canvases and manifest.jsonl go: a directory, or s3://BUCKET/FOLDER.",
        metavar="FOLDER",
        show_default=False,
    ),
]
Pictures = Annotated[
    Literal["png", "jpg", "tif"] | None,
    option(
        OUTPUT,
        "--pictures",
        "Export each picture too, to pictures/ with metadata.jsonl: a folder that image trainers read.",
        show_default=False,
    ),
]
KeepGoing = Annotated[
    bool, option(OUTPUT, "--keep-going/--stop", "What to do after a picture that failed: the others, or nothing more.")
]
Json = Annotated[bool, option(OUTPUT, "--json", "The figures as one JSON document, the last line of stdout.")]
Quiet = Annotated[bool, option(OUTPUT, "--quiet", "Say nothing but errors.")]


@dataclass(frozen=True)
class WorkerOptions:
    """Who paints, and where; decides no pixel."""

    workers: Workers = None
    in_process: InProcess = False
    address: Address = None
    device: Device = "auto"
    worker_resources: WorkerResources = None

    def pool(self) -> dict[str, Any]:
        """The arguments of `raytile.api.make_pool`; raises `InvalidRequest`."""
        from raytile.engine.pool import Crew
        from raytile.engine.ray.session import worker_options

        return {
            "workers": Crew.parse(self.workers),
            "in_process": self.in_process,
            "address": self.address,
            "worker_resources": worker_options(self.worker_resources),
        }


@dataclass(frozen=True)
class CanvasOptions:
    """Which canvas, and what becomes of one that stands there."""

    out: Out = None
    png: Png = None
    overwrite: Overwrite = False
    resume: Resume = False
    snapshot_every: SnapshotEvery = None
    preview_every: PreviewEvery = 0


@dataclass(frozen=True)
class TellOptions:
    """What is told of a finished picture."""

    json: Json = False
    quiet: Quiet = False


def spread(run: Callable[..., None]) -> Callable[..., None]:
    """A command that takes `run`'s parameters as options; for a group of options, each of its fields."""
    hints = get_type_hints(run, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind) and isinstance(kind, type)}
    taken: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(run).parameters.items():
        if name not in groups:
            taken.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        own = get_type_hints(groups[name], include_extras=True)
        for field in fields(groups[name]):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            taken.append(
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=own[field.name]
                )
            )

    def command(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)}) for name, kind in groups.items()
        }
        run(**given, **made)

    command.__name__, command.__doc__ = run.__name__, run.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in taken}
    command.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]  # Typer reads it
    return command


def default_out(prompt: str, seed: int) -> str:
    """A canvas in this directory, named after the prompt and the seed."""
    return f"{slug(prompt) or 'picture'}-{seed}.zarr"


def slug(prompt: str) -> str:
    """The words of a prompt as a file's name has them: at most 48 letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:48].rstrip("-")
