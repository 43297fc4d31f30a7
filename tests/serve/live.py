"""A service behind a real socket, in a thread of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from raytile.serve.asgi import make_app
from tests.s3 import free_ports
from tests.serve.service import Service, serving


@contextmanager
def live(store: Path | str, paint: bool = True, **given: Any) -> Iterator[tuple[str, Service]]:
    """The service's URL, and itself; the client of the latter needs no socket."""
    (port,) = free_ports(1)
    with serving(store, paint, port=port, **given) as service:
        app = make_app(service.settings, service.desk)
        server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, name="live", daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{port}", service
        finally:
            server.should_exit = True
            thread.join(10.0)
