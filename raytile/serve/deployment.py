"""The service on Ray Serve: the app in replicas, the supervisor beside them. Nothing here but the binding."""

from __future__ import annotations

import logging
import os
import random
import secrets
import signal
import threading
import time
from contextlib import suppress
from hashlib import sha256
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ray import serve

from raytile import __version__
from raytile.engine.pool import Crew
from raytile.engine.ray import session
from raytile.errors import ClusterError, InvalidRequest, first_line
from raytile.serve.access import is_loopback
from raytile.serve.asgi import make_app
from raytile.serve.cast import SupervisorActor, light
from raytile.serve.desk import Desk, open_records
from raytile.serve.keys import Keys
from raytile.serve.settings import PREFIX, Settings

LOG = logging.getLogger("raytile.serve")
NAMESPACE, TOLD = "raytile", "told"
ATTENDED = 10.0
"""Seconds between two questions after the supervisor."""
FRESH = 0.5
"""Seconds that an answer of the supervisor counts as news."""
WAIT, LEAVING = 5.0, 15.0
"""Seconds that an answer of the supervisor may take, and its end."""
ONGOING = 1000
"""Requests that a replica takes at once: watchers hold one each."""


class RayChoir:
    """The supervisor, from a replica: there is one for these settings in a cluster, and whoever misses it starts it.
    A thread asks after it now and then, so that it knows that it is wanted."""

    def __init__(self, settings: Settings, token: str) -> None:
        self._settings, self._token = settings, token
        self._lock = threading.Lock()
        self._known: tuple[float, dict[str, Any]] = (-1e9, {"ready": False})
        self._made()
        threading.Thread(target=self._attend, name="attend", daemon=True).start()

    def _made(self) -> Any:
        kind = ray.remote(concurrency_groups={TOLD: 4})(SupervisorActor)
        named = {"name": name_of(self._settings), "namespace": NAMESPACE, "get_if_exists": True}
        options = {**named, "lifetime": "detached", "max_restarts": -1, **light(self._settings)}
        return kind.options(**options).remote(self._settings, self._token)

    def _attend(self) -> None:
        while True:
            time.sleep(ATTENDED)
            if not ray.is_initialized():
                return
            try:
                ray.get(ray.get_actor(name_of(self._settings), NAMESPACE).poke.options(concurrency_group=TOLD).remote())
            except ValueError:  # there is none of that name any more
                with suppress(ray.exceptions.RayError):
                    self._made()
            except ray.exceptions.RayError:  # Ray starts it again
                continue

    def poke(self) -> None:
        with suppress(ray.exceptions.RayError, ValueError):  # it looks by itself soon
            ray.get_actor(name_of(self._settings), NAMESPACE).poke.options(concurrency_group=TOLD).remote()

    def stats(self) -> dict[str, Any]:
        with self._lock:
            if time.monotonic() - self._known[0] > FRESH:
                try:
                    actor = ray.get_actor(name_of(self._settings), NAMESPACE)
                    said = ray.get(actor.stats.options(concurrency_group=TOLD).remote(), timeout=WAIT)
                except (ray.exceptions.RayError, ValueError) as error:
                    said = {"ready": False, "why": first_line(error)}
                self._known = time.monotonic(), said
            return self._known[1]


def name_of(settings: Settings) -> str:
    """The name of the supervisor of a service of this version that is set up so: others in the cluster have others."""
    said = f"{__version__} {settings.model_dump_json()}"
    return f"raytile-supervisor-{sha256(said.encode()).hexdigest()[:16]}"


def end_supervisor(settings: Settings) -> None:
    """End the supervisor of a service, and with it drivers and workers."""
    actor = ray.get_actor(name_of(settings), NAMESPACE)
    with suppress(ray.exceptions.RayError):
        ray.get(actor.leave.remote(), timeout=LEAVING)
    ray.kill(actor)


class Args(BaseModel):
    """What `serve deploy` may say of the service in its configuration: replicas of the app, and any setting
    (`raytile.serve.settings.Settings`), which win over RAYTILE_... variables."""

    model_config = ConfigDict(extra="forbid")

    replicas: int = Field(default=1, ge=1)
    settings: dict[str, Any] = Field(default_factory=dict)


def build(args: Args | dict[str, Any]) -> serve.Application:
    """The application, for `serve run raytile.serve:build` and configuration files; Ray gives what stands there.

    Ray's proxies listen where Serve is told to, which nobody tells us: unless the settings say that it is loopback,
    every request needs a key. Raises `InvalidRequest`."""
    try:
        args = Args.model_validate(args)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(f"args: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    elsewhere = {} if os.environ.get(f"{PREFIX}HOST") else {"host": "0.0.0.0"}
    settings = Settings.load(**{**elsewhere, **args.settings})
    if settings.keys == "off" and not is_loopback(settings):
        raise InvalidRequest("keys: off is for loopback only: leave it at auto, and raytile keys add NAME")
    return bound(settings, args.replicas)


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
        "ray_actor_options": light(settings),
    }
    return deployment.options(**options).bind()


def run(settings: Settings, host: str, port: int, address: str | None) -> None:
    """Serve until SIGINT or SIGTERM, on the Ray at `address`, or one of our own. Raises `ClusterError`."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    joined = session.join(address, Crew(), {})
    if joined != "started" and serve.status().proxies:  # they listen where they do, whatever we say
        if joined:
            ray.shutdown()
        raise ClusterError(
            "Ray Serve runs on this Ray already: deploy with serve run raytile.serve:build, or end it first"
        )
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
        with suppress(Exception):  # replicas first: they would start another supervisor
            serve.delete("raytile")
        with suppress(Exception):
            end_supervisor(settings)
        if joined == "started":
            with suppress(Exception):
                serve.shutdown()
        if joined:
            ray.shutdown()
