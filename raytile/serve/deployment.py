"""The service on Ray Serve: the app in replicas, the supervisor beside them. Nothing here but the binding."""

from __future__ import annotations

import logging
import random
import secrets
import signal
import threading
import time
from contextlib import suppress
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from raytile.engine.pool import Crew
from raytile.engine.ray import session
from raytile.errors import ClusterError, first_line
from raytile.serve.app import make_app
from raytile.serve.cast import SupervisorActor
from raytile.serve.desk import Desk, open_records
from raytile.serve.keys import Keys
from raytile.serve.settings import Settings

LOG = logging.getLogger("raytile.serve")
NAME, NAMESPACE = "raytile-supervisor", "raytile"
FRESH = 0.5
"""Seconds that an answer of the supervisor counts as news."""
WAIT, LEAVING = 5.0, 15.0
"""Seconds that an answer of the supervisor may take, and its end."""
ONGOING = 1000
"""Requests that a replica takes at once: watchers hold one each."""


class RayChoir:
    """The supervisor, from a replica: there is one in a cluster, and whoever misses it starts it."""

    def __init__(self, settings: Settings, token: str) -> None:
        self._settings, self._token = settings, token
        self._lock = threading.Lock()
        self._known: tuple[float, dict[str, Any]] = (-1e9, {"ready": False})
        actor = self._actor()
        if ray.get(actor.told_to.options(concurrency_group="told").remote()) != settings.model_dump_json():
            end_supervisor()  # of the configuration before this one: what it had open goes on here
            self._actor()

    def _actor(self) -> Any:
        kind = ray.remote(concurrency_groups={"told": 4})(SupervisorActor)
        options = {"name": NAME, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
        return kind.options(**options, num_cpus=0, max_restarts=-1).remote(self._settings, self._token)

    def poke(self) -> None:
        with suppress(ray.exceptions.RayError):  # it looks by itself soon
            self._actor().poke.options(concurrency_group="told").remote()

    def stats(self) -> dict[str, Any]:
        with self._lock:
            if time.monotonic() - self._known[0] > FRESH:
                try:
                    ref = self._actor().stats.options(concurrency_group="told").remote()
                    said = ray.get(ref, timeout=WAIT)
                except ray.exceptions.RayError as error:
                    said = {"ready": False, "why": first_line(error)}
                self._known = time.monotonic(), said
            return self._known[1]


def end_supervisor() -> None:
    """End the supervisor of this cluster, and with it drivers and workers."""
    actor = ray.get_actor(NAME, NAMESPACE)
    with suppress(ray.exceptions.RayError):
        ray.get(actor.leave.remote(), timeout=LEAVING)
    ray.kill(actor)


class Args(BaseModel):
    """What `serve deploy` may say of the service in its configuration: replicas of the app, and any setting
    (`raytile.serve.settings.Settings`), which win over RAYTILE_... variables."""

    model_config = ConfigDict(extra="forbid")

    replicas: int = Field(default=1, ge=1)
    settings: dict[str, Any] = Field(default_factory=dict)


def build(args: Args) -> serve.Application:
    """The application, for `serve run raytile.serve:build` and configuration files."""
    return bound(Settings.load(**args.settings), args.replicas)


def bound(settings: Settings, replicas: int = 1) -> serve.Application:
    """The application with these settings."""
    token = secrets.token_hex(8)

    def made() -> Any:
        records = open_records(settings, time.time)
        choir = RayChoir(settings, token)
        keys = Keys(records.objects, time.time)
        return make_app(settings, Desk(settings, records, keys, choir, time.time, random.SystemRandom()))

    deployment = serve.deployment(serve.ingress(made)())
    options: dict[str, Any] = {
        "name": "raytile",
        "num_replicas": replicas,
        "max_ongoing_requests": ONGOING,
        "ray_actor_options": {"num_cpus": 0},
    }
    return deployment.options(**options).bind()


def run(settings: Settings, host: str, port: int, address: str | None) -> None:
    """Serve until SIGINT or SIGTERM, on the Ray at `address`, or one of our own. Raises `ClusterError`."""
    joined = session.join(address, Crew(), {})
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        serve.start(http_options={"host": host, "port": port, "keep_alive_timeout_s": 75})
        try:
            serve.run(bound(settings), name="raytile", route_prefix="/", logging_config={"enable_access_log": False})
        except RuntimeError as error:
            raise ClusterError(f"the service does not start: {first_line(error)}") from None
        print(f"raytile serves http://{host}:{port} (Ctrl-C ends it; renders go on at the next start)", flush=True)
        over.wait()
    finally:
        with suppress(Exception):
            end_supervisor()
        with suppress(Exception):
            serve.delete("raytile")
        if joined == "started":
            with suppress(Exception):
                serve.shutdown()
        if joined:
            ray.shutdown()
