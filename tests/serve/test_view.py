"""`raytile view` in a real Chromium: a canvas that is there, and one that is not."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from raytile import api
from raytile.plan.request import RenderRequest
from raytile.serve.web.build import build, is_current
from tests.serve.browser import browsing

RAYTILE = (sys.executable, "-m", "raytile")


def test_a_canvas_is_shown_and_no_tile_fails(tmp_path: Path) -> None:
    if not is_current():
        build()
    wish = RenderRequest(prompt="islands far away", width=512, height=256, model="toy", steps=2, wrap="x")
    api.render(wish, tmp_path / "c.zarr", in_process=True)
    command = [*RAYTILE, "view", str(tmp_path / "c.zarr"), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found
        with browsing() as browser:
            page = browser.new_page()
            said: list[str] = []
            page.on("console", lambda told: said.append(told.text) if told.type == "error" else None)
            page.goto(found[0])
            page.wait_for_selector("#stage[data-ready]", timeout=60_000)
            assert page.inner_text("#title") == "islands far away"
            assert "512 × 256" in page.inner_text("#facts")
            page.keyboard.press("s")
            page.wait_for_selector(".seam-note:visible")
            page.keyboard.press("+")
            page.wait_for_function("() => Number(document.querySelector('.viewer').dataset.loaded) > 0")
            assert page.get_attribute(".viewer", "data-failed") == "0"
            assert said == []
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_what_is_no_canvas_is_refused_in_one_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*RAYTILE, "view", str(tmp_path / "none.zarr"), "--no-browser"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "no canvas" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
