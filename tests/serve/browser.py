"""A real Chromium and a real server, for tests of the page."""

from __future__ import annotations

import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from raytile.serve.asgi import make_app
from raytile.serve.desk import Desk, open_records
from raytile.serve.keys import Keys
from raytile.serve.localchoir import LocalChoir
from raytile.serve.settings import Settings
from raytile.serve.web.build import build, is_current

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SLOW = "timed:seconds=0.1,jitter=0"
DESKTOP, PHONE = (1440, 900), (390, 844)


def chromium() -> str:
    """Where Chromium is; skips the test on a machine that has none, but not where the whole suite is to run."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("needs Chromium: apt-get install chromium")
    return found


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """Serve an app on loopback, on a port of its own; gives its address."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, args=([held],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{held.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@dataclass
class Site:
    """A service with the page, and its browser. `said`: what the browser's console complained of."""

    url: str
    desk: Desk
    browser: Any
    said: list[str] = field(default_factory=list)

    def page(self, size: tuple[int, int] = DESKTOP, touch: bool = False, at: str = "", **given: Any) -> Any:
        """A fresh tab, looking at the page."""
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]}, has_touch=touch, is_mobile=touch, **given
        )
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("console", lambda told: self.said.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.goto(f"{self.url}/{at}")
        return page


@contextmanager
def browsing() -> Iterator[Any]:
    """A Chromium without a window."""
    from playwright.sync_api import sync_playwright

    where = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=where, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def site(store: Path, browser: Any, **given: Any) -> Iterator[Site]:
    """A service that paints with `toy` (and `slow`, which takes its time), and its page."""
    if not is_current():
        build()
    settings = Settings.load(store=str(store), models={"toy": "toy", "slow": SLOW}, preview_every=1, **given)
    records = open_records(settings, time.time)
    choir = LocalChoir(settings, records)
    desk = Desk(settings, records, Keys(records.objects, time.time), choir, time.time, random.SystemRandom())
    choir.start()
    try:
        with listening(make_app(settings, desk)) as url:
            yield Site(url, desk, browser)
    finally:
        choir.close()
