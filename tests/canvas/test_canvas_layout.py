"""Every cell and every pixel belongs to one tile, and a tile is one chunk of each array."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytile.canvas.layout import CanvasLayout, chunk_key
from raytile.errors import CanvasError


@st.composite
def layouts(draw: st.DrawFn) -> CanvasLayout:
    factor = draw(st.integers(1, 8))
    rows, columns = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    return CanvasLayout(
        width=draw(st.integers(1, columns * factor)),
        height=draw(st.integers(1, rows * factor)),
        channels=draw(st.integers(1, 4)),
        rows=rows,
        columns=columns,
        tile_cells=draw(st.integers(1, 24)),
        factor=factor,
    )


@given(layouts())
def test_tiles_cover_cells_and_pixels_exactly_once(layout: CanvasLayout) -> None:
    cells = np.zeros(layout.latents_shape[1:], int)
    pixels = np.zeros(layout.image_shape[1:], int)
    for tile in range(layout.tiles):
        for count, box in ((cells, layout.cells(tile)), (pixels, layout.pixels(tile))):
            assert (box.y0, box.x0) >= (0, 0)
            assert box.y1 <= count.shape[0]
            assert box.x1 <= count.shape[1]
            count[box.y0 : box.y1, box.x0 : box.x1] += 1
    assert (cells == 1).all()
    assert (pixels == 1).all()


@given(layouts())
def test_a_tile_is_one_chunk_of_each_array(layout: CanvasLayout) -> None:
    for tile in range(layout.tiles):
        row, column = layout.grid(tile)
        assert tile == row * layout.tile_columns + column
        for box, (_, side, _) in (
            (layout.cells(tile), layout.latents_chunks),
            (layout.pixels(tile), layout.image_chunks),
        ):
            if box.area:
                assert (box.y0 // side, (box.y1 - 1) // side) == (row, row)
                assert (box.x0 // side, (box.x1 - 1) // side) == (column, column)
    assert layout.cells(layout.tiles - 1).area


@given(layouts())
def test_pixels_are_the_cells_scaled_and_cropped(layout: CanvasLayout) -> None:
    for tile in range(layout.tiles):
        cell, pixel = layout.cells(tile), layout.pixels(tile)
        for low, high, end, first, last in (
            (cell.y0, cell.y1, layout.height, pixel.y0, pixel.y1),
            (cell.x0, cell.x1, layout.width, pixel.x0, pixel.x1),
        ):
            assert first == min(low * layout.factor, end)
            assert last == min(high * layout.factor, end)


@given(layouts())
def test_tiles_of_a_level_cover_its_cells_exactly_once(layout: CanvasLayout) -> None:
    layout = replace(layout, levels=((3, 5), (layout.rows, layout.columns)))
    for level, size in enumerate(layout.levels):
        count = np.zeros(size, int)
        for tile in range(layout.level_tiles(level)):
            box = layout.level_cells(level, tile)
            count[box.y0 : box.y1, box.x0 : box.x1] += 1
        assert (count == 1).all()
    assert [layout.level_cells(1, tile) for tile in range(layout.tiles)] == [*map(layout.cells, range(layout.tiles))]


def test_chunk_keys_are_those_of_zarr() -> None:
    assert chunk_key("image", 2, 11) == "image/c/0/2/11"


@pytest.mark.parametrize("change", [{"rows": 0}, {"tile_cells": -1}, {"width": 97}, {"height": 81}])
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int]) -> None:
    values = {"width": 96, "height": 80, "channels": 4, "rows": 10, "columns": 12, "tile_cells": 4, "factor": 8}
    CanvasLayout(**values)
    with pytest.raises(CanvasError, match="canvas layout"):
        CanvasLayout(**{**values, **change})
