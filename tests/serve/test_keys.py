"""API keys: known by their hash alone, refused once revoked, allowed what they are for; renders belong to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from raytile.canvas.bytes import LocalBytes, MemoryBytes
from raytile.cli import main
from raytile.errors import InvalidRequest
from raytile.serve.errors import Forbidden, Unauthorized
from raytile.serve.keys import KEPT, Keys
from tests.serve.service import SMALL, Service, serving

USER = {"render", "read"}


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, paint=False, keys="on") as found:
        yield found


def test_a_key_is_kept_as_a_hash_and_known_by_its_text() -> None:
    objects = MemoryBytes()
    keys = Keys(objects, Clock())
    key, text = keys.add("ci", ["read", "render"])
    assert keys.all() == [key]
    (kept,) = [held[0] for name in objects.sizes() if (held := objects.read(name))]
    assert text.encode() not in kept
    assert text.rpartition("_")[2].encode() not in kept
    who = keys.who(f"Bearer {text}")
    assert (who.owner, who.scopes, who.sees) == (key.id, {"read", "render"}, key.id)
    with pytest.raises(Forbidden, match="admin"):
        who.must("admin")
    assert keys.add("other", ["admin"])[1] != text


def test_anything_else_is_refused() -> None:
    keys = Keys(MemoryBytes(), Clock())
    _, text = keys.add("ci", ["read"])
    for wrong in (text[:-1], text + "x", text.swapcase(), "", f"rt_k{'0' * 24}_x", text.replace("rt_", "", 1)):
        for header in (f"Bearer {wrong}", wrong, f"Basic {text}", text, None):
            with pytest.raises(Unauthorized):
                keys.who(header)


def test_a_revoked_key_is_refused_everywhere_within_seconds() -> None:
    objects, clock = MemoryBytes(), Clock()
    here, elsewhere = Keys(objects, clock), Keys(objects, clock)
    key, text = here.add("ci", ["read"])
    assert here.who(f"Bearer {text}")
    elsewhere.revoke(key.id)
    clock.now += KEPT
    with pytest.raises(Unauthorized):
        here.who(f"Bearer {text}")
    assert not here.any()


def test_wrong_scopes_are_named() -> None:
    for scopes in ([], ["write"], ["read", "write"]):
        with pytest.raises(InvalidRequest, match="render, read, admin"):
            Keys(MemoryBytes(), Clock()).add("x", scopes)


def headers(keyed: Service, *scopes: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {keyed.desk.keys.add('test', scopes)[1]}"}


def test_every_route_of_the_api_wants_a_key(keyed: Service) -> None:
    paths = keyed.client.get("/openapi.json").json()["paths"]
    asked = 0
    for path, methods in paths.items():
        for method in methods:
            answer = keyed.client.request(method, path.replace("{", "").replace("}", ""))
            if path.startswith("/v1"):
                asked += 1
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["error"]["code"] == "invalid_api_key"
            else:
                assert answer.status_code != 401
    assert asked > 8


def test_a_key_does_what_its_scopes_say(keyed: Service) -> None:
    painter, reader = headers(keyed, "render"), headers(keyed, "read")
    assert keyed.client.post("/v1/renders", json=SMALL, headers=reader).status_code == 403
    assert keyed.client.get("/v1/renders", headers=painter).status_code == 403
    assert keyed.client.post("/v1/renders", json=SMALL, headers=painter).status_code == 202


def test_a_render_is_its_owners_and_the_admins(keyed: Service) -> None:
    mine, other, admin = headers(keyed, *USER), headers(keyed, *USER), headers(keyed, "admin")
    id = keyed.client.post("/v1/renders", json=SMALL, headers=mine).json()["id"]
    path = f"/v1/renders/{id}"
    for method, end in (("GET", ""), ("GET", "/events"), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/content")):
        assert keyed.client.request(method, path + end, headers=other).status_code == 404
    for wish in ({"repaint": [{"box": [0, 0, 9, 9]}]}, {"size": "192x128"}):
        end = "/repaint" if "repaint" in wish else "/upscale"
        assert keyed.client.post(path + end, json=wish, headers=other).status_code == 404
    assert keyed.client.post("/v1/renders", json={**SMALL, "source": {"render": id}}, headers=other).status_code == 422
    assert keyed.client.get(path, headers=mine).status_code == 200
    assert keyed.client.get(path, headers=admin).status_code == 200
    assert keyed.client.get("/v1/renders", headers=other).json()["data"] == []
    assert len(keyed.client.get("/v1/renders", headers=admin).json()["data"]) == 1
    assert keyed.client.post(f"{path}/cancel", headers=admin).status_code == 202


def test_on_loopback_a_service_asks_for_keys_once_there_are_some(tmp_path: Path) -> None:
    with serving(tmp_path, paint=False) as found:
        assert found.client.get("/v1/renders").status_code == 200
        Keys(LocalBytes(tmp_path), lambda: 0.0).add("ci", ["read"])
        found.desk.keys._some = (0.0, False)
        assert found.client.get("/v1/renders").status_code == 401
    with serving(tmp_path / "new", paint=False, host="0.0.0.0") as found:
        assert found.client.get("/v1/renders").status_code == 401


@pytest.mark.parametrize(
    "sent", [{"host": "evil.example"}, {"host": "localhost.evil.example:8000"}, {"origin": "http://evil.example"}]
)
def test_without_keys_no_page_of_elsewhere_is_let_in(tmp_path: Path, sent: dict[str, str]) -> None:
    with serving(tmp_path, paint=False) as found:
        assert found.client.post("/v1/renders", json=SMALL, headers=sent).status_code == 403
        fine = {"origin": "http://localhost:8000"}
        assert found.client.post("/v1/renders", json=SMALL, headers=fine).status_code == 202


def test_the_command_makes_lists_and_revokes_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--store", str(tmp_path / "store"))
    assert main(["keys", "add", "ci", "--scope", "read", *place]) == 0
    text = capsys.readouterr().out.strip()
    keys = Keys(LocalBytes(tmp_path / "store"), lambda: 0.0)
    id = keys.who(f"Bearer {text}").owner
    assert main(["keys", "list", *place]) == 0
    listed = capsys.readouterr().out
    assert id in listed
    assert text not in listed
    assert main(["keys", "revoke", id, *place]) == 0
    assert main(["keys", "revoke", id, *place]) == 2
    assert main(["keys", "add", "ci", "--scope", "all", *place]) == 2
    assert keys.all() == []


def test_a_service_without_keys_says_so_and_listens_on_loopback_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("--store", str(tmp_path), "--check")
    assert main(["serve", *place]) == 0
    assert "WARNING: no API keys" in capsys.readouterr().err
    assert main(["serve", "--host", "0.0.0.0", *place]) == 0
    assert "every request needs an API key, and there is none" in capsys.readouterr().err
    monkeypatch.setenv("RAYTILE_KEYS", "off")
    assert main(["serve", "--host", "0.0.0.0", *place]) == 2
    assert "keys: off is for loopback only" in capsys.readouterr().err
    file = tmp_path / "service.json"
    file.write_text(json.dumps({"max_stepz": 3}))
    assert main(["serve", "--config", str(file), *place]) == 2
    assert "did you mean max_steps" in capsys.readouterr().err
