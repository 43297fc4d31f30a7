"""A canvas that has taken a picture in goes on without it, wherever the picture is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from raytile.api import render
from raytile.errors import InvalidRequest, RenderCancelled
from raytile.events import Event, StepDone
from raytile.plan.request import RenderRequest


def test_a_render_goes_on_when_its_pictures_are_gone_and_called_by_another_name(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("source.png", "mask.png")]
    Image.new("RGB", (96, 64), (200, 90, 60)).save(files[0])
    Image.new("L", (96, 64), 255).save(files[1])
    asked = RenderRequest.parse(
        prompt="a", width=96, height=64, model="toy", steps=6, strength=1.0, source={"path": str(files[0])},
        regions=[{"prompt": "b", "mask": {"path": str(files[1])}}],
    )  # fmt: skip
    seen: list[Event] = []

    def stop() -> bool:
        return any(isinstance(event, StepDone) for event in seen)

    canvas = tmp_path / "a.zarr"
    with pytest.raises(RenderCancelled):
        render(asked, canvas, in_process=True, listeners=[seen.append], stop=stop)
    from raytile.canvas import store

    settled = store.open(canvas).head().request
    for file in files:
        file.unlink()
    text = settled.model_dump_json().replace("source.png", "elsewhere.png").replace("mask.png", "there.png")
    moved = RenderRequest.model_validate_json(text)
    assert moved != settled
    assert render(moved, canvas, in_process=True, resume=True).head().state == "finished"
    other = RenderRequest.model_validate_json(text.replace(settled.source.sha256, "0" * 64))  # type: ignore[union-attr]
    with pytest.raises(InvalidRequest):
        render(other, canvas, in_process=True, resume=True)
