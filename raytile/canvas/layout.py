"""What lies where in a canvas: names, shapes, chunks, each tile's box in cells and pixels. Integers only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from raytile.errors import CanvasError
from raytile.geometry.box import Box

SUFFIX = ".zarr"
IMAGE = "image"
LATENTS = "latents"
LEVEL = "level_{}"
PREVIEW = "preview"
PREVIEW_LEVEL = "preview_{}"
DIMENSIONS = ("c", "y", "x")
RGB = 3
FLOAT32_BYTES = 4
CHUNK_SLACK = 4096  # a file ends somewhere inside a block, and incompressible data grows by a few bytes


class ArraySpec(NamedTuple):
    """One zarr array of a canvas: (c, y, x), in chunks."""

    name: str
    shape: tuple[int, int, int]
    chunks: tuple[int, int, int]
    dtype: str

    @property
    def worst_bytes(self) -> int:
        """Bytes on disk when nothing compresses (the padding of edge chunks always does)."""
        channels, height, width = self.shape
        chunks = -(-height // self.chunks[1]) * -(-width // self.chunks[2])
        return channels * height * width * (FLOAT32_BYTES if self.dtype == "float32" else 1) + chunks * CHUNK_SLACK


@dataclass(frozen=True)
class CanvasLayout:
    """Three arrays cut into the same tiles: `image` (3, height, width), `latents` (channels, rows, columns) and
    `preview` (3, rows, columns), a pixel a cell; and `level_0`, ... for the final latents of the coarser levels, whose
    (rows, columns) are `levels`, coarsest first, with `preview_0`, ... beside them.

    `tile_cells` is the side of a tile in cells, `factor` pixels a cell. The cells may reach beyond the
    picture (one smaller than a window, or not divided by `factor`): pixels are cropped to the picture, so a
    tile there has a narrower pixel box, or an empty one. Tiles are numbered row by row. Raises `CanvasError`
    on sizes that do not fit each other."""

    width: int
    height: int
    channels: int
    rows: int
    columns: int
    tile_cells: int
    factor: int
    levels: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        sizes = {f"level {level}": min(size) for level, size in enumerate(self.levels)}
        for name, value in {**vars(self), **sizes}.items():
            if name != "levels" and value < 1:
                raise CanvasError(f"canvas layout: {name} must be at least 1 (got {value})")
        if self.rows * self.factor < self.height or self.columns * self.factor < self.width:
            raise CanvasError(
                f"canvas layout: {self.columns}x{self.rows} cells of {self.factor} pixels"
                f" do not cover {self.width}x{self.height} pixels"
            )

    @property
    def tile(self) -> int:
        """Side of a tile in pixels."""
        return self.tile_cells * self.factor

    @property
    def tile_rows(self) -> int:
        return -(-self.rows // self.tile_cells)

    @property
    def tile_columns(self) -> int:
        return -(-self.columns // self.tile_cells)

    @property
    def tiles(self) -> int:
        return self.tile_rows * self.tile_columns

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return RGB, self.height, self.width

    @property
    def image_chunks(self) -> tuple[int, int, int]:
        return RGB, self.tile, self.tile

    @property
    def latents_shape(self) -> tuple[int, int, int]:
        return self.channels, self.rows, self.columns

    @property
    def latents_chunks(self) -> tuple[int, int, int]:
        return self.channels, self.tile_cells, self.tile_cells

    @property
    def worst_bytes(self) -> int:
        """Bytes on disk when nothing compresses."""
        return sum(spec.worst_bytes for spec in self.arrays())

    def arrays(self) -> tuple[ArraySpec, ...]:
        """All arrays, `image` and `latents` first."""
        levels, chunks = list(enumerate(self.levels)), self.latents_chunks
        preview = RGB, *chunks[1:]
        return (
            ArraySpec(IMAGE, self.image_shape, self.image_chunks, "uint8"),
            ArraySpec(LATENTS, self.latents_shape, self.latents_chunks, "float32"),
            ArraySpec(PREVIEW, (RGB, self.rows, self.columns), preview, "uint8"),
            *(ArraySpec(LEVEL.format(level), (self.channels, *size), chunks, "float32") for level, size in levels),
            *(ArraySpec(PREVIEW_LEVEL.format(level), (RGB, *size), preview, "uint8") for level, size in levels),
        )

    def described(self) -> dict[str, Any]:
        """Plain values for the attributes of the zarr group."""
        found = asdict(self)
        if not self.levels:
            del found["levels"]
        return found

    def grid(self, tile: int) -> tuple[int, int]:
        """The (row, column) of a tile on the tile grid."""
        if not 0 <= tile < self.tiles:
            raise CanvasError(f"no tile {tile}: this canvas has {self.tiles}, numbered from 0")
        return divmod(tile, self.tile_columns)

    def cells(self, tile: int) -> Box:
        """The tile's box in latent cells; never empty."""
        row, column = self.grid(tile)
        return _box(row, column, self.tile_cells, self.rows, self.columns)

    def pixels(self, tile: int) -> Box:
        """The tile's box in pixels, cropped to the picture; empty where the tile lies outside it."""
        row, column = self.grid(tile)
        return _box(row, column, self.tile, self.height, self.width)

    def level_size(self, level: int) -> tuple[int, int]:
        """The (rows, columns) of a coarser level."""
        if not 0 <= level < len(self.levels):
            raise CanvasError(f"no level {level}: this canvas has {len(self.levels)} below the picture, from 0")
        return self.levels[level]

    def preview_name(self, level: int) -> str:
        """The preview array of a level; the last is the picture's own."""
        if level == len(self.levels):
            return PREVIEW
        self.level_size(level)
        return PREVIEW_LEVEL.format(level)

    def level_tiles(self, level: int) -> int:
        """How many tiles a coarser level has, numbered row by row like those of the picture."""
        rows, columns = self.level_size(level)
        return -(-rows // self.tile_cells) * -(-columns // self.tile_cells)

    def level_cells(self, level: int, tile: int) -> Box:
        """The box of a tile of a coarser level, in that level's cells; never empty."""
        rows, columns = self.level_size(level)
        if not 0 <= tile < self.level_tiles(level):
            raise CanvasError(f"no tile {tile}: level {level} has {self.level_tiles(level)}, numbered from 0")
        row, column = divmod(tile, -(-columns // self.tile_cells))
        return _box(row, column, self.tile_cells, rows, columns)


def _box(row: int, column: int, side: int, height: int, width: int) -> Box:
    """Square (row, column) of a grid of squares, cropped to height x width."""
    y, x = min(row * side, height), min(column * side, width)
    return Box(y, min(y + side, height), x, min(x + side, width))


def slices(box: Box) -> tuple[slice, slice, slice]:
    """All channels of a box, as an index into a (c, y, x) array."""
    return slice(None), slice(box.y0, box.y1), slice(box.x0, box.x1)


def chunk_key(array: str, row: int, column: int) -> str:
    """Where zarr v3 keeps the chunk of a tile, below the canvas directory."""
    return f"{array}/c/0/{row}/{column}"
