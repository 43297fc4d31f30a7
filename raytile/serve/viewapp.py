"""One canvas to look at, wherever it lies, finished or being painted by anybody: what `raytile view` serves."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import Depends, FastAPI, Request, Response

from raytile.canvas import place as places
from raytile.canvas import store
from raytile.canvas.head import Head
from raytile.serve.access import LOOPBACK, host_name
from raytile.serve.asgi import refusals
from raytile.serve.errors import Forbidden
from raytile.serve.guard import Guard
from raytile.serve.routes_page import make_router
from raytile.serve.showing import Gallery, Shown, descriptor_answer, image_answer, information_answer, tile_answer

CACHE = "no-cache"
"""The canvas of this name may be another tomorrow; tags spare what has not changed."""


def make_view_app(canvas: str) -> FastAPI:
    """The app that shows `canvas`, read-only, to browsers on this machine. Raises `CanvasError` if it does not open."""
    where = store.open(canvas).path
    app = FastAPI(
        title="raytile view",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        dependencies=[Depends(_nearby)],
    )
    refusals(app)
    gallery = Gallery()

    def head() -> Head:
        return store.open(where).head()

    def shown() -> Shown:
        request = head().request
        return Shown(where, request.width, request.height, CACHE)

    @app.get("/v1/view")
    def view() -> dict[str, Any]:
        """What the canvas is and how far it came; `tag` is another whenever there may be something new to see."""
        now = head()
        far = {"level": now.level, "levels": now.levels, "step": now.step, "steps": now.steps, "tiles_done": now.done}
        seen = f"{now.created} {now.state} {far} {now.claims}"
        return {
            "name": places.name(where),
            "state": now.state,
            "width": now.request.width,
            "height": now.request.height,
            "request": now.request.model_dump(mode="json", include={"prompt", "seed", "wrap", "topology"}),
            "tiles": now.tiles_total,
            "progress": far,
            "tag": hashlib.sha256(seen.encode()).hexdigest()[:16],
        }

    @app.get("/v1/view.dzi")
    def descriptor() -> Response:
        return descriptor_answer(shown())

    @app.get("/v1/view_files/{level}/{tile}")
    def tile(level: str, tile: str, request: Request) -> Response:
        return tile_answer(request, gallery, shown(), level, tile)

    @app.get("/v1/iiif/view/info.json")
    def information(request: Request) -> Response:
        return information_answer(request, shown(), _base(request))

    @app.get("/v1/iiif/view/{region}/{size}/{rotation}/{quality}.{format}")
    def image(region: str, size: str, rotation: str, quality: str, format: str, request: Request) -> Response:
        parts = region, size, rotation, quality, format
        return image_answer(request, gallery, shown(), _base(request), parts)

    app.include_router(make_router("view.html"))
    app.add_middleware(Guard, limit=lambda method, path: 0)  # noqa: ARG005 (nobody sends a body)
    return app


def _nearby(request: Request) -> None:
    """A page of elsewhere may have a name of its own for this machine: it reads nothing here."""
    if host_name(request.headers.get("host", "")) not in LOOPBACK:
        raise Forbidden("this is asked as localhost only")


def _base(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}/v1/iiif/view"
