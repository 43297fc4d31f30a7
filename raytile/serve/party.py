"""Renders that a client waits for: watched together, and all called off when it leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
from fastapi import Request

from raytile.errors import RaytileError
from raytile.serve.desk import Desk
from raytile.serve.errors import Conflict, ServiceError
from raytile.serve.records import Record
from raytile.serve.sse import follow

T = TypeVar("T")


class RenderBroke(ServiceError):
    """A picture could not be painted, through no fault of the client."""

    code = "render_failed"


class Left(Exception):
    """The client is gone."""


@dataclass
class Party:
    """The renders of one request of `owner`."""

    desk: Desk
    owner: str
    ids: list[str] = field(default_factory=list)

    async def take(self, submit: Callable[[], Record]) -> str:
        """One more render; its id. Whatever goes wrong calls off all of them."""
        try:
            record = await anyio.to_thread.run_sync(submit)
        except BaseException:
            await self.call_off()
            raise
        self.ids.append(record.id)
        return record.id

    async def events(self, id: str) -> AsyncIterator[dict[str, Any] | None]:
        """What happens in a render (None: nothing, for now) until it is finished. Raises `RenderBroke` or `Conflict` if
        it ends otherwise."""
        async for event in follow(self.desk, id, 0):
            if event is not None and event["event"] == "failed":
                raise RenderBroke(f"render {id} failed: GET /v1/renders/{id} says why")
            if event is not None and event["event"] == "cancelled":
                raise Conflict(f"render {id} was cancelled", "id")
            yield event

    async def finished(self, id: str) -> Record:
        """Wait for a render; its record. Raises as `events` does."""
        async for _ in self.events(id):
            pass
        return await anyio.to_thread.run_sync(self.desk.records.get, id)

    async def call_off(self) -> None:
        """End all that has not ended, whatever else is being cancelled."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._cancel_all)

    def _cancel_all(self) -> None:
        for id in self.ids:
            with suppress(RaytileError):  # it has ended, or is forgotten; or the store is away
                self.desk.cancel(self.owner, id)


async def while_there(request: Request, party: Party, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` gives; all of the party is called off if it fails, or if the client leaves, which raises `Left`."""
    found: list[T] = []
    try:
        async with anyio.create_task_group() as group:

            async def listen() -> None:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(listen)
            found.append(await work())
            group.cancel_scope.cancel()
    except BaseException as error:
        await party.call_off()
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None
    if not found:
        await party.call_off()
        raise Left
    return found[0]
