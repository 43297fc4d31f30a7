"""The page in a real Chromium against `raytile serve` on Ray: type a prompt and see it emerge, zoom with no tile
failed, cancel another, repaint a region; on a desktop and on a phone. Screenshots go to accept/service-page-*.png."""

from __future__ import annotations

import io
import re
import time
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from raytile.serve.web.build import build, is_current
from tests.acceptance.clusters import scratch
from tests.acceptance.common import KEPT, report, say
from tests.acceptance.services import Service, serving
from tests.serve.browser import DESKTOP, PHONE, browsing

LONG = 900_000
"""Milliseconds that anything may take on a machine with other work."""
SEEN = "() => document.querySelector('.viewer canvas')?.toDataURL() ?? ''"
STATE = "#panel .state"


class Tab:
    """A tab of the browser on the page, whose console is listened to."""

    def __init__(self, browser: Any, size: tuple[int, int], url: str, **given: Any) -> None:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **given)
        context.set_default_timeout(LONG)
        self.page = context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda told: self.said.append(told.text) if told.type == "error" else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(url)

    def paint(self, prompt: str, size: tuple[int, int], steps: int) -> str:
        """Fill in the form and press; the id of the render."""
        page = self.page
        page.fill("#prompt", prompt)
        page.fill("#width", str(size[0]))
        page.fill("#height", str(size[1]))
        if not page.locator("#steps").is_visible():
            page.click("summary")
        page.fill("#steps", str(steps))
        page.wait_for_selector(".cost:has-text('evaluation')")
        page.click("button.main")
        return self.render()

    def render(self, other_than: str = "-") -> str:
        """The id of the render that is shown."""
        self.page.wait_for_url(lambda url: "#/renders/r" in url and other_than not in url)
        return str(re.findall(r"#/renders/(\w+)", self.page.url)[0])

    def state(self) -> str:
        return str(self.page.get_attribute(STATE, "data-state"))

    def until(self, state: str) -> None:
        self.page.wait_for_selector(f"{STATE}[data-state={state}]")

    def shot(self, name: str, wait: float = 1.0) -> None:
        self.page.wait_for_timeout(wait * 1000)
        self.page.screenshot(path=str(KEPT / f"service-page-{name}.png"))

    def tiles(self) -> tuple[int, int]:
        """Tiles that were loaded, and that were not to be had."""
        loaded, failed = (self.page.get_attribute(".viewer", f"data-{name}") for name in ("loaded", "failed"))
        return int(loaded), int(failed)


def pixels(service: Service, id: str) -> np.ndarray:
    answer = httpx2.get(f"{service.url}/v1/renders/{id}/content?format=png", timeout=300.0)
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)


def emerges(tab: Tab, browser: Any, checks: dict[str, bool], figures: dict[str, Any]) -> str:
    page = tab.page
    page.click("label:has-text('Left–right')")
    page.click("label:has-text('Satellite')")
    paper = page.locator(".sheet .paper").bounding_box()
    page.click(".tools [data-tool=box]")
    page.mouse.move(paper["x"] + 20, paper["y"] + 10)
    page.mouse.down()
    page.mouse.move(paper["x"] + paper["width"] - 40, paper["y"] + paper["height"] * 0.25)
    page.mouse.up()
    page.keyboard.type("mostly ice, white ice, arctic")
    page.fill("#prompt", "continents, islands, warm sea")
    tab.shot("form", 2)
    id = tab.paint("continents, islands, warm sea", (1024, 512), 12)
    tab.until("running")
    say("running", id)
    page.wait_for_selector("#stage > .view[data-version]")
    seen = {page.evaluate(SEEN)}
    words: set[str] = set()
    phone = Tab(browser, PHONE, page.url, has_touch=True, is_mobile=True)
    tab.shot("running", 0)
    phone.shot("phone-running", 2)
    while tab.state() == "running":
        seen.add(page.evaluate(SEEN))
        words.add(page.inner_text(".progress .crew"))
        page.wait_for_timeout(400)
    tab.until("finished")
    figures["pictures_seen_while_it_was_painted"] = len(seen)
    figures["workers_strip"] = sorted(words)
    checks["the picture is seen to change"] = len(seen) >= 4
    checks["workers are seen"] = any("at work" in said for said in words)
    page.wait_for_timeout(3000)
    tab.shot("finished")
    phone.until("finished")
    phone.shot("phone-finished", 2)
    checks["a phone shows one column"] = phone.page.evaluate("() => document.documentElement.scrollWidth") <= PHONE[0]
    for _ in range(6):
        page.keyboard.press("+")
        page.wait_for_timeout(700)
    page.keyboard.press("0")
    page.wait_for_timeout(1000)
    page.keyboard.press("s")
    tab.shot("seam", 3)
    page.keyboard.press("s")
    loaded, failed = tab.tiles()
    figures["tiles_loaded"], figures["tiles_failed"] = loaded, failed
    checks["no tile failed"] = loaded > 0 and failed == 0 and phone.tiles()[1] == 0
    checks["nothing is amiss in the consoles"] = tab.said == [] and phone.said == []
    figures["said"] = [*tab.said, *phone.said]
    return id


def cancels(tab: Tab, service: Service, checks: dict[str, bool], figures: dict[str, Any]) -> None:
    tab.page.keyboard.press("n")
    id = tab.paint("deserts, dunes", (2048, 1024), 60)
    tab.until("running")
    tab.page.wait_for_selector(".progress strong:has-text('step')")
    begun = time.monotonic()
    tab.page.click("button:has-text('Cancel')")
    tab.until("cancelled")
    figures["cancel_seconds"] = round(time.monotonic() - begun, 1)
    checks["another one is cancelled"] = service.records.get(id).state == "cancelled"
    tab.shot("cancelled")


def repaints(tab: Tab, service: Service, first: str, checks: dict[str, bool], figures: dict[str, Any]) -> None:
    page = tab.page
    page.goto(f"{service.url}/#/renders/{first}")
    page.wait_for_selector("#stage > .view[data-ready]")
    page.wait_for_timeout(1500)
    page.keyboard.press("r")
    stage = page.locator(".viewer").bounding_box()
    page.mouse.move(stage["x"] + stage["width"] * 0.35, stage["y"] + stage["height"] * 0.45)
    page.mouse.down()
    page.mouse.move(stage["x"] + stage["width"] * 0.65, stage["y"] + stage["height"] * 0.65, steps=5)
    page.mouse.up()
    page.fill("#repaint-prompt", "mostly sandy desert, mostly dunes, hot, inland")
    tab.shot("repaint")
    page.click("button.main")
    made = tab.render(first)
    tab.until("finished")
    tab.shot("repainted", 3)
    record = service.records.get(made)
    (shape,) = record.request.repaint
    assert shape.box is not None
    x, y, width, height = (round(value) for value in shape.box)
    edge = round(shape.feather) + 1
    before, after = pixels(service, first), pixels(service, made)
    changed = (before != after).any(axis=-1)
    inside = changed[y : y + height, x : x + width]
    outside = changed.copy()
    outside[max(0, y - edge) : y + height + edge, max(0, x - edge) : x + width + edge] = False
    figures["repainted_inside"] = round(float(inside.mean()), 3)
    figures["repainted_outside"] = int(outside.sum())
    checks["a region is repainted"] = record.parent == first and inside.mean() > 0.9
    checks["and nothing else"] = not outside.any()


def main() -> None:
    checks: dict[str, bool] = {}
    figures: dict[str, Any] = {}
    KEPT.mkdir(exist_ok=True)
    if not is_current():
        build()
    with (
        scratch() as place,
        serving(place / "a", place / "store", workers=2, RAYTILE_PREVIEW_EVERY="1") as service,
        browsing() as browser,
    ):
        tab = Tab(browser, DESKTOP, service.url)
        tab.page.wait_for_selector("#model option[value=terra]", state="attached")
        first = emerges(tab, browser, checks, figures)
        cancels(tab, service, checks, figures)
        repaints(tab, service, first, checks, figures)
        dark = Tab(browser, DESKTOP, f"{service.url}/#/renders", color_scheme="dark")
        dark.page.wait_for_selector(".card img")
        dark.shot("list-dark", 2)
        phone = Tab(browser, PHONE, service.url, has_touch=True, is_mobile=True, color_scheme="dark")
        phone.shot("phone-form-dark", 2)
        checks["no render failed"] = service.states()["failed"] == 0
    report("the page: painted, watched, zoomed, cancelled, repainted in Chromium", checks, figures)


if __name__ == "__main__":
    main()
