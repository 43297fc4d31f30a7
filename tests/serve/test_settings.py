"""Settings: the last word wins, and a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytile.errors import InvalidRequest
from raytile.serve.settings import Settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("RAYTILE_")]:
        monkeypatch.delenv(name)


def test_options_beat_the_environment_which_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("max_steps: 1\nmax_queue: 2\nmax_side: 3\nmodels: {small: toy}\n")
    monkeypatch.setenv("RAYTILE_MAX_QUEUE", "20")
    monkeypatch.setenv("RAYTILE_MAX_SIDE", "30")
    monkeypatch.setenv("RAYTILE_STORE_DEADLINE", "5")  # another's
    found = Settings.load(file, max_side=300, max_pixels=None)
    assert (found.max_steps, found.max_queue, found.max_side) == (1, 20, 300)
    assert (found.models, found.default_model) == ({"small": "toy"}, "small")
    monkeypatch.setenv("RAYTILE_CONFIG", str(file))
    assert Settings.load().max_steps == 1


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "max_stepz: 1", "max_stepz: no such setting: did you mean max_steps"),
        ("a.json", '{"max_steps": 0}', "max_steps: Input should be greater"),
        ("a.json", "{", "neither YAML nor JSON"),
        ("a.yaml", "a: [", "neither YAML nor JSON"),
        ("a.yaml", "- 1", "settings have names"),
        ("a.yaml", "models: {'../x': toy}", "is no name for a model"),
        ("none.yaml", None, "cannot be read"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidRequest) as told:
        Settings.load(tmp_path / name)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYTILE_MAX_STEPS", "many")
    with pytest.raises(InvalidRequest, match="RAYTILE_MAX_STEPS"):
        Settings.load()
    monkeypatch.delenv("RAYTILE_MAX_STEPS")
    monkeypatch.setenv("RAYTILE_MODELS", "toy")
    with pytest.raises(InvalidRequest, match="models"):
        Settings.load()
