"""What Python users and the CLI call: plan a picture, render it, get the canvas."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from raytile.canvas import store
from raytile.canvas.canvas import Canvas
from raytile.canvas.head import Head, ModelName, Owner
from raytile.canvas.layout import CanvasLayout
from raytile.engine.driver import Driver
from raytile.engine.pool import Pool, Setup
from raytile.errors import InvalidRequest
from raytile.events import Listener
from raytile.models import registry
from raytile.plan.plan import Plan, make_plan
from raytile.plan.request import RenderRequest
from raytile.plan.route import Partition

DEVICES = ("auto", "cpu", "cuda")
MAX_WORKERS = 4096


def plan(request: RenderRequest) -> Plan:
    """Settle a request: read its model's shape, choose what was left open, check the whole. Runs and writes nothing.

    Raises `InvalidRequest` or `InvalidModel`, each one line that names the fix."""
    return make_plan(request, registry.resolve(request.model))


def render(
    request: RenderRequest,
    out: str | Path,
    *,
    workers: int | None = None,
    in_process: bool = False,
    address: str | None = None,
    device: str = "auto",
    worker_resources: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    listeners: Sequence[Listener] = (),
) -> Canvas:
    """Paint `request` onto a new canvas at `out` (a directory NAME.zarr) and return it, finished.

    Renders on Ray: the one this process is connected to, the one at `address` or RAY_ADDRESS, or one started here;
    with `in_process` without Ray. None of that changes a pixel. `worker_resources` are Ray actor options, such as
    {"num_gpus": 0.5}. What can be wrong is found before anything is written: `RaytileError`s with exit code 2. Later
    `RenderFailed` or `RenderCancelled`; the canvas then says how far it came. In the main thread, SIGINT and SIGTERM
    cancel while it runs."""
    if device not in DEVICES:
        raise InvalidRequest(f"device: {device!r} is none of {', '.join(DEVICES)}")
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise InvalidRequest(f"workers: must be 1 to {MAX_WORKERS} (got {workers})")
    plan_ = plan(request)
    layout = canvas_layout(plan_)
    store.check(out, layout, overwrite, socket.gethostname())
    pool = _pool(workers, in_process, address, worker_resources)
    try:
        pool.connect()
        head = _first_head(plan_)
        setup = Setup(plan_, Partition(pool.workers), str(Path(out).absolute()), layout, device, head.owner.token)
        create = partial(store.create, out, layout, head, overwrite)
        return Driver(setup, pool, create, listeners, clock=time.monotonic, wall=time.time).run()
    finally:
        pool.close()


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
    )


def _pool(
    workers: int | None, in_process: bool, address: str | None, worker_resources: Mapping[str, Any] | None
) -> Pool:
    if in_process:
        from raytile.engine.local import LocalPool

        return LocalPool(workers or 1)
    from raytile.engine.ray.pool import RayPool

    return RayPool(workers, address, worker_resources)


def _first_head(plan: Plan) -> Head:
    now = time.time()
    return Head(
        request=plan.request,
        plan_hash=plan.hash,
        model=ModelName(name=plan.spec.name, digest=plan.spec.digest),
        versions=_versions(),
        owner=Owner(host=socket.gethostname(), pid=os.getpid(), token=secrets.token_hex(16)),
        created=now,
        updated=now,
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
