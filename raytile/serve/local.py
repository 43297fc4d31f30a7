"""A whole service in one process: uvicorn, the app, and a choir of one. What `raytile serve --in-process` runs."""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import time

from raytile.errors import InvalidRequest
from raytile.serve.asgi import make_app
from raytile.serve.desk import Desk, open_records
from raytile.serve.keys import Keys
from raytile.serve.localchoir import LocalChoir
from raytile.serve.settings import Settings

GRACE = 3
"""Seconds that streams are given when the service ends."""


def run(settings: Settings) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises `InvalidRequest` for an address that cannot be had."""
    import uvicorn

    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    records = open_records(settings, time.time)
    choir = LocalChoir(settings, records)
    desk = Desk(settings, records, Keys(records.objects, time.time), choir, time.time, random.SystemRandom())
    with contextlib.closing(listening(settings)) as bound:
        config = uvicorn.Config(
            make_app(settings, desk),
            http="h11",  # which bounds the head of a request
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=GRACE,
        )
        choir.start()
        try:
            host, port = bound.getsockname()[:2]
            at = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print(f"raytile serves {at} (Ctrl-C ends it; what is queued goes on at the next start)", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[bound])
        finally:
            choir.close()


def listening(settings: Settings) -> socket.socket:
    """The socket that the settings name."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=512)
    except OSError as error:
        raise InvalidRequest(
            f"port: cannot listen at {settings.host}:{settings.port} ({error.strerror}): choose another --port"
        ) from None
