"""The chart's serveConfigV2, exactly as it stands, on a Ray of this machine in token mode, its store an S3 server: it
deploys, answers, renders; and what is misspelt in it is caught."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.acceptance import charts, clusters
from tests.acceptance.common import report, say
from tests.acceptance.services import digest_alone

VALUES = "one-gpu"
WISH = {"prompt": "painted earth, islands", "size": "512x256", "steps": 6, "seed": 3}
TYPOS = (
    ("proxy_location", "proxy_locaton"),
    ("request_timeout_s", "request_timout_s"),
    ("import_path", "import_paht"),
    ("route_prefix", "route_prefx"),
    ("enable_access_log", "enable_acces_log"),
    ("replicas", "replcas"),
    ("max_workers", "max_worker"),
    ("store", "stoer"),
)
"""A key of the chart's serveConfigV2, and how somebody wrote it."""


@contextmanager
def head(place: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """A Ray with one GPU in name, as `ray start` makes it in a pod; the address of its dashboard."""
    port, dashboard = clusters.free_port(), clusters.free_port()
    command = [
        clusters.RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}",
        f"--dashboard-port={dashboard}", f"--temp-dir={place / 'r'}", "--num-cpus=0", "--num-gpus=1",
        f"--object-store-memory={clusters.STORE}", "--disable-usage-stats",
    ]  # fmt: skip
    before = dict(os.environ)
    os.environ.update(variables)
    url, log = f"http://127.0.0.1:{dashboard}", place / "head.log"
    try:
        with open(log, "w") as out:
            subprocess.Popen(command, stdout=out, stderr=out)
        clusters.wait_for(lambda: _answers(url), 120, lambda: log.read_text()[-2000:])
        yield url
    except BaseException:
        say(log.read_text()[-3000:])
        raise
    finally:
        clusters.end(clusters.processes_of(place))
        os.environ.clear()
        os.environ.update(before)


def _answers(url: str) -> bool:
    headers = {"Authorization": f"Bearer {os.environ.get('RAY_AUTH_TOKEN', '')}"}
    try:
        return httpx2.get(f"{url}/api/version", headers=headers, timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def caught(text: str) -> dict[str, str]:
    """What is said of each misspelling; those of which nothing is said are left out."""
    from tests.deploy.serving import problems

    assert not problems(text), problems(text)
    found = {}
    for right, wrong in TYPOS:
        assert text.count(f"{right}:") == 1, right
        said = problems(text.replace(f"{right}:", f"{wrong}:"))
        if said:
            found[wrong] = said[0]
    return found


def main() -> None:
    charts.own_network()
    found = charts.objects(VALUES)
    text, read = charts.serve_config(found)
    store = charts.store_of(read)
    checks: dict[str, bool] = {}
    figures: dict[str, Any] = {"values": VALUES, "load": os.getloadavg()[0]}
    with clusters.scratch(quick=False) as place, charts.bucket(VALUES):
        with head(place, {**charts.environment(found), **charts.token()}) as dashboard:
            start = time.monotonic()
            charts.deploy(place, text, dashboard)
            service = charts.Service(store)
            clusters.wait_for(service.ready, 300, lambda: charts.told(dashboard))
            figures["seconds_until_ready"] = round(time.monotonic() - start, 1)
            refused = httpx2.get(f"{charts.SERVE}/v1/renders")
            bare = httpx2.get(f"{dashboard}/api/version")
            id = service.paint(**WISH)
            clusters.wait_for(lambda: service.records([id])[0]["state"] in ("finished", "failed"), 300)
            (record,) = service.records([id])
            picture = service.client.get(f"/v1/renders/{id}/content?format=png", follow_redirects=True)
            page = httpx2.get(f"{charts.SERVE}/")
            say(record)
            figures["seconds_until_painted"] = round(time.monotonic() - start, 1)
        plain = {"prompt": WISH["prompt"], "width": 512, "height": 256, "steps": WISH["steps"], "seed": WISH["seed"]}
        alone = digest_alone(plain, place / "alone.zarr")
    said = caught(text)
    figures["misspelt"] = said
    checks |= {
        "it answers, to who has a key": refused.status_code == 401,
        "Ray answers to who has its token": bare.status_code == 401,
        "it renders the picture that one process paints": record["state"] == "finished" and record["digest"] == alone,
        "the picture can be had": picture.status_code == 200 and picture.content.startswith(b"\x89PNG"),
        "the page is there": page.status_code == 200 and "raytile" in page.text,
        "each of the misspelt keys is caught": len(said) == len(TYPOS),
    }
    report("the chart's serveConfigV2 on a Ray of this machine", checks, figures)


if __name__ == "__main__":
    main()
