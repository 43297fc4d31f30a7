"""Where on the picture something is wanted: shapes, and the regions of a scene."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Number = Annotated[float, Field(allow_inf_nan=False, ge=-(2**21), le=2**21)]
Length = Annotated[float, Field(allow_inf_nan=False, gt=0, le=2**21)]
Corner = Annotated[int, Field(ge=0, le=2**20)]
Side = Annotated[int, Field(ge=1, le=2**20)]
MAX_CORNERS = 10_000


class Picture(BaseModel):
    """An image file or a canvas to take in. `sha256` says what is in it, `size` how large it is (width, height, in
    pixels); both are settled by `raytile.api.plan`. Where it lies, `path`, decides no pixel. `lit`, of a mask: the box
    (x, y, width, height), in pixels of the finished picture, outside which it is black."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    size: tuple[Side, Side] | None = None
    lit: tuple[Corner, Corner, Side, Side] | None = None


class Shape(BaseModel):
    """A part of the picture: one of `box` (x, y, width, height), `polygon` ((x, y), ...) and `mask` (an image as large
    as the picture, or scaled to it: white is inside). In pixels of the finished picture, from its top left corner; on a
    wrapped picture a box may run on beyond the side. `feather`: over how many pixels its edge fades (a
    region's mask fades by its greys instead)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    box: tuple[Number, Number, Length, Length] | None = None
    polygon: Annotated[tuple[tuple[Number, Number], ...], Field(min_length=3, max_length=MAX_CORNERS)] | None = None
    mask: Picture | None = None
    feather: float = Field(default=0.0, ge=0, le=2**20, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one(self) -> Shape:
        if sum(wish is not None for wish in (self.box, self.polygon, self.mask)) != 1:
            raise ValueError("give one of box, polygon and mask")
        return self


class Region(Shape):
    """A shape with words of its own. What is None is the request's. Where regions overlap they mix by `weight`; the
    base prompt has what they leave. `seed`: other noise, so another variation of this region alone."""

    prompt: str = Field(max_length=10_000)
    negative: str | None = Field(default=None, max_length=10_000)
    guidance: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    weight: float = Field(default=1.0, gt=0, le=100, allow_inf_nan=False)


class TilePicture(BaseModel):
    """One picture of a tileset, by size in pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    width: int = Field(ge=1, le=2**17)
    height: int = Field(ge=1, le=2**17)


class TileSeam(BaseModel):
    """Any side of `one` may lie against any side of `other` ("name.right"). Sides of `one` are alike among themselves,
    and those of `other`. `mirrored`: they meet with one of the two turned over."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    one: tuple[str, ...] = Field(min_length=1, max_length=1024)
    other: tuple[str, ...] = Field(min_length=1, max_length=1024)
    mirrored: bool = False


class Tileset(BaseModel):
    """Pictures whose sides must match, laid out on one canvas (see `raytile.geometry.atlas`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: tuple[TilePicture, ...] = Field(min_length=1, max_length=1024)
    seams: tuple[TileSeam, ...] = Field(default=(), max_length=4096)
