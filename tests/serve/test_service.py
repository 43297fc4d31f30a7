"""The service end to end, over HTTP, with the toy model: a picture is asked for, watched, ended, forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from anyio import to_thread

from raytile import api
from raytile.canvas import store
from raytile.plan.request import RenderRequest
from tests.serve.service import SMALL, Service, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Service]:
    """A service whose queue stays as it is."""
    with serving(tmp_path, paint=False) as found:
        yield found


def test_a_picture_is_painted_and_is_the_one_that_the_library_paints(service: Service, tmp_path: Path) -> None:
    answer = service.client.post("/v1/renders", json={**SMALL, "steps": 6, "seed": 3, "metadata": {"for": "me"}})
    assert answer.status_code == 202
    made = answer.json()
    assert answer.headers["location"] == f"/v1/renders/{made['id']}" == made["links"]["self"]
    assert (made["state"], made["width"], made["height"], made["model"]) == ("queued", 96, 64, "toy")
    assert made["request"] == {**SMALL, "steps": 6, "seed": 3, "metadata": {"for": "me"}, "model": "toy"}
    events = service.events(made["id"])
    assert [event["id"] for event in events] == [*range(1, len(events) + 1)]
    names = [event["event"] for event in events]
    assert names[0] == "queued"
    assert names[-1] == "finished"
    assert {"started", "worker", "step", "preview", "tile"} <= {*names}
    found = service.client.get(made["links"]["self"]).json()
    assert found["state"] == "finished"
    assert found["progress"]["tiles_done"] == found["tiles"]
    wish = RenderRequest(prompt="islands", width=96, height=64, steps=6, seed=3, model="toy")
    mine = api.render(wish, tmp_path / "mine.zarr", in_process=True)
    assert found["digest"] == mine.head().summary["pixels_sha256"] == events[-1]["data"]["digest"]  # type: ignore[index]
    tiles = [tile for event in events if event["event"] == "tile" for tile in event["data"]["tiles"]]
    assert sorted(tiles) == [*range(found["tiles"])]


def test_events_go_on_where_the_client_was(service: Service) -> None:
    id = service.make()
    events = service.events(id)
    assert service.events(id, after=2) == events[2:]
    with service.client.stream("GET", f"/v1/renders/{id}/events", headers={"Last-Event-ID": "1"}) as answer:
        assert f"id: {events[1]['id']}" in answer.read().decode()
    last = service.client.get(f"/v1/renders/{id}/events", headers={"Last-Event-ID": str(events[-1]["id"])})
    assert last.status_code == 204
    wrong = service.client.get(f"/v1/renders/{id}/events", headers={"Last-Event-ID": "x"})
    assert wrong.status_code == 400


def test_events_can_be_the_answer_itself(service: Service) -> None:
    with service.client.stream("POST", "/v1/renders?stream=true", json=SMALL) as answer:
        assert answer.status_code == 200
        text = answer.read().decode()
    assert "event: finished" in text
    assert service.client.get(answer.headers["location"]).json()["state"] == "finished"


def test_a_repaint_and_an_upscale_come_from_a_finished_render(service: Service) -> None:
    id = service.make()
    service.events(id)
    wish = {"repaint": [{"box": [0, 0, 32, 32]}], "prompt": "snow", "steps": 2}
    repaint = service.client.post(f"/v1/renders/{id}/repaint", json=wish)
    assert repaint.status_code == 202, repaint.text
    upscale = service.client.post(f"/v1/renders/{id}/upscale", json={"size": "192x128", "steps": 2})
    assert upscale.status_code == 202, upscale.text
    for answer, kind in ((repaint, "repaint"), (upscale, "upscale")):
        made = answer.json()
        assert (made["kind"], made["parent"], made["model"]) == (kind, id, "toy")
        assert service.events(made["id"])[-1]["event"] == "finished"
    assert (made["width"], made["height"]) == (192, 128)
    kept, fresh = (store.open(service.desk.records.canvas(each)) for each in (id, repaint.json()["id"]))
    assert kept.digests() != fresh.digests()


def test_a_render_is_the_source_of_another(service: Service) -> None:
    id = service.make()
    service.events(id)
    other = service.make(size=None, source={"render": id}, strength=0.5)
    assert service.events(other)[-1]["event"] == "finished"
    assert service.client.get(f"/v1/renders/{other}").json()["width"] == 96


def test_a_running_render_ends_when_asked_and_says_so_once(service: Service) -> None:
    id = service.make(size="1024x1024", steps=50)
    with service.client.stream("GET", f"/v1/renders/{id}/events") as answer:
        for line in answer.iter_lines():
            if line == "event: step":
                break
    ended = service.client.post(f"/v1/renders/{id}/cancel")
    assert ended.status_code == 202
    assert ended.json()["cancel_asked"]
    names = [event["event"] for event in service.events(id)]
    assert names.count("cancelled") == 1
    assert names[-1] == "cancelled"
    assert service.client.post(f"/v1/renders/{id}/cancel").status_code == 409
    assert service.desk.records.queued_ids() == []


def test_a_queued_render_ends_at_once_and_can_be_forgotten(idle: Service) -> None:
    id = idle.make()
    assert idle.client.delete(f"/v1/renders/{id}").json()["state"] == "cancelled"
    assert [event["event"] for event in idle.events(id)] == ["queued", "cancelled"]
    assert idle.client.delete(f"/v1/renders/{id}").status_code == 204
    assert idle.client.get(f"/v1/renders/{id}").status_code == 404
    assert idle.desk.records.objects.sizes() == {}


def test_renders_are_listed_by_pages(idle: Service) -> None:
    ids = [idle.make() for _ in range(3)]
    first = idle.client.get("/v1/renders?limit=2").json()
    assert [each["id"] for each in first["data"]] == sorted(ids, reverse=True)[:2]
    assert first["has_more"]
    rest = idle.client.get("/v1/renders", params={"after": first["data"][-1]["id"]}).json()
    assert [each["id"] for each in rest["data"]] == [min(ids)]
    assert not rest["has_more"]


def test_the_same_idempotency_key_is_answered_with_the_same_render(idle: Service) -> None:
    sent = [idle.client.post("/v1/renders", json=SMALL, headers={"Idempotency-Key": "a"}) for _ in range(2)]
    assert [answer.status_code for answer in sent] == [202, 202]
    assert sent[0].json() == sent[1].json()
    other = idle.client.post("/v1/renders", json={**SMALL, "seed": 1}, headers={"Idempotency-Key": "a"})
    assert other.status_code == 409
    assert other.json()["error"]["param"] == "Idempotency-Key"


def test_a_plan_foretells_and_makes_nothing(service: Service, tmp_path: Path) -> None:
    with serving(tmp_path, paint=False, cost_per_1000_evaluations=2.0) as idle:
        found = idle.client.post("/v1/plans", json=SMALL).json()
        assert idle.desk.records.objects.sizes() == {}
    assert found["seconds"] is None
    assert found["cost"] == pytest.approx(found["evaluations"] * 2 / 1000)
    id = service.make()
    service.events(id)
    assert service.client.get(f"/v1/renders/{id}").json()["evaluations"] == found["evaluations"]
    assert service.client.post("/v1/plans", json=SMALL).json()["seconds"] > 0


def test_a_process_with_all_threads_busy_says_that_it_lives(idle: Service) -> None:
    portal = idle.client.portal
    assert portal is not None
    threads = portal.call(to_thread.current_default_thread_limiter)
    busy = [object() for _ in range(int(threads.total_tokens))]
    for one in busy:
        portal.call(threads.acquire_on_behalf_of_nowait, one)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(idle.client.get, "/healthz")
        try:
            assert asked.result(30).json() == {"status": "ok"}
        finally:
            for one in busy:
                portal.call(threads.release_on_behalf_of, one)


def test_health_readiness_and_stats(idle: Service) -> None:
    assert idle.client.get("/healthz").json() == {"status": "ok"}
    assert idle.client.get("/readyz").status_code == 200
    idle.make()
    found = idle.client.get("/v1/stats").json()
    assert (found["queued"], found["running"]) == (1, 0)
    assert found["evaluations_waiting"] > 0


def test_two_services_on_one_store_do_not_take_from_each_other(tmp_path: Path) -> None:
    with serving(tmp_path) as one, serving(tmp_path) as other:
        ids = [service.make(size="512x512", steps=8, seed=seed) for seed in range(2) for service in (one, other)]
        for id in ids:
            assert other.events(id)[-1]["event"] == "finished"
        records = [one.desk.records.get(id) for id in ids]
        assert [record.claims for record in records] == [1] * len(ids)
        assert all([event["event"] for event in one.events(id)].count("started") == 1 for id in ids)
