"""The service as an ASGI app: routes, errors in one shape, documentation. No Ray here."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from raytile import __version__
from raytile.errors import RaytileError
from raytile.plan.request import LEVELS
from raytile.serve.desk import Desk
from raytile.serve.errors import BY_STATUS, ServiceError, Unprocessable, body, headers, served
from raytile.serve.guard import BodyRefused, Guard
from raytile.serve.settings import Settings

ROUTES = ("zoom", "renders", "admin", "uploads", "content", "images", "page")
"""Modules `routes_NAME`, each with a `router`: zoom first, since ID.dzi looks like an id; the page last, since it takes
every path that is left."""


_JSON = re.compile(r"\s*application/(json|[\w.+-]+\+json)\s*(;|$)", re.IGNORECASE)
_UNSAID = ("body", "query", "path", "header")


def make_app(settings: Settings, desk: Desk) -> FastAPI:
    """The app of a service, ready for any ASGI server."""
    app = FastAPI(
        title="raytile",
        version=__version__,
        summary="Paint diffusion pictures of any size, and watch them emerge.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.desk, app.state.settings = desk, settings
    refusals(app)
    for name in ROUTES:
        if find_spec(f"raytile.serve.routes_{name}") is not None:
            app.include_router(import_module(f"raytile.serve.routes_{name}").router)
    app.add_middleware(Guard, limit=lambda method, path: _limit(settings, method, path))
    return app


def refusals(app: FastAPI) -> None:
    """Let an app say what went wrong in the one shape."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RaytileError, _ours)


def _limit(settings: Settings, method: str, path: str) -> int | None:
    if method == "POST" and path in ("/v1/uploads", "/v1/images/edits"):
        return None  # they count for themselves, and write to files
    return settings.max_body


def _answer(error: ServiceError) -> JSONResponse:
    return JSONResponse(body(error), error.status, {"cache-control": "no-store", **headers(error)})


async def _ours(_: Request, error: Exception) -> JSONResponse:
    return _answer(served(error))


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error, BodyRefused):
        return _answer(error.error)
    kind = BY_STATUS.get(error.status_code, BY_STATUS[400] if error.status_code < 500 else ServiceError)
    words = {404: "there is nothing at this path", 405: f"this path does not take {request.method}"}
    answer = _answer(kind(words.get(error.status_code, str(error.detail))))
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        answer.headers["Allow"] = ", ".join(_methods(request))
    return answer


def _methods(request: Request) -> list[str]:
    """What the path takes, by any of its routes."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _answer(BY_STATUS[400](f"the body is not JSON: {first.get('ctx', {}).get('error', first['msg'])}"))
    where = ".".join(str(part) for part in first["loc"] if part not in _UNSAID and _is_field(part))
    words = f"must be {LEVELS}" if where == "levels" else str(first["msg"]).removeprefix("Value error, ")
    if first["loc"][:1] == ("body",) and not _JSON.match(request.headers.get("content-type", "")):
        return _answer(BY_STATUS[415]("send JSON, with the header Content-Type: application/json"))
    return _answer(Unprocessable(f"{where}: {words}" if where else words, where or None))


def _is_field(part: object) -> bool:
    """Whether part of a location names a field: pydantic also names the kinds that it tried."""
    return isinstance(part, int) or (isinstance(part, str) and not set("[]'") & {*part} and "-int" not in part)
