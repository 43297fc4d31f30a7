"""What is refused: too much of anything, named; and when to come again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytile.serve import guard
from raytile.serve.desk import expired
from raytile.serve.guard import Guard
from raytile.serve.ledger import CAUTION, UNKNOWN_SECONDS
from raytile.serve.names import new_id
from raytile.serve.records import Records
from tests.serve.service import SMALL, Service, serving

LIMITS = {"max_pixels": 20_000, "max_side": 300, "max_steps": 4, "max_regions": 1, "max_body": 2000}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("store"), paint=False, **LIMITS) as found:
        yield found


BOX = {"prompt": "a", "box": [0, 0, 9, 9]}


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"size": "301x10"}, "width"),
        ({"size": "10x301"}, "height"),
        ({"size": "200x200"}, "size"),
        ({"size": None}, "size"),
        ({"size": "big"}, "size"),
        ({"steps": 5}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"steps": 0}, "steps"),
        ({"seed": 2**63}, "seed"),
        ({"regions": [BOX, BOX]}, "regions"),
        ({"regions": [{"prompt": "a"}]}, "regions.0"),
        ({"regions": [{**BOX, "box": [0, 0, 1]}]}, "regions.0.box.3"),
        ({"levels": "some"}, "levels"),
        ({"stride": 0.01}, "stride"),
        ({"tile": 1}, "tile"),
        ({"priority": 11}, "priority"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"model": "terra"}, "model"),
        ({"model": "/etc/passwd"}, "model"),
        ({"source": "/etc/passwd"}, "source"),
        ({"source": {"path": "/etc/passwd"}}, "source"),
        ({"source": {"upload": "../../etc/passwd"}}, "source.upload"),
        ({"source": {"upload": "http://localhost/"}}, "source.upload"),
        ({"source": {"render": "u" + "0" * 24}}, "source.render"),
        ({"source": {"render": "r" + "0" * 24}}, "source"),
        ({"source": {"render": "r" + "0" * 24, "upload": "u" + "0" * 24}}, "source"),
        ({"control": {"upload": "u" + "0" * 24}}, "control"),
        ({"topology": "tileset:/etc/passwd"}, "topology"),
        ({"tileset": "/etc/passwd"}, "tileset"),
        ({"prompt": "x" * 1500, "negative": None, "sizes": 3}, "sizes"),
        ({"prompt": None}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"guidance": float("nan")}, "guidance"),
        ({"guidance": float("inf")}, "guidance"),
    ],
)
def test_what_cannot_be_painted_is_named(small: Service, wish: dict[str, Any], param: str) -> None:
    import json

    whole = {name: value for name, value in {**SMALL, **wish}.items() if value is not None}
    sent = {"content": json.dumps(whole), "headers": {"content-type": "application/json"}}
    for path in ("/v1/renders", "/v1/plans"):
        answer = small.client.post(path, **sent)  # type: ignore[arg-type]
        assert answer.status_code == 422, answer.text
        error = answer.json()["error"]
        assert error["param"] == param
        assert str(small.settings.store) not in answer.text
        assert set(error) == {"message", "type", "param", "code"}
    assert small.desk.records.queued_ids() == []


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("{", "application/json", 400),
        ("[" * 1900, "application/json", 400),
        ('{"seed": ' + "9" * 1900 + "}", "application/json", 422),
        ("[]", "application/json", 422),
        ('"x"', "application/json", 422),
        ("", "application/json", 422),
        ('{"prompt": "x"}', "text/plain", 415),
        ('{"prompt": "x"}', "multipart/form-data; boundary=x", 415),
        (b"\xff\xfe", "application/json", 400),
    ],
)
def test_a_body_that_is_no_wish_is_refused(small: Service, body: str | bytes, kind: str, status: int) -> None:
    answer = small.client.post("/v1/renders", content=body, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]


def test_a_body_that_is_too_large_is_not_read_to_its_end(small: Service) -> None:
    kind = {"content-type": "application/json"}
    assert small.client.post("/v1/renders", content=b" " * 2001, headers=kind).status_code == 413
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * 1000

    assert small.client.post("/v1/renders", content=pieces(), headers=kind).status_code == 413


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SLOW", 0.05)
    sent: list[Any] = []

    async def app(_: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 (ASGI)
        await receive()

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/renders", "headers": []}
    asyncio.run(asyncio.wait_for(Guard(app, lambda *_: 10)(scope, receive, send), 10))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_what_is_not_there_is_refused_as_json(small: Service) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/renders", 405),
        ("GET", "/v1/renders/x", 404),
        ("GET", "/v1/renders/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/v1/renders/%00/events", 404),
        ("GET", "/v1/renders?limit=0", 422),
        ("GET", "/v1/renders?after=x", 422),
    ):
        answer = small.client.request(method, path)
        assert answer.status_code == status, (path, answer.text)
        assert answer.json()["error"]["type"]


def test_answers_protect_browsers_and_allow_no_other_site(small: Service) -> None:
    for path in ("/v1/renders", "/healthz", "/v1/nothing"):
        answer = small.client.get(path, headers={"origin": "http://localhost:8000"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "content-security-policy" in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_bug_is_told_without_its_words(small: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(small.desk, "plan", broken)
    answer = small.client.post("/v1/plans", json=SMALL)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["error"]["type"] == "server_error"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    with serving(tmp_path, paint=False, max_queue=2) as found:
        ids = [found.make() for _ in range(2)]
        refused = [found.client.post("/v1/renders", json=SMALL) for _ in range(3)]
        assert [answer.status_code for answer in refused] == [429] * 3
        waits = [int(answer.headers["retry-after"]) for answer in refused]
        assert waits[0] == pytest.approx(UNKNOWN_SECONDS, abs=2)
        assert waits == sorted({*waits}), "each waits for a place of its own"
        found.client.delete(f"/v1/renders/{ids[0]}")
        found.desk.ledger._looked = 0.0
        assert found.client.post("/v1/renders", json=SMALL).status_code == 202


def test_retry_after_goes_by_the_pace_of_renders_that_finished(tmp_path: Path) -> None:
    with serving(tmp_path, paint=False, max_queue=1) as found:
        done = found.make()
        evaluations = found.desk.records.get(done).evaluations
        found.desk.records.change(
            done, lambda now: now.but(state="finished", claims=1, started=100.0, ended=100.0 + 7.5)
        )
        found.desk.ledger._looked = 0.0
        assert found.desk.ledger.per_second("toy") == pytest.approx(evaluations / 7.5)
        found.make()
        answer = found.client.post("/v1/renders", json=SMALL)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) == 9, "7.5 seconds, and a fifth more"


def test_one_key_does_not_fill_the_queue(tmp_path: Path) -> None:
    with serving(tmp_path, paint=False, keys="on", max_renders_per_key=1) as found:
        mine, other = ({"Authorization": f"Bearer {found.desk.keys.add('k', ['render'])[1]}"} for _ in range(2))
        assert found.client.post("/v1/renders", json=SMALL, headers=mine).status_code == 202
        refused = found.client.post("/v1/renders", json=SMALL, headers=mine)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert found.client.post("/v1/renders", json=SMALL, headers=other).status_code == 202


def test_a_repetition_is_answered_though_the_queue_is_full(tmp_path: Path) -> None:
    with serving(tmp_path, paint=False, max_queue=1) as found:
        sent = [found.client.post("/v1/renders", json=SMALL, headers={"Idempotency-Key": "a"}) for _ in range(2)]
        assert [answer.status_code for answer in sent] == [202, 202]


def test_what_is_kept_no_longer_goes(tmp_path: Path) -> None:
    with serving(tmp_path, paint=False) as found:
        old, new, waiting = found.make(), found.make(), found.make()
        records, now = found.desk.records, found.desk.clock()
        records.change(old, lambda was: was.but(state="finished", ended=now))
        records.change(new, lambda was: was.but(state="finished", ended=now + 80))
        assert expired(Records(records.objects, lambda: now + 40), 50.0) == []
        assert expired(Records(records.objects, lambda: now + 100), 50.0) == [old]
        assert records.owned(None) == [waiting, new]


def test_a_record_that_does_not_read_is_nobody_elses_trouble(tmp_path: Path) -> None:
    """As one of a later version, in the midst of an upgrade."""
    with serving(tmp_path) as found:
        records = found.desk.records
        foreign = new_id("r", 1.0, random.Random(0))
        records.objects.write(f"renders/{foreign}/record.json", b'{"of": "another version"}')
        for key in (f"queue/{foreign}", f"owners/local/{foreign}"):
            records.objects.write(key, b"")
        id = found.make()
        assert found.events(id)[-1]["event"] == "finished"
        assert [each["id"] for each in found.client.get("/v1/renders").json()["data"]] == [id]
        assert found.client.get("/v1/stats").status_code == 200
        assert found.client.get(f"/v1/renders/{foreign}").status_code == 503
        assert expired(Records(records.objects, lambda: found.desk.clock() + 100), 50.0) == [id]
        assert records.queued_ids() == [foreign]


def test_what_a_queued_render_is_made_of_is_kept(tmp_path: Path) -> None:
    import io

    from PIL import Image

    with serving(tmp_path, paint=False) as found:
        file = io.BytesIO()
        Image.new("RGB", (96, 64), (9, 99, 199)).save(file, "PNG")
        sent = {"content": file.getvalue(), "headers": {"content-type": "image/png"}}
        used, unused = (found.client.post("/v1/uploads", **sent).json()["id"] for _ in range(2))
        id = found.make(source={"upload": used}, strength=0.5)
        later = Records(found.desk.records.objects, lambda: found.desk.clock() + 1000)
        assert expired(later, 50.0) == []
        assert found.client.get(f"/v1/uploads/{unused}").status_code == 404
        assert found.client.get(f"/v1/uploads/{used}").status_code == 200
        found.client.delete(f"/v1/renders/{id}")
        later = Records(found.desk.records.objects, lambda: found.desk.clock() + 2000)
        assert expired(later, 50.0) == [id]
        assert found.desk.records.objects.sizes() == {}


def test_errors_do_not_tell_where_models_lie(tmp_path: Path) -> None:
    with serving(tmp_path, paint=False) as found:
        secret = str(tmp_path / "secret" / "model")
        found.desk.wishes._settings = found.settings.model_copy(update={"models": {"toy": "toy", "mine": secret}})
        answer = found.client.post("/v1/renders", json={**SMALL, "model": "mine"})
        assert answer.status_code == 422
        assert "secret" not in answer.text
        assert "model mine" in answer.text


def test_retry_after_goes_by_what_left_the_queue_lately(tmp_path: Path) -> None:
    with serving(tmp_path, paint=False) as found:
        ledger, records = found.desk.ledger, found.desk.records
        ids = [found.make() for _ in range(8)]
        ledger.waiting()
        begun = ledger._busy = records.clock() - 30
        for id in ids[:6]:
            records.change(id, lambda now: now.but(state="cancelled"))
        ledger._looked = begun
        assert ledger.slot(None, 1) == pytest.approx(CAUTION * 30 / 6, rel=0.1)
        assert ledger.slot("local", 1) == pytest.approx(CAUTION * 30 / 6, rel=0.1)
