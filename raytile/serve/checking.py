"""Looks at a picture that a client sent, in a process of its own with little to spend: `python -m` this, FILE PIXELS.

A decoder that is made to take all memory, all time, or to crash, does so there alone, and without the service's
secrets in its environment. What is let through has been decoded to its last
row by the decoder that a render will use."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import anyio

from raytile.errors import InvalidRequest

MEMORY = 3 * 2**30
"""Bytes of address space: what the libraries map, and the largest picture that has to be decoded whole."""
SECONDS = 60
CHECKERS = anyio.CapacityLimiter(2)
"""Pictures that are looked at at once: each takes a process."""
OK, REFUSED, UNKNOWN = 0, 3, 4
MAGIC = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"II": "tiff", b"MM": "tiff", b"RIFF": "webp"}


@dataclass(frozen=True)
class Looks:
    """What a picture is: width and height in pixels, upright, and the format of its file."""

    width: int
    height: int
    format: str


class Unknown(InvalidRequest):
    """The bytes are of no kind of picture that is taken in."""


def check(file: Path, max_pixels: int, holes: Path | None = None) -> Looks:
    """What picture `file` holds. `holes`: a PNG to write, white where the picture is wholly transparent.

    Raises `Unknown` for what is none, `InvalidRequest` for one that is damaged, too large, without any hole, or asks
    for more time or memory than a picture needs: one line, without the file's path."""
    command = [sys.executable, "-m", "raytile.serve.checking", file.name, str(max_pixels)]
    if holes is not None:
        command.append(str(holes))
    quiet = {"VIPS_CONCURRENCY": "1", "OMP_NUM_THREADS": "1", "VIPS_BLOCK_UNTRUSTED": "1"}
    package = str(Path(__file__).parents[2])
    given = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAYTILE_"))}
    known = given.get("PYTHONPATH")
    path = {"PYTHONPATH": f"{package}{os.pathsep}{known}" if known else package}
    try:
        done = subprocess.run(
            command,
            cwd=file.parent,
            env={**given, **quiet, **path},
            capture_output=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise InvalidRequest(f"file: takes more than {SECONDS} s to decode: send it as plain PNG or JPEG") from None
    said = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode == OK and said:
        return Looks(**json.loads(said[-1]))
    if done.returncode in (REFUSED, UNKNOWN) and said:
        kind = Unknown if done.returncode == UNKNOWN else InvalidRequest
        raise kind("file: " + said[-1].removeprefix(f"cannot read {file.name}: ").removeprefix(f"{file.name} "))
    raise InvalidRequest("file: cannot be decoded within the memory and time that a picture may take")


def main(name: str, max_pixels: int, holes: str | None = None) -> int:
    """In the process of its own: say what the picture is, or what is wrong with it."""
    written = 0 if holes is None else max_pixels + 2**16
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))
    from raytile.canvas.picture import pour, shown_size
    from raytile.plan.request import MAX_SIDE

    with Path(name).open("rb") as file:
        start = file.read(16)
    format_ = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
    if format_ is None:
        print("is no PNG, JPEG, TIFF or WebP picture: save it as one of these")
        return UNKNOWN
    try:
        width, height = shown_size(name)
        if width * height > max_pixels or max(width, height) > MAX_SIDE:
            raise InvalidRequest(f"{width}x{height} pixels are too many, at most {max_pixels}: scale it down")
        pour(name, 3, width, height, 512, lambda *_: None)
        if holes is not None:
            _write_holes(name, holes)
    except InvalidRequest as error:
        print(str(error).replace("\n", " "))
        return REFUSED
    except (OSError, ValueError) as error:  # a mask that one decoder takes and the other does not
        print(f"cannot be read as a mask ({type(error).__name__}): save it anew as PNG")
        return REFUSED
    print(json.dumps({"width": width, "height": height, "format": format_}))
    return OK


def _write_holes(name: str, holes: str) -> None:
    """Raises `InvalidRequest` where nothing is wholly transparent."""
    from PIL import Image, ImageOps

    with Image.open(name, formats=["PNG", "WEBP", "TIFF"]) as opened:
        upright = ImageOps.exif_transpose(opened)
        if not upright.has_transparency_data:
            raise InvalidRequest("has no transparent parts: make transparent (alpha 0) what is to be edited")
        found = upright.convert("RGBA").getchannel("A").point([255, *[0] * 255])
    if found.getbbox() is None:
        raise InvalidRequest("has no wholly transparent part: make transparent (alpha 0) what is to be edited")
    found.save(holes, format="PNG")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
