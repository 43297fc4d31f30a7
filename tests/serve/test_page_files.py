"""The files of the page: how they are put together and served, and that they tell the truth."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from raytile.serve.routes_page import KINDS, make_router
from raytile.serve.web import build as web
from raytile.train.captions import vocabulary

WRITTEN = Path(web.__file__).parent / "src"


def client(folder: Path) -> TestClient:
    app = FastAPI()
    app.include_router(make_router("index.html", folder))
    return TestClient(app, raise_server_exceptions=False)


def test_an_installation_without_the_page_says_how_to_get_it(tmp_path: Path) -> None:
    answer = client(tmp_path / "none").get("/")
    assert answer.status_code == 200
    assert "make web" in answer.text


def test_the_page_is_served_with_a_policy_that_lets_nothing_else_in() -> None:
    asks = client(WRITTEN)
    answer = asks.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert all("http" not in sources and "*" not in sources and "unsafe" not in sources for sources in policy.values())
    assert asks.head("/").status_code == 200
    for file in WRITTEN.rglob("*"):
        if file.is_file():
            answer = asks.get(f"/static/{file.relative_to(WRITTEN).as_posix()}")
            assert answer.headers["content-type"] == KINDS[file.suffix]
    tag = asks.get("/static/js/main.js").headers["etag"]
    assert tag


@pytest.mark.parametrize(
    "name", ["../build.py", "..%2fbuild.py", "%2e%2e/build.py", "/etc/passwd", "js/../../build.py", "js", "", "a%00b"]
)
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    answer = client(WRITTEN).get(f"/static/{name}")
    assert answer.status_code >= 400
    assert "hatch" not in answer.text


def test_nothing_in_the_page_names_another_host() -> None:
    allowed = {"http://www.w3.org/2000/svg", "http://schemas.microsoft.com/deepzoom/2008"}
    for file in WRITTEN.rglob("*"):
        if file.is_file():
            assert set(re.findall(r"""https?://[^"'\s<)]+""", file.read_text())) <= allowed, file


def test_words_on_offer_are_words_that_terra_knows() -> None:
    text = (WRITTEN / "js" / "words.js").read_text()
    offered = re.findall(r'"([^"]+)"', text.split("WORDS = [")[1])
    assert len(offered) > 10
    known = {word for phrase in vocabulary() for word in phrase.split()}
    assert [word for phrase in offered for word in phrase.split() if word not in known] == []


def test_the_lock_file_names_openseadragon_alone() -> None:
    lock = json.loads((WRITTEN.parent / "package-lock.json").read_text())
    assert {name for name in lock["packages"] if name} == {"node_modules/openseadragon"}
    assert all(entry["integrity"].startswith("sha512-") for name, entry in lock["packages"].items() if name)


def test_the_page_is_built_whole_and_only_when_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BUILT", tmp_path / "dist")
    asked: list[tuple[str, ...]] = []

    def npm(work: Path, *arguments: str) -> None:
        asked.append(arguments)
        for package, files in web.TAKEN.items():
            for file in files:
                (work / "node_modules" / package / file).parent.mkdir(parents=True, exist_ok=True)
                (work / "node_modules" / package / file).write_text("theirs")

    monkeypatch.setattr(web, "_npm", npm)
    assert not web.is_current()
    web.build()
    assert web.is_current()
    assert (tmp_path / "dist" / "index.html").read_bytes() == (WRITTEN / "index.html").read_bytes()
    assert (tmp_path / "dist" / "vendor" / "openseadragon.LICENSE.txt").read_text() == "theirs"
    (tmp_path / "dist" / web.STAMP).write_text("other sources")
    web.build()
    assert len(asked) == 1, "what npm gave is kept while the lock file stays"

    def refuse(*_: object) -> None:
        raise web.NoNpm("no registry")

    monkeypatch.setattr(web, "_npm", refuse)
    (tmp_path / "dist" / "vendor" / "lock.sha256").write_text("another lock")
    with pytest.raises(web.NoNpm):
        web.build()
    assert (tmp_path / "dist" / "index.html").is_file(), "what stood there stays"
