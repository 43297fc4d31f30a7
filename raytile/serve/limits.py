"""What is taken in: how large a picture may be, and how much may wait."""

from __future__ import annotations

from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from raytile.serve.errors import Busy, Unprocessable
from raytile.serve.ledger import Ledger
from raytile.serve.settings import Settings

MAX_TILES = 2**16


def check_request(request: RenderRequest, settings: Settings) -> None:
    """Before any planning. Raises `Unprocessable`."""
    for name, side in (("width", request.width), ("height", request.height)):
        if side > settings.max_side:
            raise Unprocessable(f"{name}: at most {settings.max_side} pixels here (got {side})", name)
    pixels = request.width * request.height
    if pixels > settings.max_pixels:
        raise Unprocessable(
            f"size: at most {settings.max_pixels} pixels here, {request.width}x{request.height} are {pixels}", "size"
        )
    for name, shapes in (("regions", request.regions), ("repaint", request.repaint)):
        if len(shapes) > settings.max_regions:
            raise Unprocessable(f"{name}: at most {settings.max_regions} here (got {len(shapes)})", name)


def check_plan(plan: Plan, settings: Settings) -> None:
    """Before it is kept. Raises `Unprocessable`."""
    if plan.steps > settings.max_steps:
        raise Unprocessable(f"steps: at most {settings.max_steps} here (got {plan.steps})", "steps")
    if plan.tiling.count > MAX_TILES:
        raise Unprocessable(f"tile: makes {plan.tiling.count} tiles, at most {MAX_TILES}: choose larger ones", "tile")


def admit(ledger: Ledger, settings: Settings, owner: str, running: int) -> None:
    """Whether one more render of `owner` may wait. Raises `Busy`, with the seconds to wait."""
    waiting = ledger.waiting()
    if len(waiting) >= settings.max_queue:
        raise Busy("the queue is full: come again later", retry_after=ledger.retry_after(None, running))
    mine = sum(each.owner == owner for each in waiting.values())
    if mine >= settings.max_renders_per_key:
        raise Busy(
            f"{mine} renders of this key have not ended, at most {settings.max_renders_per_key} may: come again later",
            retry_after=ledger.retry_after(owner, running),
        )
