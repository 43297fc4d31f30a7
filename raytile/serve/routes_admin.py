"""For those who run the service: is it alive, is it ready, how busy is it."""

from __future__ import annotations

from fastapi import APIRouter

from raytile.errors import CanvasError
from raytile.serve.access import Reader, TheDesk, answers
from raytile.serve.errors import BY_STATUS, Unavailable
from raytile.serve.schemas import Error, Health, Stats

router = APIRouter(tags=["service"])


@router.get("/healthz", responses={500: {"model": Error, "description": "A bug."}})
async def alive() -> Health:
    """Whether this process answers: at once, however much its threads have to do."""
    return Health()


@router.get("/readyz", responses={503: {"model": Error, "description": BY_STATUS[503].__doc__ or ""}})
def ready(desk: TheDesk) -> Health:
    """Whether renders can be taken in: the store answers, and there is somebody who paints."""
    try:
        desk.records.objects.exists("ready")
    except CanvasError:
        raise Unavailable("the store does not answer", retry_after=5) from None
    if not desk.crew.stats().get("ready", True):
        raise Unavailable("nobody is there yet to paint", retry_after=5)
    return Health()


@router.get("/v1/stats", responses=answers())
def stats(desk: TheDesk, who: Reader) -> Stats:  # noqa: ARG001 (whoever may read)
    """How busy the service is."""
    return desk.stats()
