"""The tiles of the finished latents, on their way to pixels: who decodes which. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from raytile.plan.around import looked_at
from raytile.plan.plan import Plan


class TileQueue:
    """A tile can be decoded once its latents, and those around it that the decoder looks at, are *kept*: on the canvas.

    `checkable`: tiles whose pixels should be there already, so that it is enough to look."""

    AHEAD = 2
    """Tiles given to a worker at a time: one to decode, one to follow."""

    def __init__(self, plan: Plan, kept: bool, checkable: Collection[int]) -> None:
        self._plan, self._tiling = plan, plan.tiling
        everything = range(plan.tiling.count)
        self._kept = set(everything) if kept else set()
        self._checkable = frozenset(checkable)
        self._waiting = deque(everything)
        self._decoding: dict[int, int] = {}
        self.done: set[int] = set()

    @property
    def denoised(self) -> bool:
        """All latents are on the canvas."""
        return len(self._kept) == self._tiling.count

    @property
    def finished(self) -> bool:
        return len(self.done) == self._tiling.count

    @property
    def waiting(self) -> int:
        """Tiles that nobody decodes yet."""
        return len(self._waiting)

    def has(self, tiles: Iterable[int]) -> bool:
        """Whether the latents of all these are on the canvas."""
        return self._kept.issuperset(tiles)

    def keep(self, tiles: Iterable[int]) -> None:
        """The latents of these tiles are on the canvas."""
        self._kept.update(tiles)

    def busy(self) -> frozenset[int]:
        """Workers that have tiles to decode."""
        return frozenset(self._decoding.values())

    def room(self, worker: int) -> int:
        """How many more tiles this worker should be given, if there are any."""
        return self.AHEAD - sum(by == worker for by in self._decoding.values()) if self._waiting else 0

    def give(self, worker: int, own: Collection[int]) -> Iterator[tuple[int, bool]]:
        """Tiles for an idle worker to begin with, and whether each must be decoded in any case: of its `own` those
        that are ready, and once all are denoised any."""
        for _ in range(self.room(worker)):
            tile = self._next(own)
            if tile is None:
                return
            self._waiting.remove(tile)
            self._decoding[tile] = worker
            yield tile, tile not in self._checkable

    def _next(self, own: Collection[int]) -> int | None:
        for tile in self._waiting:
            if tile in own and self._ready(tile):
                return tile
        return self._waiting[0] if self._waiting and self.denoised else None

    def _ready(self, tile: int) -> bool:
        return self.has(looked_at(self._plan, tile))

    def take(self, worker: int, tile: int) -> bool:
        """A tile is done; False if it was not this worker's to do."""
        if self._decoding.get(tile) != worker:
            return False
        del self._decoding[tile]
        self.done.add(tile)
        return True

    def lose(self, worker: int) -> None:
        """What this worker had to decode waits again."""
        mine = [tile for tile, by in self._decoding.items() if by == worker]
        for tile in mine:
            del self._decoding[tile]
        self._waiting.extendleft(reversed(mine))

    def check(self) -> None:
        """The invariants; raises AssertionError."""
        everywhere = [*self._waiting, *self._decoding, *self.done]
        assert len(everywhere) == len(set(everywhere)) == self._tiling.count, "a tile has been lost or doubled"
        assert all(map(self._ready, [*self._decoding, *self.done])), "a tile decodes before its latents are kept"
