"""The options that say what to paint, and what they add up to. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from raytile.cli_options import option
from raytile.errors import InvalidRequest
from raytile.scenes import Layer, layer, read_scene

PICTURE, MODEL, JOINING = "Picture", "Model", "How windows join"
START, LEVELS = "What to start from", "From coarse to fine"
ANY_SIZE = "Width x height in pixels: any size."
CASCADES: Mapping[str | None, Mapping[str, object]] = {
    "fast": {"renoise": 0.25},
    "demofusion": {"renoise": 1.0, "skip_residual": True, "dilated": True},
}

Prompt = Annotated[str | None, typer.Argument(help="What to paint.", show_default="the scene's")]
Size = Annotated[
    str | None,
    option(
        PICTURE,
        "--size",
        f"{ANY_SIZE} For a cube one number, a face's side.",
        metavar="WxH",
        show_default="the scene's, or the source's",
    ),
]
DefaultSize = Annotated[
    str | None,
    option(PICTURE, "--size", f"{ANY_SIZE} For lines without width and height.", metavar="WxH", show_default=False),
]
Scene = Annotated[
    Path | None,
    option(
        PICTURE,
        "--scene",
        "A scene of YAML or JSON: any field of a request, and regions with words of their own. Options win over it.",
        metavar="FILE",
        show_default=False,
    ),
]
Wrap = Annotated[
    Literal["none", "x", "y", "xy"] | None,
    option(PICTURE, "--wrap", "Sides that meet without a seam: x joins left and right.", show_default="none"),
]
Topology = Annotated[
    str | None,
    option(
        PICTURE,
        "--topology",
        "**flat**; **equirectangular**: a whole sphere, twice as wide as high; **cube**: a sphere on six faces; "
        "**tileset:FILE.json**: pictures whose sides match.",
        metavar="NAME",
        show_default="flat",
    ),
]
Seed = Annotated[int | None, option(PICTURE, "--seed", "Another number, another picture.", show_default="0")]
Negative = Annotated[str | None, option(PICTURE, "--negative", "What to keep away from.", show_default=False)]
Model = Annotated[
    str | None,
    option(MODEL, "--model", "A built-in model, or a diffusers folder.", metavar="NAME|PATH", show_default="terra"),
]
Steps = Annotated[int | None, option(MODEL, "--steps", "Denoising steps.", show_default="the model's")]
Guidance = Annotated[
    float | None, option(MODEL, "--guidance", "How hard to follow the prompt.", show_default="the model's")
]
Sampler = Annotated[
    str | None,
    option(MODEL, "--sampler", "ddim, euler, euler_ancestral or dpmpp_2m.", show_default="the model's", metavar="NAME"),
]
Control = Annotated[
    Path | None,
    option(
        MODEL,
        "--control",
        "A picture that steers the model, scaled to the canvas: for terra a map of land, white, and water, black.",
        metavar="FILE",
        show_default=False,
    ),
]
Source = Annotated[
    str | None,
    option(
        START,
        "--source",
        "A picture, or a finished canvas, that is painted anew from where --strength leaves it.",
        metavar="FILE|CANVAS",
        show_default=False,
    ),
]
Strength = Annotated[
    float | None,
    option(
        START,
        "--strength",
        "How much of the source is painted anew, as a share of the steps.",
        metavar="SHARE",
        show_default="by what is done with it",
    ),
]
MatchColour = Annotated[
    bool | None,
    option(START, "--match-colour/--no-match-colour", "Keep the colours of the source, enlarged.", show_default="no"),
]
Sync = Annotated[
    Literal["shift", "overlap"] | None,
    option(
        JOINING,
        "--sync",
        "**shift**: each cell is seen once a step, the grid of windows moves. "
        "**overlap**: windows overlap and are averaged, at several times the cost.",
        show_default="shift",
    ),
]
Stride = Annotated[
    float | None,
    option(
        JOINING,
        "--stride",
        "Under overlap: from window to window, in windows.",
        metavar="FRACTION",
        show_default="0.5",
    ),
]
Tile = Annotated[
    int | None, option(JOINING, "--tile", "Pixels a side of what one worker owns.", show_default="two windows")
]
MicroBatch = Annotated[
    int | None,
    option(JOINING, "--micro-batch", "Network rows at once; decides the last bits.", show_default="the model's"),
]
Levels = Annotated[
    str | None,
    option(
        LEVELS,
        "--levels",
        "Paint a coarse picture first, then finer ones: how many in all.",
        metavar="auto|N",
        show_default="auto",
    ),
]
Cascade = Annotated[
    Literal["fast", "demofusion"] | None,
    option(
        LEVELS,
        "--cascade",
        "A name for some of these: **fast** is --renoise 0.25, **demofusion** --renoise 1 --skip-residual --dilated.",
        show_default=False,
    ),
]
Renoise = Annotated[
    float | None,
    option(
        LEVELS,
        "--renoise",
        "How much of a level is painted anew on the next, as a share of the steps.",
        metavar="SHARE",
        show_default="the model's",
    ),
]
SkipResidual = Annotated[
    bool | None,
    option(
        LEVELS,
        "--skip-residual/--no-skip-residual",
        "Hold a level to the one before, less and less.",
        show_default="no",
    ),
]
Dilated = Annotated[
    bool | None,
    option(
        LEVELS,
        "--dilated/--no-dilated",
        "Finer levels also see the whole canvas thinned out, at twice the cost.",
        show_default="no",
    ),
]
Enlarge = Annotated[
    Literal["latents", "pixels"] | None,
    option(LEVELS, "--enlarge", "What of a level is enlarged to begin the next.", show_default="latents"),
]


@dataclass(frozen=True)
class PictureOptions:
    """What to paint, but for the words, the size and what to start from; None where nothing is said of it."""

    wrap: Wrap = None
    topology: Topology = None
    seed: Seed = None
    negative: Negative = None
    model: Model = None
    steps: Steps = None
    guidance: Guidance = None
    sampler: Sampler = None
    control: Control = None
    strength: Strength = None
    match_colour: MatchColour = None
    sync: Sync = None
    stride: Stride = None
    tile: Tile = None
    micro_batch: MicroBatch = None
    levels: Levels = None
    cascade: Cascade = None
    renoise: Renoise = None
    skip_residual: SkipResidual = None
    dilated: Dilated = None
    enlarge: Enlarge = None

    def values(self, **more: object) -> dict[str, Any]:
        """What was said, and what of `more` is not None, as a layer of a scene has it (see `raytile.scenes`)."""
        said = {name: value for name, value in ({**vars(self), **more}).items() if value is not None}
        if "levels" in said:
            said["levels"] = parse_levels(said["levels"])
        return {**CASCADES.get(said.pop("cascade", None), {}), **said}


@dataclass(frozen=True)
class SceneOptions:
    """Where the request begins: a scene, a source."""

    scene: Scene = None
    source: Source = None

    def layers(self, picture: PictureOptions, **more: object) -> tuple[Layer, ...]:
        """The scene and the options, for `raytile.scenes.settle`; `more` are fields beside."""
        said = layer(picture.values(source=self.source, **more))
        return (said,) if self.scene is None else (read_scene(self.scene), said)


def parse_levels(text: str) -> str | int:
    """`auto` or a number; raises `InvalidRequest`."""
    if text == "auto":
        return text
    if not text.isdecimal():
        raise InvalidRequest(f"levels: write auto or a number from 1 (got {text!r})")
    return int(text)
