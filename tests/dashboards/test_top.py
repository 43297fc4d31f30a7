"""`raytile top`: metrics read over HTTP from where nodes show them, as tables and as JSON; mistakes are one line."""

from __future__ import annotations

import io
import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from rich.console import Console

from raytile.cli import main
from raytile.errors import ClusterError
from raytile.series import PARTS, SERIES
from raytile.top import figures, parse, screen

RAYS_OWN = 'WorkerId="f00",NodeAddress="10.0.0.1",SessionName="s",Version="2.60.0"'


def shown(values: dict[str, float], own: str = RAYS_OWN) -> str:
    """An exposition as Ray makes it: each series with labels of Ray's own. `values`: by name and labels."""
    lines = []
    for series, value in values.items():
        name, _, labels = series.rstrip("}").partition("{")
        kind = SERIES[name].kind if name in SERIES else "gauge"
        lines.append(f"# HELP ray_{name} Words.")
        lines.append(f"# TYPE ray_{name} {'counter' if kind == 'counter' else 'gauge'}")
        lines.append(f"ray_{name}{{{labels}{',' if labels else ''}{own}}} {value}")
    return "\n".join(lines) + "\n"


def worker(node: str, slot: int, at: float, predict: float, wait: float, steps: float) -> dict[str, float]:
    """What a worker shows after `at` seconds of taking `steps` a second, each of them `predict` and `wait` long."""
    place = f'node="{node}",slot="{slot}"'
    spent = {"predict": predict, "wait": wait}
    return {
        **{
            f'raytile_worker_part_seconds_total{{{place},part="{part}"}}': spent.get(part, 0) * steps * at
            for part in PARTS
        },
        f"raytile_worker_steps_total{{{place}}}": steps * at,
        f"raytile_worker_busy_seconds_total{{{place}}}": predict * steps * at,
        f"raytile_worker_seconds_total{{{place}}}": at,
        f'raytile_worker_memory_bytes{{{place},kind="rss"}}': 2e9,
        f'raytile_worker_memory_bytes{{{place},kind="device"}}': 0,
    }


def cluster(at: float) -> dict[str, float]:
    """Three workers that wait for a fourth, `at` seconds after they began, and what else there is."""
    return {
        'raytile_renders{state="running"}': 1,
        'raytile_renders{state="queued"}': 2,
        'raytile_renders{state="resting"}': 0,
        'raytile_renders_ended_total{state="finished"}': 5,
        'raytile_workers{state="working"}': 4,
        'raytile_workers{state="coming"}': 1,
        'raytile_worker_changes_total{kind="lost"}': 1,
        "raytile_steps_total": 2 * at,
        'raytile_evaluations_total{model="terra"}': 100 * at,
        'raytile_evaluations_total{model="toy"}': 50 * at,
        'raytile_pixels_total{model="terra"}': 2e6 * at,
        "raytile_store_errors_total": 3,
        **worker("n1", 0, at, 0.1, 0.4, 2),
        **worker("n1", 1, at, 0.1, 0.4, 2),
        **worker("n2", 0, at, 0.1, 0.4, 2),
        **worker("n2", 10, at, 0.5, 0.0, 2),
    }


def node(ip: str, used: float) -> str:
    own = f'ip="{ip}",RayNodeType="worker",SessionName="s"'
    return shown({"node_mem_used": used, "node_mem_total": 64e9, "node_cpu_utilization": 12.5}, own)


@contextmanager
def served(answer: Callable[[int], tuple[int, str]]) -> Iterator[str]:
    """A server whose n-th answer is `answer(n)`: status and text. Its address."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, text = answer(len(asked))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["top", *args]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_json_tells_what_is_and_what_happened_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    head = served(lambda asked: (200, shown(cluster(100.0 * asked)) + node("10.0.0.1", 3e9)))
    with head as first, served(lambda _: (200, node("10.0.0.2", 5e9))) as second:
        assert main(["top", "--url", first, "--url", second, "--json", "--over", "0.2"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["renders"] == {"running": 1, "resting": 0, "queued": 2}
    assert known["ended"] == {"finished": 5, "failed": 0, "cancelled": 0}
    assert known["workers"] == {"working": 4, "idle": 0, "coming": 1}
    assert known["changes"]["lost"] == 1
    assert known["store_errors"] == 3
    assert known["evaluations_per_second"] * known["seconds"] == pytest.approx(150 * 100)
    assert known["megapixels_per_second"] * known["seconds"] == pytest.approx(2 * 100)
    assert known["cost_per_hour"] is None
    assert known["cost_per_megapixel"] is None
    assert [(one["ip"], one["memory_bytes"], one["gpus"]) for one in known["nodes"]] == [
        ("10.0.0.1", 3e9, 0),
        ("10.0.0.2", 5e9, 0),
    ]
    slow, *others = known["places"]
    assert (slow["node"], slow["slot"], slow["slow"]) == ("n2", "10", True)
    assert slow["step_seconds"] == pytest.approx(0.5)
    assert slow["times_median"] == pytest.approx(5)
    assert [(one["node"], one["slot"]) for one in others] == [("n1", "0"), ("n1", "1"), ("n2", "0")]
    for one in others:
        assert one["step_seconds"] == pytest.approx(0.1)
        assert one["parts"]["wait"] == pytest.approx(0.8)
        assert one["busy"] == pytest.approx(0.2)
        assert not one["slow"]


def test_a_price_gives_cost() -> None:
    before = parse([shown(cluster(100) | {"raytile_cost_total": 1.0})], 0.0)
    now = parse([shown(cluster(200) | {"raytile_cost_total": 1.5})], 100.0)
    known = figures(before, now)
    assert known["cost_per_hour"] == pytest.approx(0.5 / 100 * 3600)
    assert known["cost_per_megapixel"] == pytest.approx(1.5 / 400)


def test_processes_that_show_the_same_series_add_up() -> None:
    texts = [shown({"raytile_steps_total": 3}), shown({"raytile_steps_total": 4}, 'WorkerId="f01"')]
    assert parse(texts, 0.0).total("ray_raytile_steps_total") == 7


def test_a_worker_that_takes_no_steps_has_no_step_time_and_a_place_that_began_anew_no_rise() -> None:
    before, now = parse([shown(cluster(100))], 0.0), parse([shown(cluster(100))], 10.0)
    assert all(one["step_seconds"] is None and not one["slow"] for one in figures(before, now)["places"])
    again = figures(before, parse([shown(cluster(1))], 10.0))
    assert again["steps_per_second"] == 0
    assert all(one["step_seconds"] is None for one in again["places"])


def test_of_two_workers_none_is_called_slow() -> None:
    at = [worker("n1", 0, t, 0.1, 0.4, 2) | worker("n1", 1, t, 0.5, 0, 2) for t in (100, 200)]
    known = figures(parse([shown(at[0])], 0.0), parse([shown(at[1])], 100.0))
    assert [one["times_median"] for one in known["places"]] == [None, None]


def test_the_table_names_workers_marks_the_slow_one_and_fits_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with served(lambda asked: (200, shown(cluster(100.0 * asked)) + node("10.0.0.1", 3e9))) as url:
        assert main(["top", "--url", url, "--once", "--over", "0.2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    marked, why = (line for line in lines if line.startswith("!"))
    assert marked.split()[:3] == ["!", "n2", "10"]
    assert why.startswith("! slow: ")
    assert all(len(line.split()) == 13 for line in lines if line.startswith(("n1", "n2")))
    assert any("no price set" in line for line in lines)
    assert any("3 store errors" in line for line in lines)
    assert any(line.startswith("10.0.0.1") for line in lines)


def test_a_small_screen_shows_the_slow_one_and_says_how_many_more_there_are() -> None:
    known = figures(parse([shown(cluster(100))], 0.0), parse([shown(cluster(200))], 100.0))
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(screen(known, 1))
    text = console.export_text()
    assert "and 3 workers more" in text
    assert "! n2" in text


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (200, "ray_node_mem_total 1\n", "no raytile metrics at 1 of 1 nodes yet: they begin some 15 s after"),
        (200, "", "no raytile metrics"),
        (200, "<html>not metrics</html>\n{{{", "check --url"),
        (404, "", "404"),
    ],
)
def test_what_is_wrong_with_an_address_is_one_line(
    capsys: pytest.CaptureFixture[str], status: int, text: str, said: str
) -> None:
    with served(lambda _: (status, text)) as url:
        assert said in refused(capsys, "--url", url, "--once", "--over", "0.1")


def test_a_node_that_does_not_answer_is_left_out_and_all_of_them_are_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}/metrics"
    assert "no metrics at" in refused(capsys, "--url", gone, "--json", "--over", "0.1")
    with served(lambda asked: (200, shown(cluster(float(asked))))) as url:
        assert main(["top", "--url", gone, "--url", url, "--json", "--over", "0.1"]) == 0


def test_no_ray_is_one_line_that_names_the_fix(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "check --address" in refused(capsys, "--address", gone)
    assert "http://HOST:8080/metrics" in refused(capsys, "--url", "10.0.0.1:8080")


@pytest.mark.ray
def test_ray_tells_where_its_nodes_show_their_metrics(ray_cluster: str) -> None:
    from raytile.engine.ray.draining import Cluster

    (url,) = Cluster(ray_cluster).exporters()
    assert re.fullmatch(rf"http://{ray_cluster.rpartition(':')[0]}:[1-9]\d*/metrics", url)


def test_garbage_is_no_exposition() -> None:
    with pytest.raises(ClusterError, match="check --url"):
        parse(['ray_raytile_steps_total{WorkerId="} x'], 0.0)
