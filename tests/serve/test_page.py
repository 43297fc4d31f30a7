"""The page in a real Chromium, against a real service: painting, watching, cancelling, repainting."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.serve.browser import PHONE, Site, browsing, site

SEEN = """() => {
  const canvas = document.querySelector('.viewer canvas');
  return canvas ? canvas.toDataURL() : '';
}"""
"""The picture as it stands on the stage."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def here(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One service for all tests that leave no trace in one another."""
    with site(tmp_path_factory.mktemp("store"), browser) as found:
        # The first picture of a model waits until the colours of its latents are known.
        page = found.page()
        paint(page, model="slow")
        until(page, "finished")
        page.context.close()
        yield found


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does, the browser has nothing to complain of: no error, nothing that the policy forbids."""
    yield
    if "here" in request.fixturenames:
        place = request.getfixturevalue("here")
        said = [line for line in place.said if "409" not in line and "422" not in line]
        place.said.clear()
        assert said == []


def until(page: Any, state: str) -> None:
    page.wait_for_selector(f".state[data-state={state}]")


def fill(page: Any, prompt: str = "islands", size: tuple[int, int] = (256, 128), steps: int = 2, **more: str) -> None:
    page.fill("#prompt", prompt)
    page.fill("#width", str(size[0]))
    page.fill("#height", str(size[1]))
    if not page.locator("#steps").is_visible():
        page.click("summary")
    page.fill("#steps", str(steps))
    if "model" in more:
        page.select_option("#model", more["model"])


def paint(page: Any, *args: Any, **kwargs: Any) -> str:
    """Fill in the form and press; the id of the render."""
    fill(page, *args, **kwargs)
    page.click("button.main")
    page.wait_for_url(re.compile("#/renders/r"))
    return re.findall(r"#/renders/(\w+)", page.url)[0]


def drag(page: Any, box: dict[str, float], x: float, y: float, width: float, height: float) -> None:
    """Drag over a part of an element's box, in shares of it."""
    left, top = box["x"] + x * box["width"], box["y"] + y * box["height"]
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move(left + width * box["width"] / 2, top + height * box["height"] / 2)
    page.mouse.move(left + width * box["width"], top + height * box["height"])
    page.mouse.up()


def failed(page: Any) -> int:
    return int(page.get_attribute(".viewer", "data-failed"))


def test_a_picture_is_seen_to_change_while_it_is_painted_and_no_tile_fails(here: Site) -> None:
    page = here.page()
    paint(page, size=(512, 256), steps=24, model="slow")
    until(page, "running")
    page.wait_for_selector("#stage > .view[data-version]")
    first = page.evaluate(SEEN)
    page.wait_for_function(f"seen => ({SEEN})() !== seen", arg=first)
    assert page.locator(".state").get_attribute("data-state") == "running"
    assert "step" in page.locator(".progress strong").inner_text().lower()
    until(page, "finished")
    for _ in range(5):
        page.keyboard.press("+")
    page.wait_for_timeout(900)
    loaded = int(page.get_attribute(".viewer", "data-loaded"))
    assert loaded > 0
    assert failed(page) == 0


def test_another_one_is_cancelled(here: Site) -> None:
    page = here.page()
    id = paint(page, size=(512, 512), steps=60, model="slow")
    until(page, "running")
    page.click("button:has-text('Cancel')")
    until(page, "cancelled")
    assert here.desk.records.get(id).state == "cancelled"
    assert page.locator("button:has-text('Delete')").is_visible()


def test_a_region_is_repainted_where_it_was_drawn(here: Site) -> None:
    page = here.page()
    first = paint(page, size=(512, 256))
    until(page, "finished")
    page.wait_for_selector("#stage > .view[data-ready]")
    page.keyboard.press("r")
    seen = page.evaluate("""() => {
      const all = document.querySelector('.viewer').getBoundingClientRect();
      return {x: all.x, y: all.y, width: all.width, height: all.height};
    }""")
    drag(page, seen, 0.3, 0.45, 0.2, 0.1)
    page.fill("#repaint-prompt", "desert")
    page.click("button.main")
    page.wait_for_url(lambda url: "#/renders/r" in url and first not in url)
    until(page, "finished")
    made = here.desk.records.get(re.findall(r"#/renders/(\w+)", page.url)[0])
    assert (made.kind, made.parent, made.request.prompt) == ("repaint", first, "desert")
    (shape,) = made.request.repaint
    assert shape.box is not None
    x, y, width, height = shape.box
    one = width / (0.2 * seen["width"])  # pixels of the picture per pixel of the stage
    assert height == pytest.approx(0.1 * seen["height"] * one, abs=3)
    # The picture stands in the middle of the viewer but for unequal room above and below.
    assert x + width / 2 == pytest.approx(256 + (0.4 - 0.5) * seen["width"] * one, abs=4)
    assert 0 < y < 256


def test_regions_are_drawn_moved_and_sent(here: Site) -> None:
    page = here.page()
    fill(page, size=(1000, 500))
    paper = page.locator(".sheet .paper").bounding_box()
    page.click(".tools [data-tool=box]")
    drag(page, paper, 0.1, 0.2, 0.3, 0.4)
    page.keyboard.type("ice")
    page.click(".tools [data-tool=polygon]")
    for x, y in ((0.6, 0.2), (0.9, 0.2), (0.75, 0.8)):
        page.mouse.click(paper["x"] + x * paper["width"], paper["y"] + y * paper["height"])
    page.keyboard.press("Enter")
    page.keyboard.type("sand")
    # With keys: the box one to the right, and one wider.
    page.locator(".shape[data-shape='1']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    with page.expect_request(lambda request: request.method == "POST" and request.url.endswith("/v1/renders")) as sent:
        page.click("button.main")
    box, polygon = json.loads(sent.value.post_data)["regions"]
    assert box["prompt"] == "ice"
    assert box["box"] == pytest.approx([110, 100, 310, 200], abs=3)
    assert polygon["prompt"] == "sand"
    assert polygon["polygon"] == [pytest.approx(corner, abs=3) for corner in ([600, 100], [900, 100], [750, 400])]
    assert sent.value.response().status == 202


def test_the_cost_is_said_before_and_refusals_in_words(here: Site) -> None:
    page = here.page()
    fill(page, size=(512, 512))
    page.wait_for_selector(".cost:has-text('evaluation')")
    small = page.locator(".cost").inner_text()
    page.fill("#width", "1024")
    page.wait_for_function("small => document.querySelector('.cost').innerText !== small", arg=small)
    page.fill("#width", "999999")
    page.wait_for_selector(".cost .error")
    assert "at most" in page.locator(".cost .error").inner_text()
    page.click("button.main")
    page.wait_for_selector("#width[aria-invalid=true]")
    assert page.locator(".foot > .error").inner_text()


def test_a_key_is_asked_for_kept_for_the_tab_and_sent_in_a_header_alone(browser: Any, tmp_path: Path) -> None:
    with site(tmp_path, browser, keys="on") as locked:
        _, secret = locked.desk.keys.add("page", ["render", "read"])
        asked: list[Any] = []
        page = locked.page()
        page.on("request", lambda request: asked.append(request))
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog:has-text('does not know')")
        page.fill("#key", secret)
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog", state="detached")
        paint(page)
        until(page, "finished")
        page.wait_for_selector("#stage > .view[data-ready]")
        page.wait_for_function("() => Number(document.querySelector('.viewer').dataset.loaded) > 0")
        assert failed(page) == 0
        assert all(secret not in request.url for request in asked)
        assert page.evaluate("() => [localStorage.length, document.cookie]") == [0, ""]
        with page.expect_download() as saved:
            page.click("button:has-text('Download')")
        assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")


def test_a_view_is_found_again_after_a_reload(here: Site) -> None:
    page = here.page()
    paint(page, size=(512, 256))
    until(page, "finished")
    page.wait_for_selector("#stage > .view[data-ready]")
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.wait_for_url(re.compile(r"@[\d.]+,[\d.]+,2\.\d"))
    where = page.url
    page.reload()
    page.wait_for_selector("#stage > .view[data-ready]")
    page.wait_for_timeout(300)
    assert page.url == where
    again = page.evaluate("""async () => {
      const all = [...document.querySelectorAll('.viewer')];
      return all.length;
    }""")
    assert again == 1


def test_sides_that_meet_are_shown_in_the_middle(here: Site) -> None:
    page = here.page()
    page.click("label:has-text('Left–right')")
    paint(page, size=(512, 256))
    until(page, "finished")
    page.wait_for_selector("#stage > .view[data-ready]")
    page.wait_for_timeout(500)
    plain = page.evaluate(SEEN)
    page.keyboard.press("s")
    page.wait_for_selector(".seam-note:visible")
    page.wait_for_function(f"seen => ({SEEN})() !== seen", arg=plain)
    # Wrapped, the picture covers the stage from side to side.
    page.wait_for_function("""() => {
      const canvas = document.querySelector('.viewer canvas');
      const row = canvas.getContext('2d').getImageData(0, Math.floor(canvas.height / 2), canvas.width, 1).data;
      return row.filter((value, n) => n % 4 === 3 && value === 255).length >= canvas.width - 2;
    }""")
    page.keyboard.press("Escape")
    page.wait_for_selector(".seam-note", state="hidden")


def test_renders_are_listed_with_what_they_show(here: Site) -> None:
    page = here.page()
    id = paint(page, prompt="a list of things")
    until(page, "finished")
    page.keyboard.press("g")
    card = page.locator(f".card[href='#/renders/{id}']")
    card.locator("img").wait_for()
    assert "a list of things" in card.inner_text()
    card.click()
    page.wait_for_url(re.compile(id))
    page.click("button:has-text('Delete')")
    page.click("dialog button.main")
    page.wait_for_url(re.compile("#/renders$"))
    card.wait_for(state="detached")


def test_everything_can_be_done_with_keys(here: Site) -> None:
    page = here.page()
    page.keyboard.press("/")
    page.wait_for_function("() => document.activeElement.id === 'prompt'")
    page.keyboard.type("islands")
    for name, value in (("width", "256"), ("height", "128")):
        page.focus(f"#{name}")
        page.keyboard.press("Control+a")
        page.keyboard.type(value)
    page.focus("button:has-text('Draw a box')")
    page.keyboard.press("Enter")
    page.keyboard.type("ice")
    page.keyboard.press("Control+Enter")
    page.wait_for_url(re.compile("#/renders/r"))
    until(page, "finished")
    page.keyboard.press("?")
    assert page.locator("dialog[open] dt").count() > 10
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    page.wait_for_url(re.compile("#/$"))


def test_settings_are_taken_over_whole(here: Site) -> None:
    """Those that the form has no field for, too: the same picture comes out."""
    wish = {
        "prompt": "islands",
        "style": "etching",
        "size": "512x256",
        "model": "toy",
        "steps": 3,
        "seed": 5,
        "sampler": "ddim",
        "topology": "equirectangular",
        "units": "share",
        "regions": [{"box": [0.25, 0.5, 0.25, 0.25], "feather": 0.125, "prompt": "ice", "weight": 2.0, "seed": 9}],
        "metadata": {"project": "x"},
    }
    first = httpx2.post(f"{here.url}/v1/renders", json=wish).json()["id"]
    page = here.page(at=f"#/renders/{first}")
    until(page, "finished")
    page.click("button:has-text('Use these settings')")
    assert "topology" in page.inner_text(".foot")
    page.click("button.main")
    page.wait_for_url(lambda url: "#/renders/r" in url and first not in url)
    until(page, "finished")
    again = here.desk.records.get(re.findall(r"#/renders/(\w+)", page.url)[0])
    assert again.request == here.desk.records.get(first).request


UNNAMED = """() => [...document.querySelectorAll('button, a, input, select, textarea, [role=button]')]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.labels?.length || one.getAttribute('aria-label') || one.innerText?.trim()))
  .map((one) => one.outerHTML.slice(0, 200))"""
SMALL = """() => [...document.querySelectorAll('button, a, input, select, textarea, summary')]
  .filter((one) => one.checkVisibility() && !one.matches('.skip, a.link'))
  .map((one) => [one.closest('label') ?? one, one])
  .filter(([area]) => { const box = area.getBoundingClientRect(); return box.height < 43.5 || box.width < 39.5; })
  .map(([, one]) => one.outerHTML.slice(0, 160))"""


def test_a_phone_shows_one_column_with_large_targets_that_have_names(here: Site) -> None:
    page = here.page(PHONE, touch=True)
    page.wait_for_selector(".cost:has-text('evaluation')")
    views: list[Callable[[], Any]] = [
        lambda: None,
        lambda: (paint(page), until(page, "finished"), page.wait_for_selector("#stage > .view[data-ready]")),
        lambda: page.click("button:has-text('Repaint a part')"),
        lambda: (page.click("nav a:has-text('Renders')"), page.wait_for_selector(".card img")),
    ]
    for view in views:
        view()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE[0]
        assert page.evaluate(UNNAMED) == []
        assert page.evaluate(SMALL) == []


def test_nothing_comes_from_elsewhere(here: Site) -> None:
    page, hosts = here.page(), set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc or urlsplit(request.url).scheme))
    page.reload()
    paint(page)
    until(page, "finished")
    page.wait_for_selector("#stage > .view[data-ready]")
    assert hosts <= {urlsplit(here.url).netloc, "blob"}


def test_a_cut_line_is_taken_up_where_it_was(here: Site) -> None:
    """Events in pieces of any size, a line that breaks in the midst of one, and no event twice."""
    page = here.page()
    told = page.evaluate("""async () => {
      const { follow } = await import('/static/js/sse.js');
      const written = [1, 2, 3, 4].map((id) =>
        `id: ${id}\\nevent: ${id < 4 ? 'step' : 'finished'}\\ndata: {"done": ${id}}\\n\\n`);
      const asked = [], real = window.fetch;
      window.fetch = async (path, options) => {
        if (path !== '/v1/x') return real(path, options);
        const { headers } = options;
        asked.push(headers['Last-Event-ID'] ?? null);
        const text = asked.length === 1 ? ': ok\\n\\n' + written[0] + written[1] + written[2].slice(0, 20)
          : written.slice(asked.length === 2 ? 1 : 2).join('');
        if (asked.length === 2) throw new TypeError('no line');
        const bytes = new TextEncoder().encode(text);
        return new Response(new ReadableStream({ start(to) {
          for (let n = 0; n < bytes.length; n += 7) to.enqueue(bytes.slice(n, n + 7));
          to.close();
        } }));
      };
      const told = [], troubles = [];
      await follow('/v1/x', { signal: new AbortController().signal, tell: (one) => told.push(one.data.done),
        isLast: (one) => one.event === 'finished', trouble: (error) => troubles.push(error !== null) });
      return { told, asked, troubles };
    }""")
    assert told == {"told": [1, 2, 3, 4], "asked": [None, "2", "2"], "troubles": [True, False]}


def test_a_line_that_has_no_more_to_tell_is_no_trouble(here: Site) -> None:
    page = here.page()
    troubles = page.evaluate("""async () => {
      const { follow } = await import('/static/js/sse.js');
      const real = window.fetch, troubles = [];
      window.fetch = async (path, options) =>
        (path === '/v1/x' ? new Response(null, { status: 204 }) : real(path, options));
      await follow('/v1/x', { signal: new AbortController().signal, tell: () => {}, isLast: () => false,
        trouble: (error) => troubles.push(error) });
      return troubles.length;
    }""")
    assert troubles == 0
