"""Renders over HTTP: made, listed, watched, ended, forgotten."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Header, Path, Query, Response

from raytile.serve.access import Painter, Reader, TheDesk, answers
from raytile.serve.desk import Desk
from raytile.serve.errors import ServiceError
from raytile.serve.feed import ENDING
from raytile.serve.names import RENDER
from raytile.serve.records import Record
from raytile.serve.schemas import ID, PlanView, RenderList, RenderView, RepaintWish, UpscaleWish, Wish
from raytile.serve.sse import EventStream, asked_after, follow, streamed

router = APIRouter(prefix="/v1", tags=["renders"])
Id = Annotated[str, Path(description="The id of a render.", examples=["r" + "0" * 24])]
Again = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Any text of your own: sent again with the same body, the same render is answered.",
    ),
]
TAKEN: dict[str, Any] = {
    "description": "Taken in.",
    "headers": {"Location": {"description": "Where the render is.", "schema": {"type": "string"}}},
}
NAMES = ("queued", "started", "step", "preview", "tile", "worker", "rolled_back", *ENDING)
STREAM: dict[str, Any] = {
    "description": "Events, as server-sent events; the last is finished, failed or cancelled.",
    "content": streamed(NAMES, numbered=True),
}


@router.post(
    "/renders",
    status_code=202,
    response_model=RenderView,
    responses={202: TAKEN, 200: {**STREAM, "headers": TAKEN["headers"]}, **answers(404, 409, 429)},
)
def make_render(
    wish: Wish,
    desk: TheDesk,
    who: Painter,
    response: Response,
    again: Again = None,
    stream: Annotated[bool, Query(description="Answer with the render's events.")] = False,
) -> Any:
    """Paint a picture. Answers at once; watch `links.events`, then fetch `links.content`."""
    record = desk.submit(who.owner, wish, again)
    if stream:
        return _watched_by_its_maker(desk, record)
    return _taken(desk, record, response)


@router.get("/renders", responses=answers())
def list_renders(
    desk: TheDesk,
    who: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[
        str | None, Query(pattern=ID.format(RENDER), description="The id of the last one you have.")
    ] = None,
) -> RenderList:
    """Your renders, the newest first."""
    found, more = desk.list(who.sees, after, limit)
    return RenderList(data=[desk.view(record) for record in found], has_more=more)


@router.get("/renders/{id}", responses=answers(404))
def get_render(id: Id, desk: TheDesk, who: Reader) -> RenderView:
    """A render, and how far it is."""
    return desk.view(desk.get(who.sees, id), far=True)


@router.delete(
    "/renders/{id}",
    status_code=202,
    response_model=RenderView,
    responses={204: {"description": "It had ended, and is forgotten with its picture."}, **answers(404, 409)},
)
def delete_render(id: Id, desk: TheDesk, who: Painter) -> Any:
    """End a render that is queued or running (202); forget one that has ended, with its picture (204)."""
    if desk.get(who.sees, id).terminal:
        desk.remove(who.sees, id)
        return Response(status_code=204)
    return desk.view(desk.cancel(who.sees, id))


@router.post("/renders/{id}/cancel", status_code=202, responses=answers(404, 409))
def cancel_render(id: Id, desk: TheDesk, who: Painter) -> RenderView:
    """End a render that is queued or running; what is painted stays."""
    return desk.view(desk.cancel(who.sees, id))


@router.post("/renders/{id}/repaint", status_code=202, responses={202: TAKEN, **answers(404, 409, 429)})
def repaint_render(
    id: Id, wish: RepaintWish, desk: TheDesk, who: Painter, response: Response, again: Again = None
) -> RenderView:
    """Paint parts of a finished render anew, as a render of its own."""
    return _taken(desk, desk.repaint(who.owner, id, wish, again), response)


@router.post("/renders/{id}/upscale", status_code=202, responses={202: TAKEN, **answers(404, 409, 429)})
def upscale_render(
    id: Id, wish: UpscaleWish, desk: TheDesk, who: Painter, response: Response, again: Again = None
) -> RenderView:
    """Paint a finished render larger, as a render of its own."""
    return _taken(desk, desk.upscale(who.owner, id, wish, again), response)


@router.get(
    "/renders/{id}/events",
    response_class=Response,
    responses={
        200: STREAM,
        204: {"description": "You have seen all of its events: there is nothing to come back for."},
        **answers(404),
    },
)
def watch_render(
    id: Id,
    desk: TheDesk,
    who: Reader,
    last: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
    after: Annotated[int | None, Query(ge=0, le=10**12, description="The id of the last event you have seen.")] = None,
) -> Response:
    """What happens in a render, from its beginning or after the event that you name."""
    record = desk.get(who.sees, id)
    seen = asked_after(last, after)
    if seen and record.terminal:
        rest = desk.feed(id, seen - 1).read()
        if not rest or (rest[-1]["id"] == seen and rest[-1]["event"] in ENDING):
            return Response(status_code=204)
    return EventStream(follow(desk, id, seen))


@router.post("/plans", responses=answers(404))
def make_plan(wish: Wish, desk: TheDesk, who: Reader) -> PlanView:
    """What a wish would take; paints nothing."""
    return desk.plan(who.owner, wish)


def _watched_by_its_maker(desk: Desk, record: Record) -> EventStream:
    """The events of a render for whoever made it; if they want so, it ends when they leave."""

    def cancel() -> None:
        try:
            desk.cancel(record.owner, record.id)
        except ServiceError:  # it has ended, or is gone
            return

    async def gone() -> None:
        await anyio.to_thread.run_sync(cancel)

    leave = gone if record.cancel_on_disconnect else None
    return EventStream(follow(desk, record.id, 0), leave, headers={"Location": f"/v1/renders/{record.id}"})


def _taken(desk: Desk, record: Record, response: Response) -> RenderView:
    response.headers["Location"] = f"/v1/renders/{record.id}"
    return desk.view(record)
