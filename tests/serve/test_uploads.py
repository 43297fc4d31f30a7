"""Pictures that clients send are kept only if they are pictures; nothing they hold can cost more than a little."""

from __future__ import annotations

import io
import random
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raytile.canvas.bytes import Bytes
from raytile.plan.request import RenderRequest
from raytile.plan.scene import Picture, Region
from raytile.serve.errors import NotFound, Unprocessable, WrongKind
from raytile.serve.uploads import Uploads, at_hand
from tests.serve.service import Service, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("store"), max_upload=200_000, max_pixels=2**20) as found:
        yield found


def picture(kind: str = "PNG", size: tuple[int, int] = (96, 64), mode: str = "RGB") -> bytes:
    values = np.random.default_rng(5).integers(0, 255, (size[1] // 8, size[0] // 8, len(mode)), dtype=np.uint8)
    made, held = Image.fromarray(values.squeeze(), mode).resize(size), io.BytesIO()
    made.save(held, kind)
    return held.getvalue()


def png(width: int, height: int, packed: bytes, *more: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def send(service: Service, data: bytes, **more: object) -> tuple[int, dict[str, object]]:
    answer = service.client.post("/v1/uploads", files={"file": ("../../etc/passwd", data)}, **more)  # type: ignore[arg-type]
    return answer.status_code, answer.json()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_picture_is_kept_and_found_again(service: Service, kind: str) -> None:
    data = picture(kind)
    status, made = send(service, data)
    assert status == 201, made
    assert (made["width"], made["height"], made["format"], made["bytes"]) == (96, 64, kind.lower(), len(data))
    assert service.client.get(f"/v1/uploads/{made['id']}").json() == made
    assert service.client.delete(f"/v1/uploads/{made['id']}").status_code == 204
    assert service.client.get(f"/v1/uploads/{made['id']}").status_code == 404
    assert "owner" not in made


def test_a_raw_body_is_a_picture_too(service: Service) -> None:
    answer = service.client.post("/v1/uploads", content=picture(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 201
    render = service.make(size="96x64", source={"upload": answer.json()["id"]}, strength=0.5)
    assert service.events(render)[-1]["event"] == "finished"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 415),
        (b"hello", 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", 415),
        (b"GIF89a" + bytes(100), 415),
        (b"PK\x03\x04" + bytes(100), 415),
        (picture()[:-40], 422),
        (picture("JPEG")[:300], 422),
        (png(60_000, 60_000, zlib.compress(bytes(1000))), 422),
        (png(2**31 - 1, 2**31 - 1, b""), 422),
        (png(0, 0, b""), 422),
        (b"II*\0" + bytes(64), 422),
        (b"RIFF\xff\xff\xff\xffWEBPVP8L" + bytes(64), 422),
    ],
)
def test_what_is_no_whole_picture_is_refused(service: Service, data: bytes, status: int) -> None:
    before = {*service.desk.records.objects.sizes("uploads/")}
    found, said = send(service, data)
    assert found == status, said
    assert said["error"]["param"] == "file"  # type: ignore[index]
    assert "/" not in said["error"]["message"].replace("JPEG/", "")  # type: ignore[index]
    assert {*service.desk.records.objects.sizes("uploads/")} == before


def test_a_bomb_costs_little(service: Service) -> None:
    begun = time.monotonic()
    packed = zlib.compress(bytes(2**27), 9)
    assert send(service, png(64, 64, packed))[0] in (201, 422)
    text = b"zTXt"
    bomb = struct.pack(">I", len(packed) + 6) + text + b"a\0\0" + packed
    assert send(service, png(64, 64, zlib.compress(bytes(64 * 193)), bomb + struct.pack(">I", 0)))[0] in (201, 422)
    assert time.monotonic() - begun < 30


def test_too_many_bytes_are_not_read(service: Service) -> None:
    for more in ({"files": {"file": ("a", bytes(300_000))}}, {"content": bytes(300_000)}):
        headers = {} if "files" in more else {"Content-Type": "image/png"}
        answer = service.client.post("/v1/uploads", headers=headers, **more)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")

    def endless() -> Iterator[bytes]:  # chunked: nothing says how long it is
        for _ in range(1000):
            yield bytes(2**16)

    answer = service.client.post("/v1/uploads", content=endless(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("", b"x", 415),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=b", b"", 422),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--", 400),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--',
            422,
        ),
        ("multipart/form-data; boundary=b; charset=zlib_codec", b"--b--", 422),
    ],
)
def test_bodies_that_are_no_form_are_refused(service: Service, kind: str, body: bytes, status: int) -> None:
    answer = service.client.post("/v1/uploads", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("id", ["x", "u" + "0" * 24, "..%2f..%2fkeys", "%00", "r" + "0" * 24, "u" + "0" * 25])
def test_ids_are_ids(service: Service, id: str) -> None:
    for method in ("GET", "DELETE"):
        answer = service.client.request(method, f"/v1/uploads/{id}")
        assert answer.status_code == 404
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_an_upload_is_its_owners(objects: Bytes, tmp_path: Path) -> None:
    now = [1_700_000_000.0]
    uploads = Uploads(objects, lambda: now[0], random.Random(1), 2**20)
    file = tmp_path / "data"
    file.write_bytes(picture())
    upload = uploads.keep("a", file)
    assert uploads.get("a", upload.id) == uploads.get(None, upload.id) == upload
    with pytest.raises(NotFound):
        uploads.get("b", upload.id)
    with pytest.raises(NotFound):
        uploads.remove("b", upload.id)
    now[0] += 100
    later = uploads.keep("b", file)
    assert uploads.expire(now[0] - 50) == [upload.id]
    assert [*objects.sizes("uploads/")] != []
    assert uploads.get("b", later.id) == later
    uploads.remove(None, later.id)
    assert not [key for key in objects.sizes("uploads/") if not key.endswith(".lock")]


def test_uploads_in_a_bucket_come_to_hand(objects: Bytes, tmp_path: Path) -> None:
    uploads = Uploads(objects, time.time, random.Random(2), 2**20)
    file = tmp_path / "data"
    file.write_bytes(picture())
    upload = uploads.keep("a", file)
    here = Picture(path=uploads.path(upload.id))
    shape = Region(mask=here, prompt="sea")
    asked = RenderRequest(prompt="x", width=96, height=64, model="toy", source=here, regions=(shape,))
    found = at_hand(asked, objects, tmp_path / "scratch")
    if not objects.where.startswith("s3:"):
        assert found == asked
        return
    assert found.source is not None
    assert Path(found.source.path).read_bytes() == file.read_bytes()
    assert found.regions[0].mask == found.source
    uploads.remove("a", upload.id)
    at_hand(asked, objects, tmp_path / "scratch")  # it was fetched before
    gone = at_hand(asked, objects, tmp_path / "other").source
    assert gone is not None
    assert not Path(gone.path).exists()  # whoever needs it says so


def test_damage_is_told_from_what_is_no_picture(tmp_path: Path, objects: Bytes) -> None:
    uploads, file = Uploads(objects, time.time, random.Random(3), 1000), tmp_path / "data"
    file.write_bytes(b"nothing")
    with pytest.raises(WrongKind):
        uploads.keep("a", file)
    file.write_bytes(picture())
    with pytest.raises(Unprocessable, match="too many"):
        uploads.keep("a", file)
