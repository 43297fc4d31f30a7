"""The picture of a render as a file: whole, in parts, or by a link."""

from __future__ import annotations

import io
import json
import random
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raytile.canvas import store
from raytile.canvas.export import export_picture
from raytile.geometry.box import Box
from raytile.serve import exports
from raytile.serve.routes_content import exports_of
from tests.s3 import Server
from tests.serve.service import Service, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture(scope="module")
def render(service: Service) -> str:
    id = service.make()
    assert service.events(id)[-1]["event"] == "finished"
    return id


def pixels(service: Service, id: str) -> np.ndarray:
    canvas = store.open(service.desk.records.canvas(id))
    return canvas.read_image(Box(0, canvas.layout.height, 0, canvas.layout.width)).transpose(1, 2, 0)


@pytest.mark.parametrize(("format", "exact"), [("png", True), ("tiff", True), ("jpeg", False), ("webp", False)])
def test_every_format_has_the_pixels(service: Service, render: str, format: str, exact: bool) -> None:
    answer = service.client.get(f"/v1/renders/{render}/content", params={"format": format})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"image/{format}"
    assert answer.headers["content-disposition"] == f'attachment; filename="{render}.{format}"'
    assert int(answer.headers["content-length"]) == len(answer.content)
    found = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
    off = np.abs(found - pixels(service, render)).mean()
    assert off == 0 if exact else off < 40


def test_a_client_goes_on_where_it_was(service: Service, render: str) -> None:
    url = f"/v1/renders/{render}/content"
    whole = service.client.get(url)
    etag, data = whole.headers["etag"], whole.content
    for asked, start, stop in (
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, len(data)),
        ("bytes=-7", len(data) - 7, len(data)),
        (f"bytes=5-{10**12}", 5, len(data)),
    ):
        part = service.client.get(url, headers={"Range": asked, "If-Range": etag})
        assert (part.status_code, part.content) == (206, data[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(data)}"
    for asked in ("bytes=9-5", "bytes=", "bytes=-", "lines=1-2", "bytes=1-2,4-5", "bytes=a-b", "bytes=" + "9" * 400):
        assert service.client.get(url, headers={"Range": asked}).content == data
    assert service.client.get(url, headers={"Range": "bytes=3-4", "If-Range": '"other"'}).content == data
    for asked in (f"bytes={len(data)}-", "bytes=-0"):
        beyond = service.client.get(url, headers={"Range": asked})
        assert (beyond.status_code, beyond.json()["error"]["code"]) == (416, "range_not_satisfiable")
    for seen in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        again = service.client.get(url, headers={"If-None-Match": seen})
        assert (again.status_code, again.content) == (304, b"")
    assert service.client.get(url, headers={"If-None-Match": '"x"'}).status_code == 200


def test_an_unfinished_picture_is_told_from_a_finished_one(tmp_path: Path) -> None:
    with serving(tmp_path, paint=False) as idle:
        url = f"/v1/renders/{idle.make()}/content"
        for asked in ({}, {"partial": "1"}):
            answer = idle.client.get(url, params=asked)
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
        assert idle.client.get(url, params={"format": "gif"}).status_code == 422
        assert idle.client.get(f"/v1/renders/r{'0' * 24}/content").status_code == 404


def test_what_is_painted_of_a_cancelled_picture_can_be_had(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = service.make(size="512x512", steps=40)
    with service.client.stream("GET", f"/v1/renders/{id}/events") as answer:
        for line in answer.iter_lines():
            if line == "event: step":
                break
    assert service.client.post(f"/v1/renders/{id}/cancel").status_code == 202
    assert service.events(id)[-1]["event"] == "cancelled"
    partial = service.client.get(f"/v1/renders/{id}/content", params={"partial": "1"})
    assert (partial.status_code, partial.headers["cache-control"]) == (200, "no-store")
    assert Image.open(io.BytesIO(partial.content)).size == (512, 512)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    beyond = service.client.get(
        f"/v1/renders/{id}/content", params={"partial": "1"}, headers={"Range": f"bytes={10**12}-"}
    )
    assert (beyond.status_code, [*tmp_path.iterdir()]) == (416, [])


def test_a_picture_that_many_want_is_made_once(service: Service, render: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def slow(canvas: Any, file: Path, **given: Any) -> Path:
        made.append(file)
        time.sleep(0.3)
        return export_picture(canvas, file, **given)

    monkeypatch.setattr(exports, "export_picture", slow)
    record, canvas = service.desk.get(None, render), service.desk.records.canvas(render)
    with ThreadPoolExecutor(4) as pool:
        wanted = [pool.submit(exports_of(service.desk).whole, record, canvas, "jpeg", 77) for _ in range(4)]
        assert len({each.result().file for each in wanted}) == len(made) == 1


def test_a_removed_render_leaves_nothing(service: Service) -> None:
    id = service.make()
    service.events(id)
    assert service.client.get(f"/v1/renders/{id}/content").status_code == 200
    assert service.client.delete(f"/v1/renders/{id}").status_code == 204
    assert not [key for key in service.desk.records.objects.sizes() if id in key]
    assert service.client.get(f"/v1/renders/{id}/content").status_code == 404


def test_a_picture_in_a_bucket_is_sent_or_linked(s3: Server) -> None:  # noqa: ARG001 (it must run)
    place = f"s3://pictures/content-{random.getrandbits(40):x}"
    with serving(place) as far:
        id = far.make()
        assert far.events(id)[-1]["event"] == "finished"
        sent = far.client.get(f"/v1/renders/{id}/content")
        assert sent.status_code == 200
    with serving(place, paint=False, presign=60) as linked:
        answer = linked.client.get(f"/v1/renders/{id}/content", follow_redirects=False)
        assert answer.status_code == 307
        with urllib.request.urlopen(answer.headers["location"]) as found:
            assert found.read() == sent.content
            assert found.headers["Content-Type"] == "image/png"
            assert id in found.headers["Content-Disposition"]


def test_the_document_tells_of_pictures(service: Service) -> None:
    document = service.client.get("/openapi.json").json()
    answers = document["paths"]["/v1/renders/{id}/content"]["get"]["responses"]
    assert {"200", "206", "304", "307", "404", "409", "416"} <= {*answers}
    assert "image/png" in answers["200"]["content"]
    assert json.dumps(document).count("/v1/uploads") >= 1
