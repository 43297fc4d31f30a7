"""The user's wish, validated: a `RenderRequest` and nothing else decides the pixels of a picture."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raytile.errors import InvalidRequest
from raytile.errors import shown as shown  # also for those who speak of requests
from raytile.plan.scene import Picture, Region, Shape, Tileset

MAX_SIDE = 2**20
Sync = Literal["shift", "overlap"]
Weights = Literal["uniform", "gaussian", "linear"]
Wrap = Literal["none", "x", "y", "xy"]
Dtype = Literal["float32", "float16", "bfloat16"]
Form = Literal["flat", "equirectangular", "cube"]
Enlarge = Literal["latents", "pixels"]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
LEVELS = "'auto' or a whole number from 1 to 16"


class RenderRequest(BaseModel):
    """One picture to paint. What is left at None takes the model's default when it is planned.

    width, height, tile: pixels. stride: share of the window between neighbours under `overlap`.
    levels: how many times coarser pictures are painted first ("auto": from two windows up).
    guidance_interval: share [a, b) of the step index in which guidance applies.
    micro_batch: rows that go through the network at once, the last batch padded; part of the request because it
    decides the last bits of the pixels.

    How sides meet: `wrap`, or `topology` (a whole sphere as equirectangular map, or as cube of 3 x 2 faces: right,
    left, top / bottom, front, back), or a `tileset`.
    `regions`: where other words hold. `control`: a picture that steers the model (see `ModelSpec.control`).
    Finer levels: `renoise`, the share of the steps they are painted anew for; `skip_residual`: kept close to the level
    before, less and less; `dilated`: with a lane of windows that see the whole canvas thinned out; `enlarge`: how.
    `source`: a picture to start from, noised to `strength` (a share of the steps); smaller than the canvas it is
    enlarged, with `match_colour` keeping its colours. `repaint`: only there is a finished canvas painted anew;
    `place`: where its (x, y) lies on a larger canvas, whose new parts are painted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(max_length=10_000)
    width: int = Field(ge=1, le=MAX_SIDE)
    height: int = Field(ge=1, le=MAX_SIDE)
    model: str = "terra"
    negative: str = Field(default="", max_length=10_000)
    seed: int = Field(default=0, ge=0, lt=2**63)
    steps: int | None = Field(default=None, ge=1, le=500)
    guidance: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    guidance_interval: tuple[float, float] | None = None
    sampler: str | None = None
    sync: Sync = "shift"
    stride: float = Field(default=0.5, gt=0, le=1, allow_inf_nan=False)
    weights: Weights = "gaussian"
    tile: int | None = Field(default=None, ge=1, le=MAX_SIDE)
    levels: Literal["auto"] | Annotated[int, Field(ge=1, le=16)] = "auto"
    wrap: Wrap = "none"
    dtype: Dtype = "float32"
    micro_batch: int | None = Field(default=None, ge=1, le=256)
    topology: Form = "flat"
    tileset: Tileset | None = None
    regions: tuple[Region, ...] = Field(default=(), max_length=1024)
    control: Picture | None = None
    renoise: Share | None = None
    skip_residual: bool = False
    dilated: bool = False
    enlarge: Enlarge = "latents"
    source: Picture | None = None
    strength: Share | None = None
    match_colour: bool = False
    repaint: tuple[Shape, ...] = Field(default=(), max_length=1024)
    place: tuple[int, int] | None = None

    @classmethod
    def parse(cls, **values: object) -> RenderRequest:
        """Build from untrusted values; raises `InvalidRequest`, one line that names the field."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"] if part not in ("constrained-int", "literal['auto']"))
            wanted = LEVELS if where == "levels" else first["msg"]
            raise InvalidRequest(f"{where}: {wanted} (got {shown(first['input'])})") from None
