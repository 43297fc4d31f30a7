"""The guide: its commands run as they are written; what needs a cluster is judged by Helm and by what it makes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import yaml

from raytile.serve.settings import Settings
from tests.cli.jobs import BIN, free_port
from tests.deploy import dockerfile, guides
from tests.deploy.guides import ROOT, Shell

GUIDE = ROOT / "deploy" / "README.md"
TEXT = GUIDE.read_text(encoding="utf-8")
STORE, URL = r"s3://my-bucket/raytile", r"http://127\.0\.0\.1:8000"
FIRST = "From an empty cluster to the first picture"
RUN_BY = {
    FIRST: "test_ten_commands_to_the_first_picture",
    "Sizing": "test_sizing",
    "Tenants": "test_keys",
    "Disaster recovery": "test_a_copy_of_the_store_serves_the_same_renders",
}
"""Sections with commands that run here; all others need a cluster alone."""


class Service:
    """`raytile serve` in one process with the toy model, asking for keys, on `store`."""

    def __init__(self, store: Path) -> None:
        self.store, self.port = store, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        toys = {"RAYTILE_MODELS": json.dumps({"terra": "toy"}), "RAYTILE_KEYS": "on"}
        self.variables = {"RAYTILE_URL": self.url, **toys}

    def start(self) -> subprocess.Popen[bytes]:
        command = [str(BIN / "raytile"), "serve", "--in-process", "--port", str(self.port), "--store", str(self.store)]
        return subprocess.Popen(
            command, env={**os.environ, **self.variables}, stdout=subprocess.DEVNULL, start_new_session=True
        )


def answers(url: str, seconds: float = 120) -> None:
    """Wait until a service answers."""
    until = time.monotonic() + seconds
    while True:
        try:
            if httpx2.get(f"{url}/readyz").status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        assert time.monotonic() < until, f"{url} does not answer"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    found = Service(tmp_path_factory.mktemp("service") / "store")
    process = found.start()
    try:
        answers(found.url)
        yield found
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def place(service: Service, tmp_path: Path) -> Shell:
    """A shell in a folder that has the repository's `deploy` in it, beside what it writes."""
    (tmp_path / "at").mkdir()
    (tmp_path / "at" / "deploy").symlink_to(ROOT / "deploy")
    return Shell(tmp_path, tmp_path / "at", service.variables)


def texts(section: str, *tags: str) -> list[str]:
    """Its shell blocks with exactly these tags besides the language."""
    return [block.text for block in guides.shell(GUIDE, section) if block.tags[1:] == tags]


def ran(shell: Shell, text: str) -> str:
    done = shell.run(text)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_ten_commands_to_the_first_picture(service: Service, place: Shell) -> None:
    """As many as are promised. The key that the head would make is made here, and the picture painted with it."""
    first, *_ = texts(FIRST, "kubectl")
    assert len(first.splitlines()) == 10
    here = guides.replaced(
        first, {f"--store {STORE}": f"--store {service.store}", URL: service.url, "2048x1024": "256x128"}
    )
    (ask,) = texts(FIRST)
    ask = guides.replaced(ask, {URL: service.url, "1024x512": "128x64"})
    said = ran(place, here + ask)
    assert (place.folder / "planet.png").read_bytes()[:4] == b"\x89PNG"
    assert '"state": "queued"' in said or '"state":"queued"' in said
    told = place.told()
    assert guides.check(told, place.folder) == 9
    (made,) = [words for words in told if words[:2] == ["helm", "install"] and "deploy/chart" in words]
    (account,) = [each for each in guides.helm_renders(made[1:], place.folder) if each["kind"] == "ServiceAccount"]
    assert list(account["metadata"]["annotations"]) == ["eks.amazonaws.com/role-arn"]


@pytest.mark.parametrize(
    "block",
    [block for block in guides.shell(GUIDE) if block.tags[1:] == ("kubectl",)],
    ids=lambda block: block.section,
)
def test_commands_for_a_cluster_name_what_is_there(block: guides.Block, place: Shell) -> None:
    """The chart takes the values, and what kubectl speaks of is something that is made."""
    if block.section == FIRST and "exec" in block.text:
        return  # above, with the service behind it
    text = re.sub(r"-- raytile top --once", "-- true", block.text)
    ran(place, f"head=pod/raytile-head-x7k2p\n{text}")
    calls = [line for line in block.text.splitlines() if re.match(r"(\w+=\$\()?(kubectl|helm) ", line)]
    assert guides.check(with_first_values(place), place.folder) == len(calls)


def with_first_values(place: Shell) -> list[list[str]]:
    """An upgrade that reuses the values begins with those of the installation."""
    first = ["-f", "deploy/values/one-gpu.yaml"]
    told = place.told()
    return [[*words, *first] if "--reset-then-reuse-values" in words else words for words in told]


def test_sizing(place: Shell) -> None:
    """The plan that is quoted is the one that is foretold; the figures are made by the commands that are shown."""
    (plan, measure) = texts("Sizing")
    (quoted,) = [block.text for block in guides.blocks(GUIDE) if block.tags == ("text",)][:1]
    said = ran(place, plan)
    assert [line.split() for line in said.splitlines()] == [line.split() for line in quoted.splitlines()]
    small = guides.replaced(
        measure,
        {"--size 1024x512 --in-process": "--size 128x64 --in-process --model toy --steps 2", "16384x8192": "1024x512"},
    )
    figures = ran(place, small)
    assert re.search(r"^a worker: [\d.]+ evaluations a second, \d+ MiB$", figures, re.MULTILINE), figures
    assert re.search(r"^[\d.]+ hours of a worker, [\d.]+ on 16; at 1.20 an hour [\d.]+$", figures, re.MULTILINE), (
        figures
    )


def test_keys(service: Service, place: Shell) -> None:
    """Made, listed, revoked, and known by the service."""
    (block,) = texts("Tenants")
    lines = guides.replaced(block, {STORE: str(service.store)}).splitlines()
    key = ran(place, lines[0]).strip()
    ask = {"headers": {"Authorization": f"Bearer {key}"}}
    assert httpx2.get(f"{service.url}/v1/renders", **ask).status_code == 200
    ran(place, lines[1])
    listed = [line for line in ran(place, lines[2]).splitlines() if "maps-team" in line]
    number = listed[-1].split()[0]
    ran(place, lines[3].replace("KEY-ID", number))
    until = time.monotonic() + 30
    while httpx2.get(f"{service.url}/v1/renders", **ask).status_code != 401:
        assert time.monotonic() < until, "a revoked key is still good"
        time.sleep(0.5)


def test_a_copy_of_the_store_serves_the_same_renders(service: Service, place: Shell) -> None:
    """The service of the guide is started on a copy; the key holds there, and the render is there."""
    key = ran(place, f"raytile keys add copied --store {service.store}").strip()
    ask = {"headers": {"Authorization": f"Bearer {key}"}}
    wish = {"prompt": "islands", "size": "64x64", "steps": 2}
    made = httpx2.post(f"{service.url}/v1/renders", json=wish, **ask).json()["id"]
    ran(place, f"raytile remote status {made} --watch --key {key}")
    see, serve = texts("Disaster recovery")
    canvas = f"{service.store}/renders/{made}/canvas.zarr"
    see = guides.replaced(see, {rf"{STORE}/renders/ID/canvas\.zarr": canvas})
    assert "finished" in ran(place, see.splitlines()[0])
    assert "finished" in place.run(see.splitlines()[1]).stderr  # there is nothing to cancel, and it says so
    port = str(free_port())
    waits = f"until curl -s -o /dev/null http://127.0.0.1:{port}/readyz; do sleep 0.2; done\n"
    serve = guides.replaced(serve, {"8001": port, "curl": f"trap 'kill $!' EXIT\n{waits}curl"})
    text = f"cp -r {service.store} copy\nexport RAYTILE_KEY={key}\n{serve}"
    assert made in ran(place, text)


def test_every_section_with_commands_for_here_is_run() -> None:
    found = {block.section for block in guides.shell(GUIDE) if not block.tags[1:]}
    assert found == set(RUN_BY)
    assert {name for name in RUN_BY.values() if name in globals()} == set(RUN_BY.values())
    assert {block.tags for block in guides.shell(GUIDE)} == {("sh",), ("sh", "kubectl"), ("sh", "docker")}


def test_images_are_built_as_the_dockerfile_lets() -> None:
    (block,) = [block for block in guides.shell(GUIDE) if block.tags[1:] == ("docker",)]
    known = {
        name for stage in dockerfile.stages()[1] for value in stage.values("ARG") for name in [value.split("=")[0]]
    }
    stages = {stage.name for stage in dockerfile.stages()[1]}
    for line in block.text.splitlines():
        words = line.split()
        if words[1] == "build":
            assert (ROOT / words[words.index("-f") + 1]) == dockerfile.DOCKERFILE
            assert words[-1] == "."
        if "--build-arg" in words:
            assert words[words.index("--build-arg") + 1].split("=")[0] in known
        if "--build-context" in words:
            assert words[words.index("--build-context") + 1].split("=")[0] in stages
    tags = set(re.findall(r"ghcr\.io/raytile/raytile:(\S+)", block.text))
    used = {values.get("image", {}).get("tag") or "0.1.0" for values in guides.examples().values()}
    assert used <= tags


def test_what_is_named_is_there() -> None:
    """Links, values of the chart, settings, acceptance lines, and sections of other guides."""
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT):
        assert link.startswith("https://") or (GUIDE.parent / link).exists(), link
    values = yaml.safe_load((ROOT / "deploy" / "chart" / "values.yaml").read_text())
    for path in re.findall(r"`((?:[a-z][A-Za-z]+\.)+[a-zA-Z_]+)(?::[^`]*|=[^`]*)?`", TEXT):
        keys = path.split(".")
        if keys[0] not in values or path.endswith((".yaml", ".md", ".jsonl")):
            continue
        node = values
        for key in keys:
            if node is values["service"]["settings"]:
                assert key in Settings.model_fields, path
                break
            if node is values["workers"]:
                node = values["workerDefaults"]
            assert key in node, path
            node = node[key]
    for area, only in re.findall(r"make accept AREA=(\w+) ONLY=(\w+)", TEXT):
        assert (ROOT / "tests" / "acceptance" / f"{area}_{only}.py").exists()
    for name in re.findall(r"`((?:max|min|warm|retain|presign|cost|price|worker)_\w+|presign)\b", TEXT):
        assert name in Settings.model_fields, name


def test_the_defaults_that_are_told_are_those() -> None:
    values = yaml.safe_load((ROOT / "deploy" / "chart" / "values.yaml").read_text())
    fields = Settings.model_fields
    for words, default in {
        "`warm_idle_s` (60)": fields["warm_idle_s"].default == 60,
        "`idleTimeoutSeconds` (120)": values["workerDefaults"]["idleTimeoutSeconds"] == 120,
        "`service.upgrade.deletionDelaySeconds` (120)": values["service"]["upgrade"]["deletionDelaySeconds"] == 120,
        "`drain.seconds` (90)": values["drain"]["seconds"] == 90,
        "(2 cores, 8Gi)": (values["head"]["cpus"], values["head"]["memory"]) == (2, "8Gi"),
        "the chart's 16Gi": values["workerDefaults"]["memory"] == "16Gi",
        "the chart's 4 GiB": values["workerDefaults"]["shmGiB"] == 4,
    }.items():
        assert words in TEXT
        assert default, words
