"""The image: its Dockerfile, as it stands, built by buildah onto a clean root, and used as a pod would use it.

Needs root, buildah and debootstrap (Debian packages). Debian's own Python stands in for the one of the base image, that
comes from a registry; torch is the CPU build. The figures say what came of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.acceptance.common import ROOT, report, say
from tests.deploy import dockerfile

PACKAGES = "ca-certificates,netbase,tzdata,python3,python3-venv,python3-pip,python-is-python3"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
IMAGE = "raytile:accepted"
INSIDE = {
    "user": "id -u; id -g",
    "raytile of a plain shell": "command -v raytile ray python",
    "raytile of a login shell": "env -i HOME=$HOME bash -lc 'command -v raytile ray python'",
    "compilers": "command -v gcc cc g++ make cargo || true",
    "wget": "wget --version | head -1",
    "plan": "cd /tmp && raytile plan islands --size 4096x2048 --workers 4 --json | tail -1",
    "paints": "cd /tmp && raytile render islands --size 256x128 --steps 2 --in-process --quiet --out i.zarr --png i.png"
    " && head -c 4 i.png | tail -c 3",
    "page": "ls $(python -c 'import raytile; print(raytile.__path__[0])')/serve/web/dist/index.html",
    "ray": "ray --version",
    "writes": "touch /opt/raytile/x 2>&1 || echo no",
    "models": "ls -d /models",
    "packages": "/opt/raytile/bin/python -m pip freeze",
}
"""What is asked of the image, as user 1000."""


def call(*words: str, **variables: str) -> str:
    """Run it, with what it says shown; its standard output."""
    say("$", " ".join(words)[:200])
    done = subprocess.run(words, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def base(place: Path, name: str) -> None:
    """A clean root as the image of that name. How this machine reaches its package indexes goes with it."""
    uris = call("apt-get", "indextargets", "--format", "$(REPO_URI)", "Codename: bookworm").split()
    call("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(place), uris[0])
    shutil.copy(AUTHORITIES, place / str(AUTHORITIES).lstrip("/"))
    kept = {key: value for key, value in os.environ.items() if re.match("PIP_(?!CONSTRAINT)|NODE_EXTRA_CA", key)}
    container = call("buildah", "from", "scratch")
    call("buildah", "add", "-q", container, str(place), "/")
    settings = [word for key, value in kept.items() for word in ("--env", f"{key}={value}")]
    call("buildah", "config", *settings, "--env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    call("buildah", "commit", "-q", "--rm", container, f"docker.io/library/{name}")


def build() -> float:
    """The Dockerfile, unchanged; seconds that it took."""
    links = [folder for folder in os.environ.get("PIP_FIND_LINKS", "").split() if Path(folder).is_dir()]
    volumes = [word for folder in links for word in ("-v", f"{folder}:{folder}:ro")]
    # An index of one's own in place of PyTorch's: the one that pip knows already.
    arguments = ["--build-arg", "DEVICE=cpu", "--build-arg", "TORCH_CPU_INDEX="]
    start = time.monotonic()
    call("buildah", "bud", "--isolation", "chroot", "--pull-never", *volumes, "-f", str(dockerfile.DOCKERFILE),
         *arguments, "-t", IMAGE, str(ROOT))  # fmt: skip
    return time.monotonic() - start


def ask() -> dict[str, str]:
    """What the image answers, by question."""
    container = call("buildah", "from", "--pull-never", IMAGE)
    try:
        run = ("buildah", "run", "--isolation", "chroot", container, "--", "bash", "-c")
        return {name: call(*run, command) for name, command in INSIDE.items()}
    finally:
        call("buildah", "rm", container)


def pins() -> set[str]:
    return set((ROOT / "constraints.txt").read_text().split())


def unpinned(frozen: str) -> list[str]:
    """Installed packages that are not at their pin; raytile itself, and a label of torch's build, aside."""
    found = {
        line.replace("+cpu", "").replace("_", "-")
        for line in frozen.lower().splitlines()
        if not line.startswith("raytile")
    }
    return sorted(found - pins() - {line for line in found if line.startswith(("pip==", "setuptools=="))})


def main() -> None:
    os.environ.setdefault("STORAGE_DRIVER", "vfs")  # works everywhere
    arguments, _ = dockerfile.stages()
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="raytile-image-") as place:
        if arguments["BASE"] not in call("buildah", "images", "--format", "{{.Name}}:{{.Tag}}"):
            base(Path(place, "root"), arguments["BASE"])
    seconds = build()
    answers = ask()
    size = json.loads(call("buildah", "images", "--json", IMAGE))[0]["size"]
    say(json.dumps(answers, indent=1)[:4000])
    first = ["/opt/raytile/bin/raytile", "/opt/raytile/bin/ray", "/opt/raytile/bin/python"]
    checks = {
        "the Dockerfile is built, unchanged": True,
        "it is user 1000": answers["user"].split() == ["1000", "1000"],
        "raytile, ray and python are first in the path": answers["raytile of a plain shell"].split() == first,
        "in a login shell too": answers["raytile of a login shell"].split() == first,
        "no compiler, wget for probes": answers["compilers"] == "" and answers["wget"].startswith("GNU Wget"),
        "it plans": json.loads(answers["plan"])["workers"] == 4,
        "it paints": answers["paints"] == "PNG",
        "the page is in it": answers["page"].endswith("dist/index.html"),
        "every package is at its pin": unpinned(answers["packages"]) == [],
        "its user cannot change it": answers["writes"].endswith("no"),
        "models have a place": answers["models"] == "/models",
    }
    report(
        "image: built by its Dockerfile on a clean root, used as a pod uses it",
        checks,
        {
            "seconds to build": round(seconds),
            "size": size,
            "packages": len(answers["packages"].splitlines()),
            "not at their pin": unpinned(answers["packages"]),
            "ray": answers["ray"],
            "stands in for the base image": "Debian 12 by debootstrap, with Debian's Python 3.11",
        },
    )


if __name__ == "__main__":
    main()
