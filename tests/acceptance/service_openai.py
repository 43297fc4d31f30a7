"""OpenAI's own client against a real service: 1024x1024 and 4096x2048 by base64 and by URL, streams of partial images,
edits, and every refusal as the exception that the client has for it."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
from openai import OpenAI
from PIL import Image

from raytile.serve.keys import Keys
from tests.acceptance.clusters import scratch, wait_for
from tests.acceptance.common import KEPT, report, say
from tests.acceptance.services import Service, digest_alone, serving

WORDS = "painted earth, islands"
FEW = {"steps": 4, "seed": 11}
LARGE = {"steps": 2, "seed": 11}


def picture(data: str | bytes) -> np.ndarray:
    raw = base64.b64decode(data) if isinstance(data, str) else data
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))


def png(values: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(values).save(held, "PNG")
    return held.getvalue()


def timed(figures: dict[str, Any], name: str, ask: Callable[[], Any]) -> Any:
    begun = time.monotonic()
    found = ask()
    figures[f"{name}_seconds"] = round(time.monotonic() - begun, 1)
    say(name, figures[f"{name}_seconds"])
    return found


def refusal(ask: Callable[[], Any]) -> str:
    """The exception that the client raises, with the parameter it names."""
    try:
        ask()
    except openai.APIStatusError as error:
        return f"{type(error).__name__} {error.status_code} {error.param} {error.code}"
    return "nothing"


def pictures(client: OpenAI, checks: dict[str, bool], figures: dict[str, Any], place: Path) -> None:
    """By base64 and by URL, small and large; the pixels are those that the library paints."""
    made = timed(
        figures,
        "b64_1024x1024",
        lambda: client.images.generate(prompt=WORDS, model="terra", size="1024x1024", extra_body=FEW),
    )
    square = picture(made.data[0].b64_json)
    wish = {"prompt": WORDS, "model": "terra", "width": 1024, "height": 1024, **FEW}
    alone = place / "alone.zarr"
    digest_alone(wish, alone)
    from raytile.canvas import store
    from raytile.geometry.box import Box

    same = store.open(alone).read_image(Box(0, 1024, 0, 1024)).transpose(1, 2, 0)
    checks["1024x1024 by base64 has the library's pixels"] = bool((square == same).all())
    for size in ("1024x1024", "4096x2048"):
        asked: Any = {"prompt": WORDS, "model": "terra", "size": size, "response_format": "url", "extra_body": LARGE}
        found = timed(figures, f"url_{size}", lambda asked=asked: client.images.generate(**asked))
        headers = {"Authorization": f"Bearer {client.api_key}"}
        answer = httpx2.get(found.data[0].url, headers=headers, timeout=300.0)
        values = picture(answer.content)
        checks[f"{size} by URL"] = f"{values.shape[1]}x{values.shape[0]}" == size and values.std() > 5
        checks[f"{size} needs the key"] = httpx2.get(found.data[0].url, timeout=60.0).status_code == 401
    again: Any = {"prompt": WORDS, "model": "terra", "size": "4096x2048", "output_format": "jpeg", "extra_body": LARGE}
    inline = timed(figures, "b64_4096x2048", lambda: client.images.generate(**again))
    values = picture(inline.data[0].b64_json)
    checks["4096x2048 by base64"] = values.shape == (2048, 4096, 3)
    figures["b64_4096x2048_bytes"] = len(inline.data[0].b64_json)
    Image.fromarray(values).resize((1024, 512)).save(KEPT / "service-openai-large.png")


def streams(client: OpenAI, checks: dict[str, bool], figures: dict[str, Any]) -> None:
    asked: Any = {"prompt": WORDS, "model": "terra", "size": "1024x512", "stream": True, "partial_images": 3}
    begun = time.monotonic()
    events = []
    for event in client.images.generate(**asked, extra_body={"steps": 12, "seed": 3}):
        events.append(event)
        figures.setdefault("stream_seconds", []).append(round(time.monotonic() - begun, 1))
    *partial, last = events
    say([event.type for event in events], figures["stream_seconds"])
    checks["a stream brings partial images"] = len(partial) >= 2 and all(
        event.type == "image_generation.partial_image" and event.partial_image_index == number
        for number, event in enumerate(partial)
    )
    whole = picture(last.b64_json)
    checks["and the whole in the end"] = last.type == "image_generation.completed" and whole.shape == (512, 1024, 3)
    seen = [picture(event.b64_json) for event in partial] + [whole]
    for number, values in enumerate(seen):
        Image.fromarray(values).save(KEPT / f"service-openai-stream-{number}.png")
    off = [float(np.abs(values.astype(float) - whole).mean()) for values in seen[:-1] if values.shape == whole.shape]
    figures["partial_images_off"] = [round(value, 1) for value in off]
    checks["that they come closer to"] = len(off) == len(partial) and off == sorted(off, reverse=True)


def edits(client: OpenAI, checks: dict[str, bool], figures: dict[str, Any]) -> None:
    made: Any = client.images.generate(prompt=WORDS, model="terra", size="512x512", extra_body={"steps": 12, "seed": 2})
    before = picture(made.data[0].b64_json)
    holes = np.full((512, 512, 4), 255, dtype=np.uint8)
    holes[128:384, 128:384, 3] = 0
    inside = holes[..., 3] == 0
    more: Any = {"model": "terra", "extra_body": {"steps": 12, "seed": 5, "guidance": 4}}
    words = "mostly ice, white ice, arctic"
    masked = timed(
        figures, "edit", lambda: client.images.edit(image=png(before), mask=png(holes), prompt=words, **more)
    )
    after = picture(masked.data[0].b64_json)
    Image.fromarray(np.hstack([before, after])).save(KEPT / "service-openai-edit.png")
    checks["an edit changes nothing outside its mask"] = bool((after[~inside] == before[~inside]).all())
    figures["edit_changed_inside"] = round(float((after[inside] != before[inside]).any(axis=-1).mean()), 3)
    checks["and what is inside"] = figures["edit_changed_inside"] > 0.9
    whole: Any = client.images.edit(image=png(before), prompt="desert", response_format="url", **more)
    checks["an edit without a mask"] = "/content?format=png" in whole.data[0].url


def refusals(client: OpenAI, service: Service, checks: dict[str, bool], figures: dict[str, Any]) -> None:
    ask = client.images.generate
    quick: Any = {"prompt": "x", "model": "toy", "size": "96x64"}
    nobody = client.with_options(api_key="rt_wrong")
    wanted = {
        "BadRequestError 400 sieve unknown_parameter": lambda: ask(**quick, extra_body={"sieve": 1}),
        "AuthenticationError 401 None invalid_api_key": lambda: nobody.models.list(),
        "NotFoundError 404 model model_not_found": lambda: ask(**{**quick, "model": "gpt-image-2"}),
        "UnprocessableEntityError 422 n invalid_value": lambda: ask(**{**quick, "n": 40}),
        "UnprocessableEntityError 422 width invalid_value": lambda: ask(**{**quick, "size": "999999x2"}),
        "UnprocessableEntityError 422 mask invalid_value": lambda: client.images.edit(
            image=png(np.zeros((64, 96, 3), np.uint8)), mask=png(np.zeros((64, 96, 3), np.uint8)), prompt="x"
        ),
    }
    found = {name: refusal(act) for name, act in wanted.items()}
    headers = {"Authorization": f"Bearer {client.api_key}"}
    heavy = {"prompt": "x", "model": "toy", "size": "2048x2048", "steps": 100}
    ids = [service.client.post("/v1/renders", json=heavy, headers=headers).json()["id"] for _ in range(4)]
    wanted["RateLimitError 429 None rate_limit_exceeded"] = lambda: ask(**quick)
    found["RateLimitError 429 None rate_limit_exceeded"] = refusal(lambda: ask(**quick))
    for id in ids:
        service.client.delete(f"/v1/renders/{id}", headers=headers)
    wait_for(lambda: all(service.records.get(id).terminal for id in ids), 120)
    figures["refusals"] = found
    for name in wanted:
        checks[f"refused as {name.partition(' ')[0]} ({name.split()[2]})"] = found[name] == name


def main() -> None:
    checks: dict[str, bool] = {}
    figures: dict[str, Any] = {}
    KEPT.mkdir(exist_ok=True)
    more = {"RAYTILE_KEYS": "on", "RAYTILE_MAX_RENDERS_PER_KEY": "4", "RAYTILE_PREVIEW_EVERY": "2"}
    with scratch(quick=False) as place, serving(place / "a", place / "store", workers=2, **more) as service:
        _, key = Keys(service.records.objects, time.time).add("openai", ["render", "read"])
        client = OpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=0, timeout=1800.0)
        checks["models are listed"] = sorted(model.id for model in client.models.list()) == ["terra", "toy"]
        refusals(client, service, checks, figures)
        streams(client, checks, figures)
        edits(client, checks, figures)
        pictures(client, checks, figures, place)
        checks["no render failed"] = service.states()["failed"] == 0
    report("the openai client: sizes, base64, URL, streams, edits, refusals", checks, figures)


if __name__ == "__main__":
    main()
