"""The README's commands run, one after the other, as they are shown: on the toy model, at half the size."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from raytile import api
from raytile.canvas import store
from raytile.cli import main
from raytile.scenes import layer, settle

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = [
    ("Scenes: words where they hold", ["planet.png", "halves.png"]),
    ("Sides that meet", ["sphere.jpg", "faces/cube-front.png", "set/set-t7.png"]),
    ("From a picture: larger, in another style, partly anew, continued",
     ["coarse.png", "large.png", "relief.zarr", "peaks.zarr", "wider.zarr"]),
    ("Steering", ["ring.png"]),
]  # fmt: skip
SMALLER = 2


def blocks(section: str, language: str) -> list[str]:
    """The code of that language in a section."""
    text = README.split(f"### {section}\n")[1].split("\n### ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(section: str) -> list[list[str]]:
    found = [shlex.split(line, comments=True) for block in blocks(section, "sh") for line in block.splitlines()]
    return [words[1:] for words in found if words]


def smaller(words: list[str]) -> list[str]:
    """The same at half of every length, so that it is done in a moment; a scene's own size too."""
    after = {"--size", "--box", "--left", "--right", "--top", "--bottom"}
    made = [
        re.sub(r"\d+", lambda number: str(int(number[0]) // SMALLER), word) if before in after else word
        for before, word in zip(["", *words], words, strict=False)
    ]
    if "--scene" in words and "--size" not in words:
        made += ["--size", "512x256"]
    if words[0] in ("render", "plan"):
        made += ["--model", "toy"]
    return [*made, "--in-process", *(["--quiet"] if words[0] != "export" else [])]


@pytest.mark.parametrize(("section", "files"), SECTIONS, ids=[name.split(":")[0] for name, _ in SECTIONS])
def test_the_commands_of_a_section_run(
    section: str, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("*.jpg", "jobs", "terra"))
    wang = tmp_path / "examples" / "tilesets" / "wang.json"
    wang.write_text(wang.read_text().replace('"size": 512', f'"size": {512 // SMALLER}'))
    found = commands(section)
    assert found
    for words in found:
        line = smaller(words)
        if words[0] == "export":
            line.remove("--in-process")
        elif words[0] != "plan":
            line += ["--steps", "3"]
        assert main(line) == 0, line
    for file in files:
        assert (tmp_path / file).exists(), file


def test_the_scene_that_is_shown_is_one() -> None:
    import yaml

    (text,) = blocks("Scenes: words where they hold", "yaml")
    request = settle(layer(yaml.safe_load(text)), layer({"model": "toy"}))
    assert len(api.plan(request).request.regions) == 2


def test_the_python_that_is_shown_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples" / "scenes", tmp_path / "scenes")
    (text,) = blocks("Scenes: words where they hold", "python")
    for shown, here in (
        ("examples/scenes/planet.yaml", "scenes/halves.yaml"),
        ('{"seed": 7}', '{"seed": 7, "model": "toy", "steps": 2}'),
        ('"planet.zarr")', '"planet.zarr", in_process=True)'),
    ):
        assert shown in text
        text = text.replace(shown, here)
    exec(text, {})
    assert store.open("planet.zarr").head().state == "finished"
