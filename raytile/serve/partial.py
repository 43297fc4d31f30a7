"""The picture as it is now, a few times while it is painted: OpenAI's partial images."""

from __future__ import annotations

import time
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import anyio

from raytile.errors import CanvasError
from raytile.serve.desk import Desk
from raytile.serve.images import PARTIAL_SIDE, Output


class Partials:
    """Up to `wanted` pictures of render `id`, spread over its steps, as there is something to see; each at most
    `PARTIAL_SIDE` pixels a side."""

    def __init__(self, desk: Desk, id: str, wanted: int, format: Output, quality: int | None) -> None:
        self._desk, self._id, self._wanted, self._format, self._quality = desk, id, wanted, format, quality
        self._given = 0
        self._share, self._fresh = 0.0, False

    @property
    def about(self) -> dict[str, Any]:
        """Of the picture that was given last."""
        return {"partial_image_index": self._given - 1, "created_at": int(time.time())}

    async def after(self, event: Mapping[str, Any]) -> bytes | None:
        """A picture in a file, if after this event of the render's feed it is time for one."""
        if event["event"] == "step":
            self._share = event["data"]["done"] / max(1, event["data"]["total"])
        self._fresh = self._fresh or event["event"] in ("preview", "tile")
        due = self._given < self._wanted and self._share >= (self._given + 1) / (self._wanted + 1)
        if not (due and self._fresh):
            return None
        self._fresh = False
        found = await anyio.to_thread.run_sync(self._picture)
        self._given += found is not None
        return found

    def _picture(self) -> bytes | None:
        from raytile.serve.tiles import picture

        if self._desk.records.get(self._id).terminal:
            return None  # the whole picture follows
        try:
            seen = picture(self._desk.records.canvas(self._id), PARTIAL_SIDE)
        except CanvasError:  # it was just made, or the store is away: the next one comes
            return None
        held = BytesIO()
        options = {} if self._format == "png" else {"quality": self._quality or 85}
        seen.save(held, format=self._format.upper(), **options)
        return held.getvalue()
