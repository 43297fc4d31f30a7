"""What clients send and get, as JSON: wishes name uploads and renders by id, never a path."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from raytile.plan.request import MAX_SIDE, Enlarge, Form, Share, Sync, Weights, Wrap
from raytile.plan.scene import Region, Shape, Tileset
from raytile.serve.names import RENDER, UPLOAD
from raytile.serve.records import Kind, Record, State

Words = Annotated[str, Field(max_length=10_000)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Label = Annotated[str, Field(min_length=1, max_length=64)]
Note = Annotated[str, Field(max_length=512)]
Size = Annotated[
    str,
    Field(
        pattern=r"^[1-9][0-9]{0,6}[xX×][1-9][0-9]{0,6}$", examples=["2048x1024"], description="WIDTHxHEIGHT in pixels."
    ),
]
ID = "^{}[0-9a-f]{{24}}$"
SERVICE = {"priority", "metadata", "cancel_on_disconnect"}
"""Fields of a wish that say nothing of the picture."""


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PictureRef(_Closed):
    """A picture of the service: an upload, or a finished render."""

    upload: str | None = Field(default=None, pattern=ID.format(UPLOAD))
    render: str | None = Field(default=None, pattern=ID.format(RENDER))

    @model_validator(mode="after")
    def _one(self) -> PictureRef:
        if (self.upload is None) == (self.render is None):
            raise ValueError("give the id of an upload or of a render")
        return self


class WishShape(Shape):
    """A part of the picture: one of `box` [x, y, width, height], `polygon` [[x, y], ...] and `mask` (white is inside),
    its edge fading over `feather`."""

    mask: PictureRef | None = None  # type: ignore[assignment] # clients name ids where requests have paths


class WishRegion(Region):
    """A shape with words of its own; what is left out is the picture's. Regions mix by `weight` where they overlap."""

    mask: PictureRef | None = None  # type: ignore[assignment] # clients name ids where requests have paths
    name: str | None = Field(default=None, max_length=64)


class _Wish(_Closed):
    """What every wish may have."""

    negative: Words | None = None
    style: Annotated[str, Field(max_length=2000)] | None = Field(
        default=None, description="Words set before the prompt and those of every region."
    )
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    steps: int | None = Field(default=None, ge=1, le=500)
    guidance: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    guidance_interval: tuple[float, float] | None = None
    sampler: Annotated[str, Field(max_length=64)] | None = None
    sync: Sync | None = None
    stride: float | None = Field(default=None, ge=0.125, le=1, allow_inf_nan=False)
    weights: Weights | None = None
    strength: Share | None = Field(default=None, description="Share of the steps that a source is painted anew for.")
    regions: list[WishRegion] | None = Field(default=None, max_length=1024)
    units: Literal["pixels", "share"] | None = Field(
        default=None, description="Of shapes: pixels, or shares of width and height (feathers: of the shorter side)."
    )
    control: PictureRef | None = None
    priority: int = Field(default=0, ge=-10, le=10)
    metadata: dict[Label, Note] = Field(default_factory=dict, max_length=16)
    cancel_on_disconnect: bool = Field(default=False, description="With ?stream=true: end when the client leaves.")

    def of_picture(self) -> dict[str, Any]:
        """The fields that were given, of those that decide the picture."""
        return self.model_dump(exclude_unset=True, exclude_none=True, exclude=SERVICE)


class _Sized(_Wish):
    size: Size | None = None
    width: Side | None = None
    height: Side | None = None
    renoise: Share | None = None
    skip_residual: bool | None = None
    dilated: bool | None = None
    enlarge: Enlarge | None = None
    match_colour: bool | None = None
    levels: Literal["auto"] | Annotated[int, Field(ge=1, le=16)] | None = None


class Wish(_Sized):
    """A picture to paint. What is left out takes the model's default; a size is needed unless a source has one."""

    prompt: Words
    model: Annotated[str, Field(max_length=64)] | None = None
    wrap: Wrap | None = None
    topology: Form | None = None
    tileset: Tileset | None = None
    tile: int | None = Field(default=None, ge=64, le=8192)
    source: PictureRef | None = None


class RepaintWish(_Wish):
    """A finished render with some shapes painted anew; what is left out is that render's."""

    repaint: list[WishShape] = Field(min_length=1, max_length=1024)
    prompt: Words | None = None


class UpscaleWish(_Sized):
    """A finished render painted larger; what is left out is that render's."""

    prompt: Words | None = None


class Links(_Closed):
    """Where to go on, as paths of this service."""

    self: str
    events: str
    content: str
    dzi: str
    iiif: str


class Progress(_Closed):
    """How far the canvas is: step `step` of `steps` of level `level` of `levels`, `tiles_done` of all tiles."""

    level: int
    levels: int
    step: int
    steps: int
    tiles_done: int


class RenderView(_Closed):
    """A render as its client sees it. Times are seconds since 1970; `tile` is in pixels a side."""

    id: str
    object: Literal["render"] = "render"
    kind: Kind
    state: State
    parent: str | None
    created: float
    started: float | None
    ended: float | None
    width: int
    height: int
    steps: int | None
    seed: int
    model: str
    tile: int
    tiles: int
    columns: int
    evaluations: int
    priority: int
    metadata: dict[str, str]
    request: dict[str, Any] = Field(description="The wish as it was sent.")
    cancel_asked: bool
    progress: Progress | None
    error: str | None
    digest: str | None
    links: Links

    @classmethod
    def of(cls, record: Record, model: str, progress: Progress | None = None) -> RenderView:
        request, path = record.request, f"/v1/renders/{record.id}"
        return cls(
            **record.model_dump(
                include={
                    "id", "kind", "state", "parent", "created", "started", "ended", "tile", "tiles", "evaluations",
                    "priority", "metadata", "cancel_asked", "error", "digest",
                }
            ),
            width=request.width,
            height=request.height,
            steps=request.steps,
            seed=request.seed,
            model=model,
            columns=math.ceil(request.width / record.tile) if record.tile else 0,
            request=record.shown,
            progress=progress,
            links=Links(
                self=path,
                events=f"{path}/events",
                content=f"{path}/content",
                dzi=f"{path}.dzi",
                iiif=f"/v1/iiif/{record.id}/info.json",
            ),
        )  # fmt: skip


class RenderList(_Closed):
    """Renders, the newest first; the next page begins `after` the last of them."""

    object: Literal["list"] = "list"
    data: list[RenderView]
    has_more: bool


class PlanLevel(_Closed):
    width: int
    height: int
    steps: int
    windows: int


class PlanView(_Closed):
    """What a wish would take. `evaluations`: rows through the network, `rows`: with what only fills batches.
    `seconds`: by the pace of past renders of the model, null if there are none. `cost`: null where the service quotes
    none. `bytes`: of pixels and latents, before they are packed."""

    object: Literal["plan"] = "plan"
    width: int
    height: int
    model: str
    seed: int
    sampler: str
    steps: int
    levels: list[PlanLevel]
    evaluations: int
    rows: int
    windows: int
    tiles: int
    tile: int
    useful_workers: int
    bytes: int
    memory_bytes: int
    seconds: float | None
    cost: float | None


class Health(_Closed):
    status: Literal["ok"] = "ok"


class Stats(_Closed):
    """How busy the service is. `evaluations_per_second`: of one render, over those that finished last."""

    object: Literal["stats"] = "stats"
    queued: int
    running: int
    evaluations_waiting: int
    evaluations_per_second: float | None
    crew: dict[str, Any]


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """The one shape of every refusal."""

    error: ErrorBody
