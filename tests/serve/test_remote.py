"""raytile remote: the command asks a service, watches it, saves what it painted; errors are one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from raytile.cli import main
from raytile.errors import ClusterError, InvalidRequest
from raytile.remote import Remote, parsed
from tests.serve.live import live
from tests.serve.service import Service


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Service]]:
    with live(tmp_path_factory.mktemp("store"), max_renders_per_key=3) as found:
        yield found


@pytest.fixture(autouse=True)
def _there(running: tuple[str, Service], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYTILE_URL", running[0])
    monkeypatch.delenv("RAYTILE_KEY", raising=False)
    monkeypatch.chdir(tmp_path)


TOY = ("--model", "toy", "--steps", "2", "--size", "96x64")


def test_a_picture_is_painted_there_and_saved_here(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["remote", "render", "islands", *TOY, "--seed", "5", "--wrap", "x"]
    assert main([*command, "--png", "there.png", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out.splitlines()[-1])
    assert (found["state"], found["seed"], found["request"]["wrap"]) == ("finished", 5, "x")
    assert "step 2 of 2" in said.err or "tile" in said.err
    here = ["render", "islands", *TOY, "--seed", "5", "--wrap", "x", "--in-process", "--out", "a.zarr"]
    assert main([*here, "--png", "here.png", "--quiet"]) == 0
    assert (np.asarray(Image.open("there.png")) == np.asarray(Image.open("here.png"))).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "here.png", "there.png"]


def test_files_are_sent_there(capsys: pytest.CaptureFixture[str], running: tuple[str, Service]) -> None:
    Image.linear_gradient("L").resize((96, 64)).save("mask.png")
    Image.new("RGB", (96, 64), (9, 90, 200)).save("source.png")
    Path("scene.yaml").write_text(
        "regions:\n- {mask: mask.png, prompt: sea}\n- {box: [0, 0, 0.5, 1], prompt: land}\nunits: share\n"
    )
    more = ["--scene", "scene.yaml", "--source", "source.png", "--strength", "0.5", "--json"]
    assert main(["remote", "render", "islands", *TOY, *more]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {*found["request"]["source"]} == {*found["request"]["regions"][0]["mask"]} == {"upload"}
    assert found["request"]["regions"][1]["box"] == [0, 0, 48, 64]
    id = found["id"]
    assert main(["remote", "render", "more", *TOY, "--source", id, "--strength", "0.5", "--json"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["request"]["source"] == {"render": id}
    assert running[1].client.get(f"/v1/renders/{again['id']}").json()["state"] == "finished"


def test_renders_are_listed_watched_and_cancelled(capsys: pytest.CaptureFixture[str]) -> None:
    long = ["remote", "render", "long", "--model", "toy", "--steps", "100", "--size", "512x512", "--detach"]
    assert main(long) == 0
    id = capsys.readouterr().out.strip()
    assert main(["remote", "list", "--limit", "1"]) == 0
    assert capsys.readouterr().out.startswith(id)
    assert main(["remote", "cancel", id]) == 0
    assert main(["remote", "status", id, "--watch"]) == 0
    assert "cancelled  512x512  long" in capsys.readouterr().out
    assert main(["remote", "cancel", id]) == 2
    assert "is cancelled already" in capsys.readouterr().err
    assert main(["remote", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == id


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "r123"], "id: 'r123' is none"),
        (["status", "r" + "0" * 24], "there is no such render"),
        (["render", "x", *TOY, "--png", "a.gif"], "must end in one of .png"),
        (["render", "x", *TOY, "--png", "no/a.png"], "there is no directory"),
        (["render", "x", "--size", "96x64", "--model", "terra"], "model: there is no 'terra' here"),
        (["render", "x", *TOY, "--micro-batch", "3"], "micro_batch"),
        (["render", "x", *TOY, "--source", "gone.png"], "gone.png"),
        (["list", "--url", "ftp://x"], "url: write http"),
        (["list", "--url", "http://127.0.0.1:1/?x"], "url: write http"),
        (["list", "--key", "two words"], "key: must be one word"),
        (["download", "r" + "0" * 24, "a.png"], "there is no such render"),
    ],
)
def test_what_is_wrong_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(["remote", *arguments]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def test_pictures_are_not_replaced_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["remote", "render", "islands", *TOY, "--detach", "--quiet"]) == 0
    id = capsys.readouterr().out.strip()
    assert main(["remote", "status", id, "--watch"]) == 0
    Path("a.jpg").write_text("mine")
    assert main(["remote", "download", id, "a.jpg"]) == 2
    assert main(["remote", "download", id, "a.jpg", "--overwrite"]) == 0
    assert Image.open("a.jpg").size == (96, 64)


def fake(*answers: httpx2.Response | Exception) -> tuple[Remote, list[httpx2.Request], list[float]]:
    """A client whose service gives these answers; what it was asked, and how long the client slept."""
    asked: list[httpx2.Request] = []
    slept: list[float] = []
    waiting = [*answers]

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        found = waiting.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    remote = Remote("http://service", "rt_key", sleep=slept.append, transport=httpx2.MockTransport(answer))
    return remote, asked, slept


def test_a_busy_service_is_asked_again_when_it_says() -> None:
    busy = httpx2.Response(429, headers={"Retry-After": "7"}, json={"error": {"message": "full", "param": None}})
    remote, asked, slept = fake(busy, httpx2.ConnectError("no"), httpx2.Response(202, json={"id": "r1"}))
    assert remote.submit({"prompt": "x"}) == {"id": "r1"}
    assert slept[0] == 7
    assert len({request.headers["idempotency-key"] for request in asked}) == 1  # one render, however often asked
    assert {request.headers["authorization"] for request in asked} == {"Bearer rt_key"}


def test_refusals_and_silence_end_it() -> None:
    refused = httpx2.Response(422, json={"error": {"message": "size: too large", "param": "size"}})
    remote, asked, _ = fake(refused)
    with pytest.raises(InvalidRequest, match=r"^size: too large$"):
        remote.submit({})
    assert len(asked) == 1
    remote, asked, slept = fake(*[httpx2.ConnectError("no")] * 9)
    with pytest.raises(ClusterError, match="does not answer"):
        remote.ask("GET", "/v1/models")
    assert len(asked) == len(slept) + 1 < 9


def test_a_broken_stream_goes_on_where_it_was() -> None:
    def stream(*lines: str) -> httpx2.Response:
        return httpx2.Response(200, content="\n".join(lines) + "\n")

    remote, asked, _ = fake(
        stream(": ok", "", "id: 1", "event: queued", "data: {}", ""),
        httpx2.ReadError("broke"),
        stream("id: 2", "event: step", 'data: {"done": 1}', "", "id: 3", "event: finished", "data: {}", ""),
    )
    assert [event["event"] for event in remote.events("r1")] == ["queued", "step", "finished"]
    assert [request.headers["last-event-id"] for request in asked] == ["0", "1", "1"]


def test_a_download_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    class Broken(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"abc"
            raise httpx2.ReadError("broke")

    first = httpx2.Response(200, headers={"ETag": '"x"'}, stream=Broken())
    remote, asked, _ = fake(first, httpx2.Response(206, headers={"ETag": '"x"'}, content=b"def"))
    assert remote.download("r1", tmp_path / "a.png") == 6
    assert (tmp_path / "a.png").read_bytes() == b"abcdef"
    assert (asked[1].headers["range"], asked[1].headers["if-range"]) == ("bytes=3-", '"x"')
    other = httpx2.Response(200, headers={"ETag": '"y"'}, content=b"0123")
    remote, _, _ = fake(httpx2.Response(200, headers={"ETag": '"x"'}, stream=Broken()), other)
    assert remote.download("r1", tmp_path / "b.png") == 4
    assert [*tmp_path.glob(".*")] == []


def test_events_are_read_as_the_standard_says() -> None:
    lines = [": hello", "", "id:7", "event:a", "data:1", "data:2", "", "data: {", "", "event: b", "", "data: [3]", ""]
    assert [*parsed(iter(lines))] == [
        {"id": "7", "event": "a", "data": {}},
        {"id": "", "event": "message", "data": {}},
        {"id": "", "event": "message", "data": [3]},
    ]
