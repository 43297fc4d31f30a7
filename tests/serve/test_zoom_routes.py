"""Deep zoom over HTTP: the routes that viewers know, who may look, and what may be cached.

The IIIF cases are those of the validator of the IIIF community (info.json, regions, sizes, rotations, qualities,
formats, links, statuses)."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from raytile import api
from raytile.canvas import store
from raytile.errors import CanvasError
from raytile.geometry.box import Box
from raytile.plan.request import RenderRequest
from raytile.serve.keys import Keys
from raytile.serve.pyramid import NEUTRAL
from raytile.serve.tiles import Picture
from raytile.serve.viewapp import make_view_app
from tests.serve.service import Service, serving

WIDTH, HEIGHT = 300, 200


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, str, Any]]:
    """A service with one finished render, its id, and its pixels (h, w, 3)."""
    with serving(tmp_path_factory.mktemp("store"), preview_every=1) as service:
        id = service.make(size=f"{WIDTH}x{HEIGHT}")
        service.events(id)
        canvas = store.open(service.desk.records.canvas(id))
        yield service, id, canvas.read_image(Box(0, HEIGHT, 0, WIDTH)).transpose(1, 2, 0)


def opened(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


# -- DeepZoom --------------------------------------------------------------------------------------------------------


def test_the_tiles_that_the_descriptor_names_are_there(painted: tuple[Service, str, Any]) -> None:
    service, id, pixels = painted
    answer = service.client.get(f"/v1/renders/{id}.dzi")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/xml")
    assert f'Width="{WIDTH}" Height="{HEIGHT}"' in answer.text
    for level, size in ((0, (1, 1)), (5, (13, 19)), (9, (HEIGHT, WIDTH))):
        for ending in ("jpeg", "jpg", "png", "webp"):
            assert opened(service.client.get(f"/v1/renders/{id}_files/{level}/0_0.{ending}")).shape == (*size, 3)
    assert (opened(service.client.get(f"/v1/renders/{id}_files/9/0_0.png")) == pixels).all()


@pytest.mark.parametrize(
    "rest", ["10/0_0.jpeg", "9/1_0.jpeg", "9/0_1.jpeg", "9/0_0.gif", "9/0_0", "-1/0_0.png", "9/-1_0.png", "x/0_0.png",
             "9/0_0.jpeg.png", "9/٠_0.png", "9/1e0_0.png", "9/99999999999_0.png", "9/..%2f0_0.png"]
)  # fmt: skip
def test_other_tiles_are_not_there(painted: tuple[Service, str, Any], rest: str) -> None:
    service, id, _ = painted
    refused(service.client.get(f"/v1/renders/{id}_files/{rest}"), 404)


def refused(answer: Any, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "path",
    ["renders/{}.dzi", "renders/{}_files/0/0_0.png", "iiif/{}", "iiif/{}/info.json", "iiif/{}/full/max/0/default.jpg"],
)
def test_what_is_no_render_is_not_found(painted: tuple[Service, str, Any], path: str) -> None:
    for id in ("r" + "0" * 24, "none", "..", "%2e%2e%2fkeys", "r" * 300):
        answer = painted[0].client.get("/v1/" + path.format(id))
        assert answer.status_code in (404, 422), answer.text
        assert answer.json()["error"]


# -- caching ---------------------------------------------------------------------------------------------------------


def test_what_is_finished_is_kept_for_ever_and_not_sent_twice(painted: tuple[Service, str, Any]) -> None:
    service, id, _ = painted
    for path in (f"renders/{id}_files/9/0_0.jpeg", f"iiif/{id}/full/100,/0/default.jpg"):
        first = service.client.get(f"/v1/{path}")
        assert first.headers["cache-control"] == "public, max-age=31536000, immutable"
        tag = first.headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = service.client.get(f"/v1/{path}", headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        assert service.client.get(f"/v1/{path}", headers={"If-None-Match": '"other"'}).content == first.content


def test_what_was_seen_before_the_end_is_not_kept_though_the_render_has_ended(
    painted: tuple[Service, str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, id, _ = painted
    url = f"/v1/renders/{id}_files/9/0_0.jpeg"
    with monkeypatch.context() as glance:  # of a moment ago, when no tile was there
        glance.setattr(Picture, "final", lambda *_: None)
        assert service.client.get(url).headers["cache-control"] == "no-cache"
    assert service.client.get(url).headers["cache-control"].endswith("immutable")


def test_every_part_has_a_tag_of_its_own(painted: tuple[Service, str, Any]) -> None:
    service, id, _ = painted
    parts = [f"renders/{id}_files/{rest}" for rest in ("9/0_0.jpeg", "8/0_0.jpeg", "9/0_0.png")]
    parts += [
        f"iiif/{id}/{rest}"
        for rest in ("full/max/0/default.jpg", "full/100,/0/default.jpg", "full/max/90/default.jpg",
                     "full/max/!0/default.jpg", "full/max/0/gray.jpg", "square/max/0/default.jpg")
    ]  # fmt: skip
    tags = [service.client.get(f"/v1/{part}").headers["etag"] for part in parts]
    assert len(set(tags)) == len(parts)


def test_before_anything_is_painted_all_is_grey_and_nothing_is_kept(tmp_path: Path) -> None:
    with serving(tmp_path, paint=False) as service:
        id = service.make(size="300x200")
        answer = service.client.get(f"/v1/renders/{id}_files/9/0_0.png")
        assert (opened(answer) == NEUTRAL).all()
        assert answer.headers["cache-control"] == "no-cache"
        assert service.client.get(f"/v1/renders/{id}.dzi").headers["cache-control"] == "no-cache"
        assert opened(service.client.get(f"/v1/iiif/{id}/full/30,/0/gray.png")).shape == (20, 30)


def test_keys_are_asked_for_and_renders_belong_to_theirs(tmp_path: Path) -> None:
    with serving(tmp_path, paint=False, keys="on") as service:
        keys: Keys = service.desk.keys
        mine, theirs = ({"Authorization": f"Bearer {keys.add(name, ('render', 'read'))[1]}"} for name in ("a", "b"))
        made = service.client.post("/v1/renders", json={"prompt": "x", "size": "64x64", "steps": 1}, headers=mine)
        id = made.json()["id"]
        for path in (f"renders/{id}.dzi", f"renders/{id}_files/6/0_0.png", f"iiif/{id}", f"iiif/{id}/info.json",
                     f"iiif/{id}/full/max/0/default.jpg"):  # fmt: skip
            assert service.client.get(f"/v1/{path}").status_code == 401
            assert service.client.get(f"/v1/{path}?key={mine['Authorization'][7:]}").status_code == 401
            assert service.client.get(f"/v1/{path}", headers=theirs).status_code == 404
            assert service.client.get(f"/v1/{path}", headers=mine, follow_redirects=False).status_code in (200, 303)


def test_who_asks_too_much_is_told_to_come_again(
    painted: tuple[Service, str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, id, _ = painted
    monkeypatch.setattr("raytile.serve.showing.WAITING", 0)
    for path in (f"renders/{id}_files/9/0_0.jpeg", f"iiif/{id}/full/100,/0/default.jpg"):
        answer = service.client.get(f"/v1/{path}")
        refused(answer, 429)
        assert int(answer.headers["retry-after"]) > 0


# -- IIIF ------------------------------------------------------------------------------------------------------------


def test_the_base_leads_to_the_information(painted: tuple[Service, str, Any]) -> None:
    service, id, _ = painted
    answer = service.client.get(f"/v1/iiif/{id}", follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"http://localhost:8000/v1/iiif/{id}/info.json"


def test_the_information_is_whole(painted: tuple[Service, str, Any]) -> None:
    service, id, _ = painted
    answer = service.client.get(f"/v1/iiif/{id}/info.json")
    assert answer.headers["content-type"] == ('application/ld+json;profile="http://iiif.io/api/image/3/context.json"')
    found = answer.json()
    assert found["@context"] == "http://iiif.io/api/image/3/context.json"
    assert found["id"] == f"http://localhost:8000/v1/iiif/{id}"
    assert found["type"] == "ImageService3"
    assert found["protocol"] == "http://iiif.io/api/image"
    assert found["profile"] == "level2"
    assert (found["width"], found["height"]) == (WIDTH, HEIGHT)
    assert 'rel="profile"' in answer.headers["link"]
    plain = service.client.get(f"/v1/iiif/{id}/info.json", headers={"Accept": "application/json"})
    assert plain.headers["content-type"] == "application/json"
    assert plain.json() == found
    assert plain.headers["vary"] == answer.headers["vary"] == "Accept"


def image(service: Service, id: str, rest: str) -> Any:
    return opened(service.client.get(f"/v1/iiif/{id}/{rest}"))


@pytest.mark.parametrize(
    ("region", "box"),
    [("full", (0, 200, 0, 300)), ("square", (0, 200, 50, 250)), ("10,20,30,40", (20, 60, 10, 40)),
     ("290,190,50,50", (190, 200, 290, 300)), ("pct:10,10,20,20", (20, 60, 30, 90))],
)  # fmt: skip
def test_regions(painted: tuple[Service, str, Any], region: str, box: tuple[int, int, int, int]) -> None:
    service, id, pixels = painted
    y0, y1, x0, x1 = box
    assert (image(service, id, f"{region}/max/0/default.png") == pixels[y0:y1, x0:x1]).all()


@pytest.mark.parametrize(
    ("size", "shape"),
    [("max", (200, 300)), ("150,", (100, 150)), (",50", (50, 75)), ("pct:10", (20, 30)), ("40,90", (90, 40)),
     ("!60,60", (40, 60)), ("^150,", (100, 150)), ("1,1", (1, 1))],
)  # fmt: skip
def test_sizes(painted: tuple[Service, str, Any], size: str, shape: tuple[int, int]) -> None:
    service, id, pixels = painted
    found = image(service, id, f"full/{size}/0/default.png")
    assert found.shape == (*shape, 3)
    assert np.abs(found.mean(axis=(0, 1)) - pixels.mean(axis=(0, 1))).max() < 12


def test_rotations(painted: tuple[Service, str, Any]) -> None:
    service, id, pixels = painted
    part = pixels[0:40, 0:60]
    for rotation, wanted in (
        ("0", part), ("360", part), ("90", np.rot90(part, -1)), ("180", np.rot90(part, 2)), ("270", np.rot90(part)),
        ("!0", part[:, ::-1]), ("!90", np.rot90(part[:, ::-1], -1)), ("!180", part[::-1]),
    ):  # fmt: skip
        assert (image(service, id, f"0,0,60,40/max/{rotation}/default.png") == wanted).all(), rotation


def test_qualities(painted: tuple[Service, str, Any]) -> None:
    service, id, pixels = painted
    assert (image(service, id, "full/max/0/color.png") == pixels).all()
    gray = image(service, id, "full/max/0/gray.png")
    assert (gray == np.asarray(Image.fromarray(pixels).convert("L"))).all()
    bitonal = image(service, id, "full/max/0/bitonal.png")
    assert set(np.unique(bitonal)) <= {0, 255}
    assert abs(bitonal.mean() - gray.mean()) < 12


@pytest.mark.parametrize(("format", "kind"), [("jpg", "jpeg"), ("png", "png"), ("webp", "webp")])
@pytest.mark.parametrize("quality", ["default", "gray", "bitonal"])
def test_formats(painted: tuple[Service, str, Any], format: str, kind: str, quality: str) -> None:
    service, id, _ = painted
    answer = service.client.get(f"/v1/iiif/{id}/full/50,/0/{quality}.{format}")
    assert answer.headers["content-type"] == f"image/{kind}"
    assert Image.open(io.BytesIO(answer.content)).format == kind.upper()


def test_links(painted: tuple[Service, str, Any]) -> None:
    service, id, _ = painted
    links = service.client.get(f"/v1/iiif/{id}/pct:0,0,100,100/30,/360/color.jpg").headers["link"]
    assert f'<http://localhost:8000/v1/iiif/{id}/full/30,20/0/default.jpg>;rel="canonical"' in links
    assert '<http://iiif.io/api/image/3/level2.json>;rel="profile"' in links


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        ("random/max/0/default.jpg", 400),
        ("0,0,0,10/max/0/default.jpg", 400),
        ("300,0,1,1/max/0/default.jpg", 400),
        ("full/random/0/default.jpg", 400),
        ("full/full/0/default.jpg", 400),
        ("full/301,/0/default.jpg", 400),
        ("full/0,/0/default.jpg", 400),
        ("full/^301,/0/default.jpg", 501),
        ("full/^max/0/default.jpg", 501),
        ("full/max/random/default.jpg", 400),
        ("full/max/361/default.jpg", 400),
        ("full/max/22.5/default.jpg", 501),
        ("full/max/0/random.jpg", 400),
        ("full/max/0/native.jpg", 400),
        ("full/max/0/default.random", 400),
        ("full/max/0/default.tif", 501),
        ("full/max/0/default.gif", 501),
        ("full/max/0/default.jp2", 501),
        ("full/max/0/default.pdf", 501),
    ],
)
def test_what_cannot_be_is_refused_in_the_one_shape(painted: tuple[Service, str, Any], rest: str, status: int) -> None:
    service, id, _ = painted
    refused(service.client.get(f"/v1/iiif/{id}/{rest}"), status)


@pytest.mark.parametrize(
    "rest", ["", "full", "full/max", "full/max/0", "full/max/0/default", "full/max/0/default.jpg/x"]
)
def test_addresses_with_too_few_or_many_parts(painted: tuple[Service, str, Any], rest: str) -> None:
    service, id, _ = painted
    refused(service.client.get(f"/v1/iiif/{id}/{rest}"), 404)


# -- one canvas ------------------------------------------------------------------------------------------------------

WISH = RenderRequest(prompt="an island", width=300, height=200, model="toy", steps=2)


def test_one_canvas_is_shown_as_a_render_is(tmp_path: Path) -> None:
    canvas = api.render(WISH, tmp_path / "a.zarr", in_process=True)
    pixels = canvas.read_image(Box(0, 200, 0, 300)).transpose(1, 2, 0)
    client = TestClient(make_view_app(canvas.path), base_url="http://localhost:9")
    said = client.get("/v1/view").json()
    assert (said["name"], said["state"], said["width"], said["height"]) == ("a.zarr", "finished", 300, 200)
    assert said["request"]["prompt"] == "an island"
    assert str(tmp_path) not in json.dumps(said)
    assert 'Width="300"' in client.get("/v1/view.dzi").text
    tile = client.get("/v1/view_files/9/0_0.png")
    assert (opened(tile) == pixels).all()
    again = client.get("/v1/view_files/9/0_0.png", headers={"If-None-Match": tile.headers["etag"]})
    assert again.status_code == 304
    assert client.get("/v1/iiif/view/info.json").json()["id"] == "http://localhost:9/v1/iiif/view"
    assert opened(client.get("/v1/iiif/view/full/30,/0/default.png")).shape == (20, 30, 3)
    refused(client.get("/v1/view_files/99/0_0.png"), 404)
    refused(client.get("/v1/view", headers={"Host": "elsewhere.example"}), 403)


def test_what_is_seen_of_one_canvas_goes_with_it(tmp_path: Path) -> None:
    """Painted on, and replaced by another of the same name."""
    canvas = api.render(WISH, tmp_path / "a.zarr", in_process=True)
    client = TestClient(make_view_app(canvas.path), base_url="http://localhost:9")
    before, tag = opened(client.get("/v1/view_files/9/0_0.png")), client.get("/v1/view").json()["tag"]
    other = WISH.model_copy(update={"seed": 9})
    new = api.render(other, tmp_path / "a.zarr", in_process=True, overwrite=True)
    time.sleep(0.3)  # a head is taken to stand for that long
    assert client.get("/v1/view").json()["tag"] != tag
    after = opened(client.get("/v1/view_files/9/0_0.png"))
    assert (after == new.read_image(Box(0, 200, 0, 300)).transpose(1, 2, 0)).all()
    assert (after != before).any()


def test_what_is_no_canvas_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(CanvasError, match="no canvas"):
        make_view_app(str(tmp_path / "none.zarr"))
