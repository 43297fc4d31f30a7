"""What handlers ask of a request: the desk, and who is there."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from raytile.serve.desk import Desk
from raytile.serve.errors import BY_STATUS, Forbidden
from raytile.serve.keys import LOCAL, Scope, Who
from raytile.serve.schemas import Error
from raytile.serve.settings import Settings

LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
_SCHEME = HTTPBearer(auto_error=False, description="An API key: `raytile keys add` makes one.")


def desk_of(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def keys_wanted(desk: Desk) -> bool:
    """Whether requests need a key: as it is set, else wherever there are keys, and always off loopback."""
    settings = desk.settings
    if settings.keys != "auto":
        return settings.keys == "on"
    return not is_loopback(settings) or desk.keys.any()


def is_loopback(settings: Settings) -> bool:
    return settings.host in LOOPBACK


def who_asks(request: Request, desk: Annotated[Desk, Depends(desk_of)]) -> Who:
    """Who sent this request. Raises `Unauthorized`; without keys, `Forbidden` for what a web page of elsewhere sent."""
    if keys_wanted(desk):
        return desk.keys.who(request.headers.get("authorization"))
    if not _near(request):
        raise Forbidden("without API keys this service is asked from its own machine only")
    # A browser on this machine sends what any page tells it to, under whatever name that page has for loopback.
    if is_loopback(desk.settings) and host_name(request.headers.get("host", "")) not in LOOPBACK:
        raise Forbidden("without API keys this service is asked as localhost only")
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise Forbidden("without API keys this service is not asked by pages of elsewhere")
    return LOCAL


def _near(request: Request) -> bool:
    """Whether the other end of the connection is on this machine, as far as it has an address."""
    try:
        return request.client is None or ip_address(request.client.host).is_loopback
    except ValueError:  # a socket file, a test
        return True


def host_name(host: str) -> str:
    """The name in a Host header, without the port."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _may(scope: Scope) -> Any:
    def check(who: Annotated[Who, Depends(who_asks)], _: Annotated[object, Depends(_SCHEME)]) -> Who:
        who.must(scope)
        return who

    return Depends(check)


TheDesk = Annotated[Desk, Depends(desk_of)]
Reader = Annotated[Who, _may("read")]
Painter = Annotated[Who, _may("render")]
Admin = Annotated[Who, _may("admin")]


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for its documentation: those of every route of /v1, and these."""
    common = (400, 401, 403, 408, 413, 415, 422, 500, 503)
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*common, *statuses}):
        kind = BY_STATUS[status]
        found[status] = {"model": Error, "description": (kind.__doc__ or "").partition("\n")[0]}
        if status in (429, 503):
            found[status]["headers"] = {
                "Retry-After": {"description": "Whole seconds to wait.", "schema": {"type": "integer"}}
            }
    return found
