"""Deep zoom into renders, finished or not: DeepZoom for viewers such as OpenSeadragon, and the IIIF Image API 3."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import RedirectResponse

from raytile.serve.access import Reader, TheDesk, answers, keys_wanted
from raytile.serve.desk import Desk
from raytile.serve.keys import Who
from raytile.serve.showing import (
    TILERS,
    WATCHERS,
    Gallery,
    Shown,
    descriptor_answer,
    image_answer,
    information_answer,
    tile_answer,
    working,
)

router = APIRouter(prefix="/v1", tags=["zoom"])
Id = Annotated[str, Path(description="The id of a render.", examples=["r" + "0" * 24])]
Part = Annotated[str, Path(max_length=64)]
BINARY = {"schema": {"type": "string", "format": "binary"}}
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "It is what the client has."}}
TILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Pixels where they are painted, else what the painting promises, else grey.",
        "content": {f"image/{kind}": BINARY for kind in ("jpeg", "png", "webp")},
    },
    **NOT_MODIFIED,
}
FOREVER = "max-age=31536000, immutable"


def gallery_of(request: Request) -> Gallery:
    """The pictures that this app's clients look at."""
    state = request.app.state
    if not hasattr(state, "gallery"):
        state.gallery = Gallery()
    gallery: Gallery = state.gallery
    return gallery


def shown_of(desk: Desk, who: Who, id: str) -> Shown:
    """A render of this owner as a picture. Raises `NotFound`."""
    record = desk.get(who.sees, id)
    cache = "no-cache"
    if record.state == "finished":
        cache = f"{'private' if keys_wanted(desk) else 'public'}, {FOREVER}"
    place = None if record.started is None else desk.records.canvas(id)
    return Shown(place, record.request.width, record.request.height, cache)


@router.get(
    "/renders/{id}.dzi",
    response_class=Response,
    responses={200: {"description": "The descriptor.", "content": {"application/xml": {}}}, **answers(404)},
)
def get_descriptor(id: Id, desk: TheDesk, who: Reader) -> Response:
    """The DeepZoom descriptor of a render, from the moment that it is queued."""
    return descriptor_answer(shown_of(desk, who, id))


@router.get("/renders/{id}_files/{level}/{tile}", response_class=Response, responses={**TILES, **answers(404, 429)})
async def get_tile(
    id: Id,
    level: Annotated[str, Path(max_length=64, examples=["9"])],
    tile: Annotated[str, Path(max_length=64, examples=["0_0.jpeg"], description="COLUMN_ROW.FORMAT")],
    request: Request,
    desk: TheDesk,
    who: Reader,
) -> Response:
    """A DeepZoom tile of 512 pixels, as the render stands. Takes `If-None-Match`."""
    gallery = gallery_of(request)
    return await working(lambda: tile_answer(request, gallery, shown_of(desk, who, id), level, tile), TILERS)


@router.get(
    "/iiif/{id}",
    response_class=RedirectResponse,
    status_code=303,
    responses={303: {"description": "See info.json."}, **answers(404)},
)
def get_image_base(id: Id, request: Request, desk: TheDesk, who: Reader) -> Response:
    """Leads to info.json, as the IIIF Image API has it."""
    shown_of(desk, who, id)
    return RedirectResponse(f"{_base(request, id)}/info.json", 303)


@router.get(
    "/iiif/{id}/info.json",
    response_class=Response,
    responses={
        200: {
            "description": "What can be asked for.",
            "content": {"application/ld+json": {}, "application/json": {}},
        },
        **answers(404),
    },
)
def get_information(id: Id, request: Request, desk: TheDesk, who: Reader) -> Response:
    """The IIIF image information of a render."""
    return information_answer(request, shown_of(desk, who, id), _base(request, id))


@router.get(
    "/iiif/{id}/{region}/{size}/{rotation}/{quality}.{format}",
    response_class=Response,
    responses={**TILES, **answers(400, 404, 429, 501)},
)
async def get_image(
    id: Id,
    region: Annotated[str, Path(max_length=64, examples=["full", "square", "0,0,64,64", "pct:0,0,50,50"])],
    size: Annotated[str, Path(max_length=64, examples=["max", "64,", ",64", "pct:50", "!64,64"])],
    rotation: Annotated[str, Path(max_length=64, examples=["0", "90", "!0"])],
    quality: Annotated[str, Path(max_length=64, examples=["default", "gray"])],
    format: Annotated[str, Path(max_length=64, examples=["jpg", "png", "webp"])],
    request: Request,
    desk: TheDesk,
    who: Reader,
) -> Response:
    """Any region of a render at any size, by the IIIF Image API 3.0 (level 2, mirrored too). Nothing is enlarged."""
    gallery, base, parts = gallery_of(request), _base(request, id), (region, size, rotation, quality, format)
    return await working(lambda: image_answer(request, gallery, shown_of(desk, who, id), base, parts), WATCHERS)


def _base(request: Request, id: str) -> str:
    return f"{str(request.base_url).rstrip('/')}/v1/iiif/{id}"
