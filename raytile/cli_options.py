"""The options that `raytile render` and `raytile plan` share, and the wish they add up to. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from raytile.errors import InvalidRequest

if TYPE_CHECKING:
    from raytile.plan.request import RenderRequest

PICTURE, MODEL, JOINING, WORKERS, OUTPUT = "Picture", "Model", "How windows join", "Workers", "Output"


def _option(panel: str, name: str, help: str, **more: Any) -> Any:
    return typer.Option(name, help=help, rich_help_panel=panel, **more)


Prompt = Annotated[str, typer.Argument(help="What to paint.", show_default=False)]
Size = Annotated[str, _option(PICTURE, "--size", "Width x height in pixels: any size.", metavar="WxH")]
Wrap = Annotated[
    Literal["none", "x", "y", "xy"],
    _option(PICTURE, "--wrap", "Sides that meet without a seam: x joins left and right."),
]
Seed = Annotated[int, _option(PICTURE, "--seed", "Another number, another picture.")]
Negative = Annotated[str, _option(PICTURE, "--negative", "What to keep away from.", show_default=False)]
Model = Annotated[str, _option(MODEL, "--model", "A built-in model, or a diffusers folder.", metavar="NAME|PATH")]
Steps = Annotated[int | None, _option(MODEL, "--steps", "Denoising steps.", show_default="the model's")]
Guidance = Annotated[
    float | None, _option(MODEL, "--guidance", "How hard to follow the prompt.", show_default="the model's")
]
Sampler = Annotated[
    str | None,
    _option(
        MODEL, "--sampler", "ddim, euler, euler_ancestral or dpmpp_2m.", show_default="the model's", metavar="NAME"
    ),
]
Sync = Annotated[
    Literal["shift", "overlap"],
    _option(
        JOINING,
        "--sync",
        "**shift**: each cell is seen once a step, the grid of windows moves. "
        "**overlap**: windows overlap and are averaged, at several times the cost.",
    ),
]
Stride = Annotated[
    float, _option(JOINING, "--stride", "Under overlap: from window to window, in windows.", metavar="FRACTION")
]
Tile = Annotated[
    int | None, _option(JOINING, "--tile", "Pixels a side of what one worker owns.", show_default="two windows")
]
Levels = Annotated[
    str,
    _option(JOINING, "--levels", "Paint a coarse picture first, then finer ones: how many in all.", metavar="auto|N"),
]
MicroBatch = Annotated[
    int | None,
    _option(JOINING, "--micro-batch", "Network rows at once; decides the last bits.", show_default="the model's"),
]
Workers = Annotated[
    int | None,
    _option(WORKERS, "--workers", "How many.", show_default="one per GPU of the cluster, else per CPU core", min=1),
]
InProcess = Annotated[bool, _option(WORKERS, "--in-process", "Render in this process, without Ray.")]
Address = Annotated[
    str | None,
    _option(
        WORKERS,
        "--address",
        "The Ray cluster to use.",
        show_default="a local Ray, started and ended here",
        envvar="RAY_ADDRESS",
    ),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], _option(WORKERS, "--device", "Where the network runs.")]
WorkerResources = Annotated[
    str | None,
    _option(WORKERS, "--worker-resources", 'What a worker asks of Ray, such as {"num_gpus": 0.5}.', metavar="JSON"),
]
Out = Annotated[
    Path | None,
    _option(OUTPUT, "--out", "The canvas.", show_default="named after prompt and seed", metavar="PATH.zarr"),
]
Overwrite = Annotated[bool, _option(OUTPUT, "--overwrite", "Replace what stands there.")]
Png = Annotated[Path | None, _option(OUTPUT, "--png", "Export the finished picture too.", metavar="FILE.png")]
Json = Annotated[bool, _option(OUTPUT, "--json", "The figures as one JSON document, the last line of stdout.")]
Quiet = Annotated[bool, _option(OUTPUT, "--quiet", "Say nothing but errors.")]


@dataclass(frozen=True)
class Wish:
    """What the options add up to: the request, and how and where to render it."""

    request: RenderRequest
    workers: int | None
    in_process: bool
    address: str | None
    device: str
    worker_resources: dict[str, Any]
    out: Path
    overwrite: bool
    png: Path | None
    json: bool
    quiet: bool


def taking_options(run: Callable[[Wish], None]) -> Callable[..., None]:
    """A command with all the options, named and described like `run`, which gets the wish."""

    def command(
        prompt: Prompt,
        size: Size,
        wrap: Wrap = "none",
        seed: Seed = 0,
        negative: Negative = "",
        model: Model = "terra",
        steps: Steps = None,
        guidance: Guidance = None,
        sampler: Sampler = None,
        sync: Sync = "shift",
        stride: Stride = 0.5,
        tile: Tile = None,
        levels: Levels = "auto",
        micro_batch: MicroBatch = None,
        workers: Workers = None,
        in_process: InProcess = False,
        address: Address = None,
        device: Device = "auto",
        worker_resources: WorkerResources = None,
        out: Out = None,
        overwrite: Overwrite = False,
        png: Png = None,
        json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        from raytile.engine.ray.pool import worker_options
        from raytile.plan.request import RenderRequest

        width, height = parse_size(size)
        run(
            Wish(
                request=RenderRequest.parse(
                    prompt=prompt,
                    width=width,
                    height=height,
                    model=model,
                    negative=negative,
                    seed=seed,
                    steps=steps,
                    guidance=guidance,
                    sampler=sampler,
                    sync=sync,
                    stride=stride,
                    tile=tile,
                    levels=parse_levels(levels),
                    wrap=wrap,
                    micro_batch=micro_batch,
                ),
                workers=workers,
                in_process=in_process,
                address=address,
                device=device,
                worker_resources=worker_options(worker_resources),
                out=out or default_out(prompt, seed),
                overwrite=overwrite,
                png=png,
                json=json,
                quiet=quiet,
            )
        )

    command.__name__, command.__doc__ = run.__name__, run.__doc__
    return command


def parse_size(text: str) -> tuple[int, int]:
    """`2048x1024` as (width, height); raises `InvalidRequest`."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*[xX×]\s*(\d{1,9})\s*", text)
    if match is None:
        raise InvalidRequest(f"size: write WIDTHxHEIGHT in pixels, such as 2048x1024 (got {text!r})")
    return int(match[1]), int(match[2])


def parse_levels(text: str) -> str | int:
    """`auto` or a number; raises `InvalidRequest`."""
    if text == "auto":
        return text
    if not text.isdecimal():
        raise InvalidRequest(f"levels: write auto or a number from 1 (got {text!r})")
    return int(text)


def default_out(prompt: str, seed: int) -> Path:
    """A canvas in this directory, named after the prompt and the seed."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:48].rstrip("-")
    return Path(f"{words or 'picture'}-{seed}.zarr")
