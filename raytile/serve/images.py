"""OpenAI's image parameters, and what they mean here (Images API, as the `openai` client 3.54 sends it)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raytile.errors import shown
from raytile.plan.request import Share, Wrap
from raytile.serve.errors import BadRequest, NotFound, Unprocessable
from raytile.serve.records import Record
from raytile.serve.schemas import Wish, WishRegion
from raytile.serve.settings import Settings

Output = Literal["png", "jpeg", "webp"]
AUTO = "1024x1024"
SIZE = r"^(auto|[1-9][0-9]{0,6}[xX×][1-9][0-9]{0,6})$"
B64_PIXELS = 2**26
"""Of pictures that go into JSON; larger ones have a URL."""
PARTIAL_SIDE = 1024
PIECE = 3 * 2**16
"""Bytes that become base64 at once: a multiple of three."""
A = TypeVar("A", bound="ImageAsk")


class UnknownParameter(BadRequest):
    """A parameter that is not known: what it should do would be left undone."""

    code = "unknown_parameter"


class NoModel(NotFound):
    """A model that is not offered."""

    code = "model_not_found"


class ImageAsk(BaseModel):
    """What both endpoints take. Accepted and of no effect: quality, moderation, style, user, safety_identifier."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(min_length=1, max_length=10_000)
    model: Annotated[str, Field(max_length=64)] | None = None
    n: Annotated[int, Field(ge=1, le=4)] | None = None
    size: Annotated[str, Field(pattern=SIZE)] | None = Field(default=None, description="WIDTHxHEIGHT, any, or auto.")
    response_format: Literal["url", "b64_json"] | None = None
    output_format: Output | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, description="Quality of jpeg and webp, from 0 to 100."
    )
    quality: Literal["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"] | None = None
    background: Literal["auto", "opaque"] | None = None
    moderation: Literal["low", "auto"] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**62)] | None = Field(default=None, description="raytile: of the first of n.")
    steps: Annotated[int, Field(ge=1, le=500)] | None = None
    guidance: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    negative: Annotated[str, Field(max_length=10_000)] | None = None

    @property
    def format(self) -> Output:
        return self.output_format or "png"

    @property
    def encoding(self) -> int | None:
        """The quality of a lossy file, from 1 to 100."""
        return None if self.output_compression is None else max(1, self.output_compression)

    @property
    def asked_quality(self) -> str:
        """As answers repeat it."""
        return {"standard": "medium", "hd": "high"}.get(self.quality or "auto", self.quality or "auto")


class GenerateAsk(ImageAsk):
    """The body of POST /v1/images/generations; what is not OpenAI's is raytile's (`extra_body`)."""

    style: Literal["vivid", "natural"] | None = None
    wrap: Wrap | None = None
    topology: Literal["flat", "equirectangular", "cube"] | None = None
    regions: list[WishRegion] | None = Field(default=None, max_length=1024)

    def wishes(self, settings: Settings, seed: int) -> list[Wish]:
        """The pictures that are asked for, the first with this seed. Raises `ServiceError`."""
        self.check(settings)
        size = AUTO if self.size in (None, "auto") else self.size
        given = self.model_dump(include=OURS, exclude_none=True, exclude_unset=True)
        return [
            Wish.model_validate({"model": self.model or settings.default_model, "size": size, **given, "seed": each})
            for each in range(seed, seed + (self.n or 1))
        ]

    def check(self, settings: Settings) -> None:
        check_model(self.model, settings)


OURS = {"prompt", "steps", "guidance", "negative", "wrap", "topology", "regions"}


class EditAsk(ImageAsk):
    """The text fields of POST /v1/images/edits."""

    input_fidelity: Literal["high", "low"] | None = None
    strength: Share | None = Field(
        default=None, description="raytile: the share of the steps that is painted anew; 1 heeds nothing of the image."
    )
    feather: Annotated[float, Field(ge=0, le=512, allow_inf_nan=False)] = Field(
        default=16.0, description="raytile: over how many pixels, inside the mask, new goes over into old."
    )


def check_model(name: str | None, settings: Settings) -> None:
    """Raises `NoModel`."""
    if name is not None and name not in settings.models:
        raise NoModel(f"there is no model {shown(name)} here: {', '.join(settings.models)}", "model")


def asked(kind: type[A], values: object) -> A:
    """What a client asks for; raises `UnknownParameter`, `BadRequest` or `Unprocessable`, naming the parameter."""
    if not isinstance(values, dict):
        raise BadRequest("the body must be a JSON object")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        first = problems[0]
        where = ".".join(str(part) for part in first["loc"])[:200]
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            raise UnknownParameter(f"there is no parameter {shown(where)} here", where[:60]) from None
        if first["type"] == "missing":
            raise BadRequest(f"{where}: missing", where) from None
        words = first["msg"].removeprefix("Value error, ")
        raise Unprocessable(f"{where}: {words} (got {shown(first['input'])})", where) from None


def check_answer(ask: ImageAsk, width: int, height: int) -> None:
    """Raise `Unprocessable` where the pictures would not fit into the answer."""
    inline = ask.stream or ask.response_format != "url"
    if inline and width * height * (ask.n or 1) > B64_PIXELS:
        raise Unprocessable(
            f"response_format: {ask.n or 1} of {width}x{height} are too large for base64: take url, without stream",
            "response_format",
        )


def usage(records: list[Record]) -> dict[str, Any]:
    """What the pictures cost, in evaluations of the network: raytile's tokens."""
    total = sum(record.evaluations for record in records)
    return {
        "input_tokens": 0,
        "output_tokens": total,
        "total_tokens": total,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
        "output_tokens_details": {"image_tokens": total, "text_tokens": 0},
    }


def base64_of(file: Path) -> Iterator[bytes]:
    """A file as base64, in pieces."""
    with file.open("rb") as opened:
        while piece := opened.read(PIECE):
            yield base64.b64encode(piece)
