"""Many pictures from one file of requests: all checked first, then painted one after the other over one pool."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytile import api
from raytile.canvas import store
from raytile.canvas.export import JPEG_SIDE
from raytile.cli_options import slug
from raytile.errors import InvalidRequest, RaytileError, RenderCancelled, RenderFailed, first_line, shown
from raytile.scenes import Layer, layer, settle

if TYPE_CHECKING:
    from raytile.canvas.canvas import Canvas
    from raytile.engine.pool import Pool
    from raytile.events import Listener
    from raytile.plan.plan import Plan
    from raytile.plan.request import RenderRequest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Order:
    """A line of the file: the picture's name in its folder, and its plan."""

    line: int
    name: str
    plan: Plan


def read_orders(file: str | os.PathLike[str], defaults: Sequence[Layer], ending: str | None = None) -> list[Order]:
    """Read and check every line of `file`: a JSON object with "prompt", any field of a scene, and "name".

    `defaults` are for what a line leaves out; paths in a line are relative to the file; `ending` is that of the files
    to export to. Raises `InvalidRequest` or `InvalidModel`, naming the line."""
    orders: dict[str, Order] = {}
    with open(file, encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    order = _order(number, line, defaults, Path(file).parent)
                    if order.name in orders:
                        raise InvalidRequest(
                            f"line {number}: its name {order.name!r} is that of line {orders[order.name].line} too:"
                            ' give it a "name" or a seed of its own'
                        )
                    if ending == "jpg" and max(order.plan.request.width, order.plan.request.height) > JPEG_SIDE:
                        raise InvalidRequest(
                            f"line {number}: JPEG holds at most {JPEG_SIDE} pixels a side: export to png or tif"
                        )
                    orders[order.name] = order
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"{file} is not UTF-8 text ({error.reason})") from None
    if not orders:
        raise InvalidRequest(f'{file} has no lines: write one JSON object a line, such as {{"prompt": "an island"}}')
    return list(orders.values())


def _order(number: int, line: str, defaults: Sequence[Layer], folder: Path) -> Order:
    where = f"line {number}"
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{where}: not JSON ({error})") from None
    if not isinstance(given, dict):
        raise InvalidRequest(f'{where}: must be a JSON object, such as {{"prompt": "an island"}}')
    name = given.pop("name", None)
    request = settle(*defaults, layer(given, where, folder))
    try:
        plan = api.plan(request)
    except RaytileError as error:
        raise type(error)(f"{where}: {error}") from None
    if name is None:
        name = default_name(plan.request)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequest(f"{where}: name: up to 128 letters, digits, dots, dashes (got {shown(name)})")
    return Order(number, name, plan)


def default_name(request: RenderRequest) -> str:
    """A name from the prompt and the seed; from a digest too where the name cannot show the prompt's words."""
    words = slug(request.prompt)
    full = re.sub(r"[\W_]+", "-", request.prompt.lower()).strip("-")
    mark = "" if words == full else f"-{sha256(request.prompt.encode()).hexdigest()[:8]}"
    return f"{words or 'picture'}{mark}-{request.seed}"


def standing(out: str, order: Order) -> Canvas | None:
    """The finished canvas of an order; None if it is still to be painted, or gone on with.

    Raises `InvalidRequest` where another picture stands there."""
    place = canvas_place(out, order)
    if not store.exists(place):
        return None
    canvas = store.open(place)
    head = canvas.head()
    if head.plan_hash != order.plan.hash:
        raise InvalidRequest(
            f"line {order.line}: {place} is another picture: its request has changed since it was painted:"
            " give the line another name, or remove that canvas"
        )
    return canvas if head.state == "finished" else None


def canvas_place(out: str, order: Order) -> str:
    return f"{out.rstrip('/')}/{order.name}.zarr"


def paint(
    orders: Sequence[Order],
    out: str,
    pool_options: Mapping[str, Any],
    watch: Callable[[Order], AbstractContextManager[Listener]],
    enter: Callable[[str, Canvas], None],
    **options: Any,
) -> Generator[tuple[Order, Exception | None]]:
    """Paint the orders one after the other over one pool; each comes out with what it failed of, if it did.

    `enter` gets the name and the canvas of each that is finished. `pool_options` are those of `api.make_pool`,
    `options` those of `api.render`. Raises `RenderCancelled` when one is
    cancelled, and `ClusterError` when there is no place for workers."""
    useful = max((api.useful_workers(order.plan) for order in orders), default=1)
    pool: Pool | None = None
    try:
        for order in orders:
            if pool is None:
                pool = api.make_pool(**pool_options)
                pool.connect(useful)
            failure: Exception | None = None
            try:
                with watch(order) as listener:
                    canvas = api.render(
                        order.plan.request,
                        canvas_place(out, order),
                        pool=pool,
                        resume=True,
                        listeners=(listener,),
                        **options,
                    )
                enter(order.name, canvas)
            except RenderCancelled:
                raise
            except Exception as error:
                failure = error
                pool.close()  # what failed may have been a worker: the next picture gets fresh ones
                pool = None
            yield order, failure
    finally:
        if pool is not None:
            pool.close()


def failed(failures: Sequence[tuple[Order, Exception]], of: int) -> RenderFailed:
    """One error for all pictures that failed."""
    named = ", ".join(f"{order.name} (line {order.line}): {first_line(error)}" for order, error in failures[:3])
    more = f", and {len(failures) - 3} more" if len(failures) > 3 else ""
    return RenderFailed(f"{len(failures)} of {of} pictures failed, the same command tries them again: {named}{more}")
