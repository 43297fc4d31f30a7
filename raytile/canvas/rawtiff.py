"""A picture as an endless tape: the bytes of an uncompressed TIFF that exists nowhere, made a band at a time.

libvips reads TIFF from a callback (of formats without compression it is the one its PyPI build can read so), strip
after strip; serving it a made-up file keeps one band of the picture in memory and nothing on disk.
Format: TIFF 6.0 (Adobe, 1992), BigTIFF layout (AWare Systems)."""

from __future__ import annotations

import struct
from collections.abc import Callable

STRIP_BYTES = 2**20
SHORT, LONG, LONG8 = 3, 4, 16


class RawTiff:
    """`read` and `seek` over a BigTIFF of `width` x `height` 8-bit RGB pixels.

    `band(i)` gives rows [i * rows_per_band, ...) as bytes, pixels interleaved; it is asked for each band once when
    the file is read from front to end."""

    def __init__(self, width: int, height: int, rows_per_band: int, band: Callable[[int], memoryview]) -> None:
        self._row = 3 * width
        self._band_bytes = rows_per_band * self._row
        self._band = band
        self._current = -1, memoryview(b"")
        self._header = _header(width, height)
        self._size = len(self._header) + height * self._row
        self._at = 0

    def read(self, length: int) -> bytes:
        """Up to `length` bytes from here on; empty at the end."""
        if self._at < len(self._header):
            found = self._header[self._at : self._at + length]
        elif self._at >= self._size:
            return b""
        else:
            number, start = divmod(self._at - len(self._header), self._band_bytes)
            if self._current[0] != number:
                self._current = -1, memoryview(b"")  # let go of the old band before the new one is made
                self._current = number, self._band(number)
            found = bytes(self._current[1][start : start + length])
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int) -> int:
        """Move as `io.IOBase.seek` does; returns the new position."""
        self._at = (0, self._at, self._size)[whence] + offset
        return self._at


def _header(width: int, height: int) -> bytes:
    """Everything before the pixels: the BigTIFF header, one directory, and where the strips lie."""
    row = 3 * width
    rows = max(1, min(height, STRIP_BYTES // row))
    strips = -(-height // rows)
    entries = 10
    tables = 16 + 8 + 20 * entries + 8
    pixels = tables + (16 * strips if strips > 1 else 0)
    offsets = [pixels + strip * rows * row for strip in range(strips)]
    lengths = [min(rows, height - strip * rows) * row for strip in range(strips)]
    one = strips == 1  # a single value stands in the directory itself
    fields = [
        (256, LONG, 1, width),
        (257, LONG, 1, height),
        (258, SHORT, 3, 8 | 8 << 16 | 8 << 32),  # bits of each sample: three shorts in one field
        (259, SHORT, 1, 1),  # no compression
        (262, SHORT, 1, 2),  # RGB
        (273, LONG8, strips, offsets[0] if one else tables),
        (277, SHORT, 1, 3),  # samples per pixel
        (278, LONG, 1, rows),
        (279, LONG8, strips, lengths[0] if one else tables + 8 * strips),
        (284, SHORT, 1, 1),  # samples interleaved
    ]
    parts = [struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(fields))]
    parts += [struct.pack("<HHQQ", *field) for field in fields]
    parts += [struct.pack("<Q", 0)]
    if not one:
        parts += [struct.pack(f"<{2 * strips}Q", *offsets, *lengths)]
    return b"".join(parts)
