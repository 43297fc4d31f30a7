"""The examples of jobs, run as they are written, on a real head that asks for a token; manifests judged by schemas."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.jobs import EXAMPLES, job_head
from tests.deploy import guides, manifests
from tests.deploy.guides import ROOT, Shell

TOKEN = "a-token-of-tests-that-nobody-else-has"
README = EXAMPLES / "README.md"
LOCAL = r"http://127\.0\.0\.1:8265"
TOY = "--size 96x64 --model toy --steps 2"
SECRETS = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
"""What KubeRay tells every pod of a cluster."""


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text())


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A head in token mode; its address."""
    with job_head(tmp_path_factory.mktemp("head"), cpus=2, **SECRETS) as address:
        yield address


@pytest.fixture
def laptop(tmp_path: Path) -> Shell:
    """A shell beside the examples that knows no token, but whose kubectl can tell it."""
    (tmp_path / "home").mkdir()
    variables = {"HOME": str(tmp_path / "home"), "TOKEN": TOKEN, "RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}
    return Shell(tmp_path, EXAMPLES, variables)


def toy(text: str, head: str, out: Path) -> str:
    """The same with small pictures of the toy model, kept here."""
    text = re.sub(r"--size[= ]\S+", TOY, text)
    text = re.sub(r"""'?\{"num_gpus": ?1\}'?""", """'{"num_cpus": 0.1}'""", text)
    text = re.sub(r"--workers[= ]1\.\.8", "--workers 1", text)
    return text.replace("s3://maps", str(out)).replace("http://127.0.0.1:8265", head)


def container() -> dict[str, Any]:
    found: dict[str, Any] = read("cron.yaml")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    return found


def night(head: str, place: Path, name: str) -> subprocess.CompletedProcess[str]:
    """The CronJob's container, as Kubernetes would start it, for a night called `name`; in small."""
    pod = container()
    variables = {each["name"]: each.get("value", "") for each in pod["env"]}
    variables |= {"NIGHT": name, "RAY_AUTH_TOKEN": TOKEN, "RAY_API_SERVER_ADDRESS": head}
    folder = place / "atlas"
    folder.mkdir(exist_ok=True)
    for mount in pod["volumeMounts"]:
        if "subPath" in mount:
            (folder / Path(mount["mountPath"]).name).write_bytes((EXAMPLES / mount["subPath"]).read_bytes())
    small = {
        "python": sys.executable,
        "$(NIGHT)": name,
        "/atlas": str(folder),
        "--size=1024x512": "--size=96x64",
        "--workers=1..8": "--workers=1",
        '--worker-resources={"num_gpus":1}': '--worker-resources={"num_cpus":0.1}',
        "--out=s3://maps/atlas": f"--out={place / 'painted'}",
    }
    words = [*pod["command"], *pod["args"]]
    assert set(small) <= {*words}
    words = [small.get(word, word) for word in words] + ["--model=toy", "--steps=2"]
    return subprocess.run(
        words, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, timeout=200
    )


@pytest.mark.ray
def test_the_laptop_gets_the_token_and_submits(head: str, laptop: Shell, tmp_path: Path) -> None:
    """Without the token it is turned away."""
    (ask,) = [block for block in guides.shell(README) if "auth_token" in block.text]
    (many,) = guides.shell(README, "Many pictures")
    asked = toy(many.text, head, tmp_path).replace("--pictures png", "--pictures png --in-process")
    refused = laptop.run(f"export RAY_API_SERVER_ADDRESS={head}\n{asked}")
    assert refused.returncode != 0
    assert "authentication" in (refused.stdout + refused.stderr).lower()
    assert not (tmp_path / "atlas").exists()

    done = laptop.run(guides.replaced(ask.text, {LOCAL: head}) + asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((tmp_path / "atlas" / "manifest.jsonl").read_text().splitlines()) == 3
    assert len(list((tmp_path / "atlas" / "pictures").glob("*.png"))) == 3
    assert guides.check(laptop.told(), EXAMPLES) == 2


@pytest.mark.ray
def test_a_night_paints_what_is_missing_and_a_pod_that_comes_again_follows_it(head: str, tmp_path: Path) -> None:
    first = night(head, tmp_path, "atlas-1")
    assert first.returncode == 0, first.stdout + first.stderr
    rows = [json.loads(line) for line in (tmp_path / "painted" / "manifest.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in rows] == [1, 2, 3]
    again = night(head, tmp_path, "atlas-1")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.splitlines()[0] == "job atlas-1 is there: SUCCEEDED"


@pytest.mark.ray
def test_a_node_is_drained_with_the_token_of_its_pod(head: str) -> None:
    """It finds itself (here it is the head, which is not drained); without the token that is one line."""

    def job(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(EXAMPLES / "submit.py"), "--address", head, "--", *words]
        return subprocess.run(command, env={**os.environ, **SECRETS}, capture_output=True, text=True, timeout=120)

    known = job("raytile", "drain", "--seconds", "1")
    assert known.returncode == 2, known.stdout + known.stderr
    assert "error: node: this is the head" in known.stdout
    unknown = job("env", "RAY_AUTH_TOKEN=" + 40 * "x", "raytile", "drain", "--seconds", "1")
    assert unknown.returncode == 2, unknown.stdout + unknown.stderr
    assert "error: the Ray at " in unknown.stdout
    assert "RAY_AUTH_TOKEN" in unknown.stdout
    assert "Traceback" not in unknown.stdout


@pytest.mark.ray
def test_what_is_refused_ends_with_its_own_code_and_makes_room(head: str, tmp_path: Path) -> None:
    def submit(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(EXAMPLES / "submit.py"), "--address", head, "--id", "mended", "--"]
        told = {**os.environ, **SECRETS}
        return subprocess.run([*command, *words], env=told, capture_output=True, text=True, timeout=120)

    wrong = submit("raytile", "render", "islands", "--size", "96", "--out", str(tmp_path / "a.zarr"))
    assert wrong.returncode == 2, wrong.stdout + wrong.stderr
    assert [line for line in wrong.stdout.splitlines() if line.startswith("job mended: raytile")] == [
        f"job mended: raytile render islands --size 96 --out {tmp_path / 'a.zarr'}"
    ]  # once
    right = submit("raytile", "plan", "islands", "--size", "96x64", "--model", "toy")
    assert right.returncode == 0, right.stdout + right.stderr
    assert right.stdout.startswith("job mended: raytile plan")


@pytest.mark.parametrize("name", ["cron.yaml", "rayjob.yaml"])
def test_the_manifests_are_right(name: str, tmp_path: Path) -> None:
    """By Kubernetes' schemas, and by KubeRay's where they are at hand; a misspelt word is seen."""
    if name == "rayjob.yaml":
        if not manifests.SHARED.exists():
            pytest.skip(f"{manifests.SHARED} is not here")
        judge = partial(manifests.ray_problems, folder=tmp_path)
    else:
        judge = manifests.core_problems
    document = read(name)
    assert judge([document]) == []
    document["spec"]["activeDeadline"] = 3
    assert judge([document]) != []


def test_the_night_is_safe() -> None:
    """Restricted pods, no token of Kubernetes, one night at a time; no try is spent on what would end so again."""
    spec = read("cron.yaml")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    rules = spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"] == {"containerName": container()["name"], "operator": "In", "values": [2, 130]}


def test_what_the_examples_name_is_what_the_chart_makes() -> None:
    """Image, secret, service, cluster, and the labels that its network policies let in."""
    objects = guides.documents(guides.render(guides.examples()["cluster"]))
    (cluster,) = [each for each in objects if each["kind"] == "RayCluster"]
    name, head = cluster["metadata"]["name"], cluster["spec"]["headGroupSpec"]["template"]
    assert "secretName" not in cluster["spec"]["authOptions"]  # KubeRay's, named like the cluster
    variables: Mapping[str, Any] = {each["name"]: each for each in container()["env"]}
    assert variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": name, "key": "auth_token"}
    assert variables["RAY_API_SERVER_ADDRESS"]["value"] == f"http://{name}-head-svc:8265"
    assert container()["image"] == head["spec"]["containers"][0]["image"]
    pod = read("cron.yaml")["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    (inside,) = [each for each in objects if each["metadata"]["name"] == f"{name}-inside"]
    assert inside["spec"]["podSelector"]["matchLabels"].items() <= pod.items()
    job = read("rayjob.yaml")
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": name}
    assert {job["metadata"]["namespace"], read("cron.yaml")["metadata"]["namespace"]} == {"raytile"}
    workflow = (EXAMPLES / "github.yaml").read_text()
    assert f"get secret {name} " in workflow
    assert f"service/{name}-head-svc 8265" in workflow


def test_every_command_of_a_job_is_safe_to_repeat() -> None:
    texts = [block.text for block in guides.shell(README)] + [read("rayjob.yaml")["spec"]["entrypoint"]]
    renders = [words for text in texts for words in re.findall(r"raytile render (?:[^\n]|\\\n|\n +)*", text)]
    assert len(renders) == 4
    assert [words for words in renders if "--resume" not in words] == []


def test_versions_are_the_constraints() -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    for file in (README, EXAMPLES / "github.yaml"):
        assert re.findall(r'"ray\[default\]==([\d.]+)"', file.read_text()) == [pinned["ray"]]
