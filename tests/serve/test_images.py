"""OpenAI's own client makes, edits and streams pictures, and gets its own exceptions."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from openai import OpenAI
from PIL import Image

from tests.serve.service import Service, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("store"), max_side=2048, preview_every=1) as found:
        yield found


@pytest.fixture(scope="module")
def client(service: Service) -> OpenAI:
    return OpenAI(base_url="http://localhost:8000/v1", api_key="none", http_client=service.client, max_retries=0)


def shown(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data)))


def png(picture: Image.Image) -> bytes:
    held = io.BytesIO()
    picture.save(held, "PNG")
    return held.getvalue()


FEW: Any = {"extra_body": {"steps": 2, "seed": 7}}


def test_pictures_come_in_base64_or_by_url(client: OpenAI, service: Service) -> None:
    made = client.images.generate(prompt="islands", model="toy", size="96x64", n=2, **FEW)  # type: ignore[call-overload]
    assert made.size == "96x64"
    assert made.usage.output_tokens > 0
    one, other = (np.asarray(shown(found.b64_json)) for found in made.data)
    assert one.shape == (64, 96, 3)
    assert (one != other).any()  # another seed
    again = client.images.generate(  # type: ignore[call-overload]
        prompt="islands", size="96x64", response_format="url", output_format="webp", quality="hd", user="me", **FEW
    )
    assert again.quality == "high"
    (found,) = again.data
    assert found.b64_json is None
    fetched = service.client.get(found.url)
    assert fetched.headers["content-type"] == "image/webp"
    picture = np.asarray(Image.open(io.BytesIO(fetched.content)).convert("RGB")).astype(int)
    assert np.abs(picture - one).mean() < 40  # the same picture, for the same seed
    smaller = client.images.generate(prompt="islands", size="96x64", output_format="jpeg", output_compression=5, **FEW)  # type: ignore[call-overload]
    assert shown(smaller.data[0].b64_json).format == "JPEG"


def test_the_picture_is_that_of_the_plain_route(client: OpenAI, service: Service) -> None:
    made = client.images.generate(prompt="islands", size="96x64", **FEW)  # type: ignore[call-overload]
    id = service.make(seed=7)
    service.events(id)
    assert base64.b64decode(made.data[0].b64_json) == service.client.get(f"/v1/renders/{id}/content").content


def test_extensions_reach_the_request(client: OpenAI, service: Service) -> None:
    region = {"box": [0, 0, 48, 64], "prompt": "sea"}
    more = {"steps": 2, "wrap": "x", "negative": "ice", "guidance": 2.5, "regions": [region]}
    client.images.generate(prompt="islands", size="96x64", extra_body=more)
    (newest,) = service.client.get("/v1/renders", params={"limit": 1}).json()["data"]
    asked = newest["request"]
    assert (asked["wrap"], asked["negative"], asked["guidance"], asked["steps"]) == ("x", "ice", 2.5, 2)
    assert asked["regions"][0]["prompt"] == "sea"


def test_a_stream_tells_of_the_picture_as_it_comes(client: OpenAI) -> None:
    stream = client.images.generate(  # type: ignore[call-overload]
        prompt="islands", size="512x256", stream=True, partial_images=2, extra_body={"steps": 12, "seed": 1}
    )
    *partial, last = [*stream]
    assert last.type == "image_generation.completed"
    assert last.usage.total_tokens > 0
    assert shown(last.b64_json).size == (512, 256)
    assert [event.partial_image_index for event in partial] == [*range(len(partial))]
    for event in partial:
        assert event.type == "image_generation.partial_image"
        assert event.size == "512x256"
        assert shown(event.b64_json).size == (512, 256)


def test_an_image_is_painted_anew(client: OpenAI) -> None:
    image = png(Image.linear_gradient("L").resize((96, 64)).convert("RGB"))
    made = client.images.edit(image=("a.png", image), prompt="islands", extra_body={"steps": 2, "strength": 0.5})
    assert shown(made.data[0].b64_json).size == (96, 64)
    several = client.images.edit(image=[("a.png", image)], prompt="x", n=2, extra_body={"steps": 2}, size="192x128")  # type: ignore[call-overload]
    assert [shown(found.b64_json).size for found in several.data] == [(192, 128)] * 2


@pytest.mark.parametrize("stream", [False, True])
def test_outside_its_mask_an_image_stays_as_it_was(client: OpenAI, service: Service, stream: bool) -> None:
    values = np.random.default_rng(1).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    holes = np.full((64, 96, 4), 255, dtype=np.uint8)
    holes[8:40, 16:80, 3] = 0
    more = {"steps": 2, "seed": 4, "feather": 0}
    before = {*service.desk.records.objects.sizes("uploads/")}
    answer = client.images.edit(  # type: ignore[call-overload]
        image=png(Image.fromarray(values)),
        mask=png(Image.fromarray(holes)),
        prompt="sea",
        stream=stream,
        extra_body=more,
    )
    data = [*answer][-1].b64_json if stream else answer.data[0].b64_json
    found = np.asarray(shown(data))
    inside = holes[..., 3] == 0
    assert (found[~inside] == values[~inside]).all()
    assert (found[inside] != values[inside]).mean() > 0.9
    assert {*service.desk.records.objects.sizes("uploads/")} == before  # nothing is left but the picture
    newest = service.client.get("/v1/renders", params={"limit": 1}).json()["data"][0]
    for kind in ("png", "tiff"):
        content = service.client.get(f"/v1/renders/{newest['id']}/content", params={"format": kind}).content
        assert (np.asarray(Image.open(io.BytesIO(content))) == found).all()


@pytest.mark.parametrize(
    ("given", "kind", "param"),
    [
        ({"size": "9x"}, openai.UnprocessableEntityError, "size"),
        ({"size": "4096x64"}, openai.UnprocessableEntityError, "width"),
        ({"n": 5}, openai.UnprocessableEntityError, "n"),
        ({"n": 0}, openai.UnprocessableEntityError, "n"),
        ({"model": "dall-e-3"}, openai.NotFoundError, "model"),
        ({"model": "../../etc"}, openai.NotFoundError, "model"),
        ({"extra_body": {"sieve": 1}}, openai.BadRequestError, "sieve"),
        ({"extra_body": {"source": "/etc/passwd"}}, openai.BadRequestError, "source"),
        ({"background": "transparent"}, openai.UnprocessableEntityError, "background"),
        ({"output_format": "svg"}, openai.UnprocessableEntityError, "output_format"),
        ({"prompt": ""}, openai.UnprocessableEntityError, "prompt"),
        ({"extra_body": {"steps": 400}}, openai.UnprocessableEntityError, "steps"),
        ({"stream": True, "size": "0x0"}, openai.UnprocessableEntityError, "size"),
    ],
)
def test_refusals_are_the_clients_own_exceptions(client: OpenAI, given: dict[str, Any], kind: Any, param: str) -> None:
    with pytest.raises(kind) as refused:
        client.images.generate(**{"prompt": "islands", "size": "96x64", **given})
    assert refused.value.param == param
    assert refused.value.code


def test_edits_are_refused_in_the_same_shape(client: OpenAI) -> None:
    image, small = (png(Image.new("RGBA", size, (9, 9, 9, 0))) for size in ((96, 64), (48, 32)))
    whole = png(Image.new("RGB", (96, 64)))
    for files, kind, param in (
        ({"image": b"no picture"}, openai.APIStatusError, "file"),
        ({"image": image, "mask": small}, openai.UnprocessableEntityError, "mask"),
        ({"image": image, "mask": whole}, openai.UnprocessableEntityError, "mask"),
        ({"image": image, "size": "1x"}, openai.UnprocessableEntityError, "size"),
        ({"image": image, "model": "gpt-image-2"}, openai.NotFoundError, "model"),
        ({"image": image, "n": 9}, openai.UnprocessableEntityError, "n"),
        ({"image": image, "extra_body": {"strength": 7}}, openai.UnprocessableEntityError, "strength"),
    ):
        with pytest.raises(kind) as refused:
            client.images.edit(**{"prompt": "islands", **files})  # type: ignore[arg-type]
        assert refused.value.param == param, files


def test_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["toy"]
    assert client.models.retrieve("toy").owned_by == "raytile"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("gpt-image-2")
    assert refused.value.code == "model_not_found"


def test_a_full_queue_says_when_to_come_again(tmp_path: Any) -> None:
    with serving(tmp_path, paint=False, max_renders_per_key=2) as idle:
        for _ in range(2):
            idle.make()
        asked = OpenAI(base_url="http://localhost:8000/v1", api_key="none", http_client=idle.client, max_retries=0)
        with pytest.raises(openai.RateLimitError) as refused:
            asked.images.generate(prompt="islands", size="96x64", n=2)
        assert int(refused.value.response.headers["retry-after"]) > 0


def test_keys_are_asked_for(tmp_path: Any) -> None:
    with serving(tmp_path, paint=False, keys="on") as locked:
        asked = OpenAI(base_url="http://localhost:8000/v1", api_key="none", http_client=locked.client, max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            asked.images.generate(prompt="islands", size="96x64")
        _, text = locked.desk.keys.add("reader", ["read"])
        reader = asked.with_options(api_key=text)
        assert [model.id for model in reader.models.list()] == ["toy"]
        with pytest.raises(openai.PermissionDeniedError):
            reader.images.generate(prompt="islands", size="96x64")
