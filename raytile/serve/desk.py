"""What the service does, without HTTP and without Ray: takes wishes, keeps records, answers for them."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from raytile import api
from raytile.canvas.headstore import HeadStore
from raytile.canvas.place import bytes_at, is_remote, where
from raytile.errors import CanvasError, RaytileError, first_line
from raytile.plan.cost import foretell
from raytile.plan.route import Partition
from raytile.serve.errors import Conflict, NotFound
from raytile.serve.feed import FeedReader, post_now
from raytile.serve.keys import Keys
from raytile.serve.ledger import Ledger
from raytile.serve.limits import Admission
from raytile.serve.names import RENDER, made_at, new_id
from raytile.serve.records import Record, Records
from raytile.serve.schemas import PlanLevel, PlanView, Progress, RenderView, RepaintWish, Stats, UpscaleWish, Wish
from raytile.serve.settings import Settings
from raytile.serve.uploads import Uploads
from raytile.serve.wishes import AnyWish, Settled, Wishes, owned, pictures

LOG = logging.getLogger("raytile.serve")
ABANDONED = 600.0
"""Seconds after which a render that was begun to be added and is not there will not come."""
READERS = 8
"""Records that are read at once for a list: a bucket takes its time for each."""


class Choir(Protocol):
    """Who renders what the desk has taken in."""

    def poke(self) -> None:
        """The queue changed: a new render, or one that shall end. Returns at once."""
        ...

    def stats(self) -> dict[str, Any]:
        """What there is to tell: `workers`, `warm`, `running` ... ; `ready`: whether it can paint at all."""
        ...


class Desk:
    """Methods take the `owner` who asks (see `Who`; for those that look, None sees everybody's), and raise
    `ServiceError`s. `clock`: seconds since 1970."""

    def __init__(
        self,
        settings: Settings,
        records: Records,
        keys: Keys,
        crew: Choir,
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.settings, self.records, self.keys, self.crew = settings, records, keys, crew
        self.clock, self._rng = clock, rng
        self.uploads = Uploads(records.objects, clock, rng, settings.max_pixels)
        self.wishes = Wishes(settings, records, self.uploads)
        self.ledger = Ledger(records, clock)
        self._admission = Admission(self.ledger, settings)

    # -- taking in

    def submit(self, owner: str, wish: Wish, idempotency: str | None = None) -> Record:
        """Take a wish in. The same `idempotency` key gives the same render again."""
        return self._take(owner, wish, idempotency, "", lambda: self.wishes.render(owner, wish))

    def repaint(self, owner: str, id: str, wish: RepaintWish, idempotency: str | None = None) -> Record:
        """Paint parts of a finished render anew, as a render of its own."""
        return self._take(owner, wish, idempotency, f"repaint {id}", lambda: self.wishes.repaint(owner, id, wish))

    def upscale(self, owner: str, id: str, wish: UpscaleWish, idempotency: str | None = None) -> Record:
        """Paint a finished render larger, as a render of its own."""
        return self._take(owner, wish, idempotency, f"upscale {id}", lambda: self.wishes.upscale(owner, id, wish))

    def plan(self, owner: str, wish: Wish) -> PlanView:
        """What a wish would take; makes nothing."""
        made = self.wishes.render(owner, wish)
        plan, cost = made.plan, foretell(made.plan, Partition.even(1))
        pace, price = self.ledger.per_second(plan.request.model), self.settings.cost_per_1000_evaluations
        request, factor = plan.request, plan.spec.factor
        cells = plan.tiling.y.cells * plan.tiling.x.cells
        return PlanView(
            width=request.width,
            height=request.height,
            model=made.model,
            seed=request.seed,
            sampler=plan.sampler,
            steps=plan.steps,
            levels=[
                PlanLevel(
                    width=level.tiling.x.cells * factor,
                    height=level.tiling.y.cells * factor,
                    steps=level.steps - level.first_step,
                    windows=len(plan.windows(level.index, level.first_step)),
                )
                for level in plan.levels
            ],
            evaluations=cost.evaluations,
            rows=cost.evaluations_padded,
            windows=cost.windows,
            tiles=plan.tiling.count,
            tile=request.tile or 0,
            useful_workers=api.useful_workers(plan),
            bytes=3 * request.width * request.height + 4 * plan.spec.channels * cells,
            memory_bytes=cost.memory.total,
            seconds=None if pace is None else round(cost.evaluations / pace, 3),
            cost=None if price is None else round(cost.evaluations * price / 1000, 6),
        )

    def _take(
        self, owner: str, wish: AnyWish, idempotency: str | None, doing: str, settle_it: Callable[[], Settled]
    ) -> Record:
        shown = wish.model_dump(mode="json", exclude_unset=True)
        said = None
        if idempotency is not None:
            whole = json.dumps([doing, shown], sort_keys=True)
            said = idempotency, hashlib.sha256(whole.encode()).hexdigest()
            before = self.records.repeated(owner, *said)
            if before is not None:
                return before
        with self._admission.place(owner, idempotency, self.clock(), self.running()):
            ahead = len(self.ledger.waiting())
            record, fresh = self.records.add(
                self._written(owner, wish, shown, settle_it()),
                said,
                lambda record: post_now(
                    self.records.objects, record.id, self.clock, "queued", {"ahead": ahead}, first=True
                ),
            )
            if fresh:
                self.ledger.note(record)
        if fresh:
            self.crew.poke()
        return record

    def _written(self, owner: str, wish: AnyWish, shown: dict[str, Any], made: Settled) -> Record:
        """A wish as a record, not kept yet."""
        now = self.clock()
        return Record(
            id=new_id(RENDER, now, self._rng),
            owner=owner,
            created=now,
            updated=now,
            kind=made.kind,
            parent=made.parent,
            request=made.request,
            shown={**shown, "model": made.model},
            priority=wish.priority,
            evaluations=foretell(made.plan, Partition.even(1)).evaluations,
            tiles=made.plan.tiling.count,
            tile=made.plan.request.tile or 0,
            useful=api.useful_workers(made.plan),
            cancel_on_disconnect=wish.cancel_on_disconnect,
            metadata=wish.metadata,
        )

    # -- looking

    def get(self, owner: str | None, id: str) -> Record:
        """A render; another owner's is not there."""
        return owned(self.records, owner, id)

    def view(self, record: Record, far: bool = False) -> RenderView:
        """A record as clients see it; with `far`, how far its canvas is."""
        progress = self._progress(record) if far and record.started is not None else None
        return RenderView.of(record, self.wishes.model_of(record), progress)

    def list(self, owner: str | None, after: str | None, limit: int) -> tuple[list[Record], bool]:
        """The newest renders of an owner, or those before render `after`; and whether there are more."""
        ids = self.records.owned(owner, after, limit + 1)
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(self._there, ids[:limit])
            return [record for record in found if record is not None], len(ids) > limit

    def _there(self, id: str) -> Record | None:
        try:
            return self.records.get(id)
        except RaytileError:  # removed meanwhile, or written by a service of another version
            return None

    def feed(self, id: str, after: int) -> FeedReader:
        return FeedReader(self.records.objects, id, after)

    def running(self) -> int:
        return max(1, int(self.crew.stats().get("running", 1)))

    def stats(self) -> Stats:
        waiting, crew = self.ledger.waiting(), self.crew.stats()
        running = int(crew.get("running", 0))
        return Stats(
            queued=max(0, len(waiting) - running),
            running=running,
            evaluations_waiting=sum(each.evaluations for each in waiting.values()),
            evaluations_per_second=self.ledger.per_second(),
            crew=crew,
        )

    def _progress(self, record: Record) -> Progress | None:
        try:
            found = HeadStore(bytes_at(self.records.canvas(record.id))).find()
        except CanvasError:
            return None
        if found is None:  # not made yet
            return None
        head = found[0]
        return Progress(level=head.level, levels=head.levels, step=head.step, steps=head.steps, tiles_done=head.done)

    # -- ending

    def cancel(self, owner: str | None, id: str) -> Record:
        """Let a render end early: at once if it is queued, else within a step. Raises `Conflict` if it has ended."""
        self.get(owner, id)

        def change(now: Record) -> Record | None:
            if now.terminal:
                raise Conflict(f"render {id} is {now.state} already", "id")
            if now.state == "queued":
                return now.but(state="cancelled", cancel_asked=True, ended=self.clock())
            return None if now.cancel_asked else now.but(cancel_asked=True)

        changed = self.records.change(id, change)
        if changed is not None and changed.terminal:
            post_now(self.records.objects, id, self.clock, "cancelled", {})
        self.crew.poke()
        return changed or self.records.get(id)

    def remove(self, owner: str | None, id: str) -> None:
        """Forget a render that has ended, with its picture. Raises `Conflict` if it has not."""
        record = self.get(owner, id)
        if not record.terminal:
            raise Conflict(f"render {id} is {record.state}: cancel it first", "id")
        self.records.remove(id)


def open_records(settings: Settings, clock: Callable[[], float]) -> Records:
    """The records of the store that the settings name; a local one is made if it is not there."""
    place = where(settings.store)
    if not is_remote(place):
        Path(place).mkdir(parents=True, exist_ok=True, mode=0o700)
    return Records(bytes_at(place), clock)


def expired(records: Records, retain_s: float | None) -> list[str]:
    """Take out of the queue what was begun and never kept; with `retain_s`, remove the renders that ended so many
    seconds ago, and uploads that are as old and that nobody waits for. Returns the renders' ids; tells trouble to the
    log alone."""
    now, gone = records.clock(), list[str]()
    try:
        records.forget_marks(now - ABANDONED)
        if retain_s is None:
            return gone
        needed = _needed(records)
        Uploads(records.objects, records.clock, random.Random(), 0).expire(now - retain_s, needed)
        for owner, id in records.marked():
            if made_at(id) <= now - retain_s and id not in needed and _over(records, owner, id, now - retain_s):
                gone.append(id)
    except RaytileError as error:
        LOG.warning("not all that is old was removed: %s", first_line(error))
    return gone


def _over(records: Records, owner: str, id: str, before: float) -> bool:
    """Whether a render had ended before that second, and is removed now."""
    try:
        record = records.get(id)
        if record.terminal and record.ended is not None and record.ended <= before:
            records.remove(id)
            return True
    except NotFound:  # whoever removed it died before it was off the list
        if made_at(id) < records.clock() - ABANDONED:
            records.unlist(owner, id)
    except RaytileError as error:
        LOG.warning("render %s is not looked at: %s", id, first_line(error))
    return False


def _needed(records: Records) -> set[str]:
    """The uploads and renders that those in the queue are made of."""
    found: set[str] = set()
    for id in records.queued_ids():
        with suppress(RaytileError):
            record = records.get(id)
            found |= {part for path in pictures(record.request) for part in path.split("/")} | {record.parent or ""}
    return found
