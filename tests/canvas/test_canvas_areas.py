"""A block has one mean, whatever box is asked for, and what is kept of them is bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from canvas_parts import SMALL, head
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raytile.canvas import store
from raytile.canvas.areas import Areas, block_means
from raytile.canvas.inputs import Inputs, Taken
from raytile.errors import CanvasError
from raytile.geometry.box import Box

Values = np.ndarray[Any, Any]


def naive(values: Values, box: Box, k: int) -> Values:
    found = np.zeros((values.shape[0], box.height, box.width), np.float32)
    for y in range(box.height):
        for x in range(box.width):
            low_y, low_x = max(0, (box.y0 + y) * k), max(0, (box.x0 + x) * k)
            part = values[:, low_y : max(0, (box.y0 + y + 1) * k), low_x : max(0, (box.x0 + x + 1) * k)]
            if part.shape[1] and part.shape[2]:
                found[:, y, x] = part.sum(axis=(1, 2), dtype=np.int64) / (255 * part.shape[1] * part.shape[2])
    return found


@st.composite
def boxes(draw: st.DrawFn, most: int) -> Box:
    y, x = draw(st.integers(-4, most)), draw(st.integers(-4, most))
    return Box(y, y + draw(st.integers(0, most)), x, x + draw(st.integers(0, most)))


@given(st.data(), st.integers(1, 40), st.integers(1, 40), st.integers(1, 16), st.integers(1, 20), st.integers(0, 4000))
@settings(max_examples=150, deadline=None)
def test_means_are_those_of_numpy(data: st.DataObject, height: int, width: int, side: int, k: int, held: int) -> None:
    values = np.random.default_rng(height * 41 + width).integers(0, 256, (2, height, width), np.uint8)
    areas = Areas(side, held)
    largest = 4 * 2 * (max(1, side // k)) ** 2
    for _ in range(3):
        box = data.draw(boxes(max(height, width) // k + 3))
        found = areas.mean("m", values.shape, box, k, lambda part: values[:, part.y0 : part.y1, part.x0 : part.x1])
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, naive(values, box, k))
        assert areas._bytes == sum(kept.nbytes for kept in areas._kept.values()) <= max(held, largest)


@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 30))
def test_white_is_one_and_black_is_nothing(k: int, height: int, width: int) -> None:
    assert (block_means(np.full((1, height, width), 255, np.uint8), k) == 1).all()
    assert (block_means(np.zeros((1, height, width), np.uint8), k) == 0).all()


def test_what_was_read_last_is_not_read_again() -> None:
    values = np.random.default_rng(0).integers(0, 256, (1, 64, 64), np.uint8)
    reads: list[Box] = []

    def read(box: Box) -> Values:
        reads.append(box)
        return values[:, box.y0 : box.y1, box.x0 : box.x1]

    areas = Areas(16, held=2 * 4 * 16)  # two squares of 4 x 4 means
    for column, news in ((0, 1), (0, 0), (1, 1), (0, 0), (2, 1), (0, 0), (1, 1)):
        before = len(reads)
        areas.mean("m", values.shape, Box(0, 4, 4 * column, 4 * column + 4), 4, read)
        assert len(reads) - before == news
    areas.mean("n", values.shape, Box(0, 4, 4, 8), 4, read)
    areas.mean("n", values.shape, Box(0, 2, 2, 4), 8, read)
    assert reads[-2:] == [Box(0, 16, 16, 32), Box(0, 16, 16, 32)]


def test_a_canvas_gives_the_means_of_its_inputs(tmp_path: Path) -> None:
    values = np.random.default_rng(4).integers(0, 256, (70, 90), np.uint8)
    Image.fromarray(values).save(tmp_path / "m.png")
    mask = Taken(str(tmp_path / "m.png"), 90, 70)
    canvas = store.create(tmp_path / "a.zarr", SMALL, head(), inputs=Inputs(masks=(mask,), control=mask))
    for k in (1, 3, 8, 32, 64):
        for box in (Box(0, 3, 0, 2), Box(-1, 90 // k + 2, -2, 90 // k + 2), Box(1, 2, 1, 2)):
            np.testing.assert_array_equal(canvas.area("control", box, k), naive(values[None], box, k))
    np.testing.assert_array_equal(canvas.area("mask_0", Box(0, 9, 0, 12), 8), naive(values[None], Box(0, 9, 0, 12), 8))
    with pytest.raises(CanvasError, match="its array 'source_image' does not open"):
        canvas.area("source_image", Box(0, 1, 0, 1), 8)
    with pytest.raises(CanvasError, match="must be at least 1 pixel"):
        canvas.area("control", Box(0, 1, 0, 1), 0)
