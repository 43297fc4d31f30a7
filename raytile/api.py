"""What Python users and the CLI call: plan a picture, render it, go on with it, get the canvas."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import inf
from pathlib import Path
from typing import Any

from raytile import taking
from raytile.canvas import claims, shared, store
from raytile.canvas.canvas import Canvas
from raytile.canvas.head import Head, ModelName, Owner
from raytile.canvas.keeper import Keeper
from raytile.canvas.layout import CanvasLayout
from raytile.engine.driver import Driver
from raytile.engine.pool import Crew, Pool, Setup
from raytile.engine.terms import Bounds, Start
from raytile.errors import CanvasError, InvalidRequest, RenderCancelled, first_line
from raytile.events import ClaimWaiting, Listener
from raytile.metrics import About, metered
from raytile.models import registry
from raytile.plan.phases import phases
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest, shown
from raytile.plan.settle import make_plan

DEVICES = ("auto", "cpu", "cuda")
LEASE = "RAYTILE_LEASE"
LONGEST_LEASE = 3600.0
PRICE = "RAYTILE_PRICE_PER_WORKER_HOUR"


def plan(request: RenderRequest) -> Plan:
    """Settle a request: read its model's shape and look at its pictures, choose what was left open, check the whole.
    Runs and writes nothing.

    Raises `InvalidRequest` or `InvalidModel`, each one line that names the fix."""
    return settled(taking.looked_at(request))


def settled(request: RenderRequest) -> Plan:
    """The plan of a request whose pictures were looked at before, as that on the head of a canvas: they need not be
    there any more. Raises as `plan` does."""
    return make_plan(request, registry.resolve(request.model))


def render(
    request: RenderRequest,
    out: str | Path,
    *,
    workers: int | str | Crew | None = None,
    in_process: bool = False,
    address: str | None = None,
    device: str = "auto",
    worker_resources: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    snapshot_every: int | None = None,
    preview_every: int = 0,
    lease: float | None = None,
    pool: Pool | None = None,
    listeners: Sequence[Listener] = (),
    stop: Callable[[], bool] = lambda: False,
) -> Canvas:
    """Paint `request` onto a canvas at `out` (NAME.zarr, a directory or s3://BUCKET/NAME.zarr) and return it, finished.

    Renders on Ray: the one this process is connected to, the one at `address` or RAY_ADDRESS, or one started here;
    with `in_process` without Ray; or on `pool`, which is left open. None of that changes a pixel. `workers` is a
    number, a range ("2..16": starts with two, takes in what comes) or "auto"; `worker_resources` are Ray actor options,
    such as {"num_gpus": 0.5}. With `resume` it is safe to repeat: it starts, goes on with, or returns the finished
    canvas of the same plan. Every `snapshot_every` steps (0: never; None: as often as costs little) workers store
    their latents, whence a render goes on after losses; every `preview_every` steps (0: never) they show on the canvas
    what is becoming of it. `lease`: seconds after which a silent driver counts as dead.
    `stop` is asked again and again: once it says yes, the render is cancelled.

    What can be wrong is found before anything is written: `RaytileError`s with exit code 2. Later `RenderFailed` or
    `RenderCancelled`; the canvas then says how far it came. In the main thread, SIGINT and SIGTERM cancel."""
    means = _means(
        workers, in_process, address, device, worker_resources, snapshot_every, preview_every, pool, listeners, stop
    )
    lease = _lease(lease)
    where = store.where(out)
    if resume and not overwrite and store.exists(where):
        found = store.open(where).head()
        plan_ = settled(taking.looked_at(request, found.request))
        if found.plan_hash != plan_.hash:
            raise InvalidRequest(
                f"{where} is the canvas of another request ({_difference(found.request, plan_.request)}): "
                "choose another name, or replace it with --overwrite"
            )
        return _go_on(where, plan_, lease, means)
    plan_ = plan(request)
    layout, owner, inputs = canvas_layout(plan_), _owner(), taking.inputs_of(plan_)
    store.check(where, layout, overwrite, socket.gethostname(), inputs=inputs)
    head = _first_head(plan_, owner, lease)

    def begin() -> tuple[Canvas, Keeper]:
        canvas = store.create(where, layout, head, overwrite, inputs=inputs)
        shared.remove_proof(where, owner.token)
        return canvas, Keeper(canvas, clock=time.time)

    start = Start(tiles_done=frozenset(taking.untouched(plan_)))
    setup = Setup(plan_, where, layout, device, owner.token, means.preview_every)
    return _run(setup, begin, start, False, means)


def resume(
    canvas: str | Path,
    *,
    workers: int | str | Crew | None = None,
    in_process: bool = False,
    address: str | None = None,
    device: str = "auto",
    worker_resources: Mapping[str, Any] | None = None,
    snapshot_every: int | None = None,
    preview_every: int = 0,
    lease: float | None = None,
    pool: Pool | None = None,
    listeners: Sequence[Listener] = (),
    stop: Callable[[], bool] = lambda: False,
) -> Canvas:
    """Go on with a canvas that was not finished, by any number of workers; a finished one is returned as it is.

    Options are those of `render`. Raises `CanvasError`, naming the owner, where a live render holds the canvas."""
    means = _means(
        workers, in_process, address, device, worker_resources, snapshot_every, preview_every, pool, listeners, stop
    )
    where = store.where(canvas)
    head = store.open(where).head()
    plan_ = settled(head.request)
    if plan_.hash != head.plan_hash:
        was = head.versions.get("raytile", "another raytile")
        raise InvalidRequest(
            f"{where} was begun with another model folder or by {was}: its request means another picture here; "
            "go on with what it was begun with"
        )
    return _go_on(where, plan_, None if lease is None else _lease(lease), means)


def cancel(canvas: str | Path) -> Head:
    """Stop the render that holds this canvas, wherever it runs; returns the head as it stands then.

    The canvas can be gone on with. Raises `CanvasError` where there is nothing to stop."""
    return claims.ask_cancel(canvas, clock=time.monotonic, sleep=time.sleep)


def make_pool(
    workers: int | str | Crew | None = None,
    in_process: bool = False,
    address: str | None = None,
    worker_resources: Mapping[str, Any] | None = None,
) -> Pool:
    """Workers for several renders: give it to each as `pool`, and close it in the end."""
    return _pool(_crew(workers), in_process, address, worker_resources)


def canvas_layout(plan: Plan) -> CanvasLayout:
    """Where the plan's tiles lie on its canvas."""
    return CanvasLayout(
        width=plan.request.width,
        height=plan.request.height,
        channels=plan.spec.channels,
        rows=plan.tiling.y.cells,
        columns=plan.tiling.x.cells,
        tile_cells=plan.tiling.y.tile,
        factor=plan.spec.factor,
        levels=tuple((level.tiling.y.cells, level.tiling.x.cells) for level in plan.levels[:-1]),
    )


def useful_workers(plan: Plan) -> int:
    """How many workers can have work at once: one per window of the finest step, or per tile."""
    last = len(plan.levels) - 1
    return max(plan.tiling.count, len(plan.windows(last, plan.levels[last].first_step)))


@dataclass(frozen=True)
class Means:
    """By what a render is done, which changes no pixel: the options of `render`, checked."""

    crew: Crew
    in_process: bool
    address: str | None
    device: str
    worker_resources: Mapping[str, Any] | None
    snapshot_every: int | None
    preview_every: int
    pool: Pool | None
    listeners: Sequence[Listener]
    stop: Callable[[], bool]
    price: float | None


def _means(
    workers: int | str | Crew | None,
    in_process: bool,
    address: str | None,
    device: str,
    worker_resources: Mapping[str, Any] | None,
    snapshot_every: int | None,
    preview_every: int,
    pool: Pool | None,
    listeners: Sequence[Listener],
    stop: Callable[[], bool],
) -> Means:
    if device not in DEVICES:
        raise InvalidRequest(f"device: {device!r} is none of {', '.join(DEVICES)}")
    if snapshot_every is not None and snapshot_every < 0:
        raise InvalidRequest(f"snapshot_every: must be 0 (never) or more steps (got {snapshot_every})")
    if preview_every < 0:
        raise InvalidRequest(f"preview_every: must be 0 (never) or more steps (got {preview_every})")
    crew = _crew(workers)
    return Means(
        crew,
        in_process,
        address,
        device,
        worker_resources,
        snapshot_every,
        preview_every,
        pool,
        listeners,
        stop,
        _price(),
    )


def _go_on(where: str, plan_: Plan, lease: float | None, means: Means) -> Canvas:
    """Claim the canvas and bring it to its end."""
    owner = _owner()

    def waiting(head: Head, seconds: float) -> None:
        for listener in means.listeners:
            listener(ClaimWaiting(f"process {head.owner.pid} on {head.owner.host}", seconds))

    canvas = claims.claim(where, owner, clock=time.monotonic, sleep=time.sleep, on_wait=waiting, lease=lease)
    head = canvas.head()
    if head.state == "finished":
        with suppress(CanvasError):  # its driver may have died before it could
            canvas.drop_snapshots()
        return canvas
    keeper = Keeper(canvas, clock=time.time)
    start = Start(
        snapshot=head.snapshot or 0,
        denoised=head.denoised,
        tiles_done=frozenset(tile for first, last in head.tiles_done for tile in range(first, last + 1)).union(
            taking.untouched(plan_)
        ),
        probe=head.device_digest,
    )
    setup = Setup(plan_, where, canvas.layout, means.device, owner.token, means.preview_every)
    try:
        return _run(setup, lambda: (canvas, keeper), start, True, means)
    except BaseException as error:
        # What fails before the driver runs fails with the canvas in our hands: let go of it.
        state = "cancelled" if isinstance(error, RenderCancelled | KeyboardInterrupt) else "failed"
        why = first_line(error)
        with suppress(Exception):
            keeper.post(lambda now: now.but(state=state, error=why) if now.state == "running" else now)
            keeper.flush(1.0)
        raise
    finally:
        keeper.close()


def _run(setup: Setup, begin: Callable[[], tuple[Canvas, Keeper]], start: Start, claimed: bool, means: Means) -> Canvas:
    pool = means.pool or _pool(means.crew, means.in_process, means.address, means.worker_resources)
    try:
        pool.connect(useful_workers(setup.plan))
        shared.leave_proof(setup.canvas, setup.token)
        bounds = Bounds(
            pool.least, pool.most, pool.ahead, means.snapshot_every, keep_idle=means.pool is not None and not pool.lent
        )
        with metered(pool.cluster, setup.token, _about(setup), pool.lent, means.price) as told:
            listeners = [*means.listeners, *told]
            driver = Driver(
                setup, pool, begin, listeners, time.monotonic, time.time, bounds, start, claimed, means.stop
            )
            return driver.run()
    finally:
        shared.remove_proof(setup.canvas, setup.token)
        if means.pool is None:
            pool.close()


def _about(setup: Setup) -> About:
    """What the metrics of a render have to know of it."""
    steps = {number for number, phase in enumerate(phases(setup.plan)) if phase.kind == "step"}
    return About(setup.plan.spec.name, lambda tile: setup.layout.pixels(tile).area, steps)


def _pool(crew: Crew, in_process: bool, address: str | None, worker_resources: Mapping[str, Any] | None) -> Pool:
    if in_process:
        from raytile.engine.local import LocalPool

        return LocalPool(crew.least or 1)
    from raytile.engine.ray.pool import RayPool

    return RayPool(crew, address, worker_resources)


def _crew(workers: int | str | Crew | None) -> Crew:
    return workers if isinstance(workers, Crew) else Crew.parse(workers)


def _lease(asked: float | None) -> float:
    """Seconds, from the argument, else the environment variable RAYTILE_LEASE, else the head's default."""
    text = os.environ.get(LEASE, "").strip() if asked is None else str(asked)
    try:
        seconds = float(text or Head.model_fields["lease"].default)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_LEASE:
        raise InvalidRequest(f"lease: must be seconds up to {LONGEST_LEASE:.0f} (got {text}; see {LEASE})")
    return seconds


def _price() -> float | None:
    """What an hour of a worker costs, from the environment variable RAYTILE_PRICE_PER_WORKER_HOUR; None: unknown."""
    text = os.environ.get(PRICE, "").strip()
    try:
        price = float(text or 0)
    except ValueError:
        price = -1.0
    if not 0 <= price < inf:
        raise InvalidRequest(f"price: must be a number, such as 1.20 (got {text}; see {PRICE})")
    return price if text else None


def _difference(one: RenderRequest, other: RenderRequest) -> str:
    """The first field in which two requests differ, for people."""
    for name in type(one).model_fields:
        was, now = getattr(one, name), getattr(other, name)
        if was != now:
            return f"{name} was {shown(was)} and is {shown(now)} here"
    return "the model or raytile changed"


def _owner() -> Owner:
    return Owner(host=socket.gethostname(), pid=os.getpid(), token=secrets.token_hex(16))


def _first_head(plan: Plan, owner: Owner, lease: float) -> Head:
    now = time.time()
    return Head(
        request=plan.request,
        plan_hash=plan.hash,
        model=ModelName(name=plan.spec.name, digest=plan.spec.digest),
        versions=_versions(),
        owner=owner,
        created=now,
        updated=now,
        lease=lease,
        levels=len(plan.levels),
        steps=plan.steps,
        tiles_total=plan.tiling.count,
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in ("raytile", "torch", "diffusers", "transformers", "ray", "zarr", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
