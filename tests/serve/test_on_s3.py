"""The service with its store in a bucket: pictures that clients send are taken in, what is painted is found again."""

from __future__ import annotations

import io
import secrets

from raytile.canvas import store
from tests.serve.service import serving


def picture(width: int, height: int, colour: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, height), (colour, 90, 60)).save(file, "PNG")
    return file.getvalue()


def test_an_upload_is_the_source_and_the_mask_of_a_picture(s3: object) -> None:  # noqa: ARG001 (the server)
    with serving(f"s3://pictures/service-{secrets.token_hex(4)}") as service:
        source, mask = (
            service.client.post("/v1/uploads", content=sent, headers={"content-type": "image/png"}).json()["id"]
            for sent in (picture(96, 64, 200), picture(96, 64, 255))
        )
        region = {"prompt": "snow", "mask": {"upload": mask}}
        id = service.make(size=None, source={"upload": source}, strength=0.5, regions=[region])
        assert service.events(id)[-1]["event"] == "finished"
        record = service.desk.records.get(id)
        assert record.request.source is not None
        assert record.request.source.path == service.desk.uploads.path(source)
        canvas = store.open(service.desk.records.canvas(id))
        assert canvas.path.startswith("s3://")
        assert record.digest == canvas.digests()[1]
        shown = service.client.get(f"/v1/renders/{id}")
        assert "s3://" not in shown.text
        assert shown.json()["progress"]["tiles_done"] == record.tiles
        other = service.client.post(
            f"/v1/renders/{id}/repaint", json={"repaint": [{"box": [0, 0, 32, 32]}], "steps": 2}
        )
        assert service.events(other.json()["id"])[-1]["event"] == "finished"
        for each in (other.json()["id"], id):
            assert service.client.delete(f"/v1/renders/{each}").status_code == 204
        assert {key.partition("/")[0] for key in service.desk.records.objects.sizes()} == {"uploads", "services"}
