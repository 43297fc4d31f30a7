"""What the README says of the service works as it is written, on the toy model and at a quarter of the size."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from raytile.cli import main
from tests.serve.live import live

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("### Serving: renders on demand\n")[1].split("\n### ")[0].replace("1024x512", "256x128")
URL = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)


def test_its_clients_paint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    (curl,) = [words for words in lines if words[0] == "curl"]
    (remote,) = [words for words in lines if words[:2] == ["raytile", "remote"]]
    with live(tmp_path / "store", models={"terra": "toy"}) as (url, service):
        assert curl[2].startswith(URL)
        sent = json.loads(curl[curl.index("-d") + 1])
        assert service.client.post(curl[2].removeprefix(URL), json=sent).status_code == 202
        assert main([word.replace(URL, url) for word in remote[1:]]) == 0
        with Image.open(tmp_path / "planet.png") as picture:
            assert picture.size == (256, 128)
        (snippet,) = blocks("python")
        names: dict[str, object] = {}
        exec(snippet.replace(URL, url), names)
        answer = names["answer"]
        data = base64.b64decode(answer.data[0].b64_json)  # type: ignore[attr-defined] # as the snippet makes it
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.size == (256, 128)


def test_its_serve_commands_are_good(tmp_path: Path) -> None:
    for block in blocks("sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["raytile", "serve"]:
                assert main([*words[1:], "--check", "--store", str(tmp_path)]) == 0
