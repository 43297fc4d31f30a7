"""What the service does, without HTTP and without Ray: takes wishes, keeps records, answers for them."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from raytile import api
from raytile.canvas.headstore import HeadStore
from raytile.canvas.place import bytes_at, is_remote, where
from raytile.errors import CanvasError, InvalidModel, InvalidRequest
from raytile.plan.cost import foretell
from raytile.plan.plan import Plan
from raytile.plan.request import RenderRequest
from raytile.plan.route import Partition
from raytile.reworks import repainted, upscaled
from raytile.scenes import Layer, settle
from raytile.serve import limits
from raytile.serve.errors import Conflict, NotFound, ServiceError, Unprocessable, served
from raytile.serve.feed import FeedReader, post_now
from raytile.serve.keys import Keys
from raytile.serve.ledger import Ledger
from raytile.serve.names import RENDER, new_id
from raytile.serve.records import Kind, Record, Records
from raytile.serve.schemas import PlanLevel, PlanView, Progress, RenderView, RepaintWish, Stats, UpscaleWish, Wish
from raytile.serve.settings import Settings
from raytile.serve.uploads import Uploads, at_hand

AnyWish = Wish | RepaintWish | UpscaleWish
PICTURES = ("source", "control")
SHAPES = ("regions", "repaint")


class Choir(Protocol):
    """Who renders what the desk has taken in."""

    def poke(self) -> None:
        """The queue changed: a new render, or one that shall end. Returns at once."""
        ...

    def stats(self) -> dict[str, Any]:
        """What there is to tell: `workers`, `warm`, `running` ... ; `ready`: whether it can paint at all."""
        ...


@dataclass(frozen=True)
class Settled:
    """A wish that can be painted: its request with paths that hold everywhere, its plan, and what it comes from."""

    request: RenderRequest
    plan: Plan
    model: str
    kind: Kind = "render"
    parent: str | None = None


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
        self.ledger = Ledger(records, clock)

    # -- taking in

    def submit(self, owner: str, wish: Wish, idempotency: str | None = None) -> Record:
        """Take a wish in. The same `idempotency` key gives the same render again."""
        return self._take(owner, wish, idempotency, "", lambda: self.settled(owner, wish))

    def repaint(self, owner: str, id: str, wish: RepaintWish, idempotency: str | None = None) -> Record:
        """Paint parts of a finished render anew, as a render of its own."""
        return self._take(owner, wish, idempotency, f"repaint {id}", lambda: self._repainted(owner, id, wish))

    def upscale(self, owner: str, id: str, wish: UpscaleWish, idempotency: str | None = None) -> Record:
        """Paint a finished render larger, as a render of its own."""
        return self._take(owner, wish, idempotency, f"upscale {id}", lambda: self._upscaled(owner, id, wish))

    def plan(self, owner: str, wish: Wish) -> PlanView:
        """What a wish would take; makes nothing."""
        made = self.settled(owner, wish)
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
        limits.admit(self.ledger, self.settings, owner, self.running())
        made = settle_it()
        now = self.clock()
        record = Record(
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
        record, fresh = self.records.add(record, said)
        if fresh:
            ahead = len(self.ledger.waiting())
            self.ledger.note(record)
            post_now(self.records.objects, record.id, self.clock, "queued", {"ahead": ahead}, first=True)
            self.crew.poke()
        return record

    # -- from a wish to a request

    def settled(self, owner: str, wish: Wish) -> Settled:
        """The request that a wish means, checked and planned."""
        names: dict[str, str] = {}
        values = self._given(owner, wish, names)
        name = values.pop("model", self.settings.default_model)
        values["model"] = self._model(name)
        if not {"size", "width", "height", "tileset"} & {*values}:
            values["size"] = self._size_of(owner, wish)
        return self._finish(lambda: settle(Layer("", values)), names, name)

    def _repainted(self, owner: str, id: str, wish: RepaintWish) -> Settled:
        parent, names = self._parent(owner, id), {self.records.canvas(id): f"render {id}"}
        values = self._given(owner, wish, names)
        said = Layer("", values)
        return self._finish(
            lambda: repainted(self.records.canvas(id), said, values["repaint"]),
            names,
            self._name(parent),
            "repaint",
            id,
        )

    def _upscaled(self, owner: str, id: str, wish: UpscaleWish) -> Settled:
        parent, names = self._parent(owner, id), {self.records.canvas(id): f"render {id}"}
        values = self._given(owner, wish, names)
        if not {"size", "width", "height"} & {*values}:
            raise Unprocessable("size: missing: say how large, as WIDTHxHEIGHT", "size")
        said = Layer("", values)
        return self._finish(lambda: upscaled(self.records.canvas(id), said), names, self._name(parent), "upscale", id)

    def _finish(
        self,
        make: Callable[[], RenderRequest],
        names: Mapping[str, str],
        model: str,
        kind: Kind = "render",
        parent: str | None = None,
    ) -> Settled:
        """Build, limit and plan; errors of ours speak of uploads and renders, never of `names`' places."""
        try:
            request = make()
            limits.check_request(request, self.settings)
            with tempfile.TemporaryDirectory(prefix="raytile-plan-") as scratch:
                plan = api.plan(at_hand(request, self.records.objects, Path(scratch)))
            limits.check_plan(plan, self.settings)
            return Settled(_as_called(plan.request, request), plan, model, kind, parent)
        except ServiceError:
            raise
        except (InvalidRequest, InvalidModel) as error:
            words = str(error)
            for place, name in (*names.items(), (self.records.objects.where, "the store")):
                words = words.replace(place, name)
            raise served(type(error)(words)) from error

    def _given(self, owner: str, wish: AnyWish, names: dict[str, str]) -> dict[str, Any]:
        """The wish's fields as a scene has them, with places for ids; `names` gets what the places stand for."""
        values = wish.of_picture()
        for field in PICTURES:
            if field in values:
                values[field] = self._picture(owner, values[field], names, field)
        for field in SHAPES:
            for number, shape in enumerate(values.get(field, ())):
                if "mask" in shape:
                    shape["mask"] = self._picture(owner, shape["mask"], names, f"{field}.{number}.mask")
        return values

    def _picture(self, owner: str, ref: Mapping[str, str], names: dict[str, str], field: str) -> dict[str, str]:
        try:
            if "upload" in ref:
                path, name = self.uploads.path(self.uploads.get(owner, ref["upload"]).id), f"upload {ref['upload']}"
            else:
                self._parent(owner, ref["render"])
                path, name = self.records.canvas(ref["render"]), f"render {ref['render']}"
        except NotFound as error:
            raise Unprocessable(f"{field}: {error.message}", field) from None
        except Conflict as error:
            raise Unprocessable(f"{field}: {error.message}", field) from None
        names[path] = name
        return {"path": path}

    def _size_of(self, owner: str, wish: Wish) -> str:
        """As large as the source."""
        if wish.source is None:
            raise Unprocessable("size: missing: give it as WIDTHxHEIGHT, or give width and height", "size")
        if wish.source.upload is not None:
            found = self.uploads.get(owner, wish.source.upload)
            return f"{found.width}x{found.height}"
        request = self.get(owner, str(wish.source.render)).request
        return f"{request.width}x{request.height}"

    def _model(self, name: str) -> str:
        if name not in self.settings.models:
            raise Unprocessable(f"model: there is no {name!r} here: {', '.join(self.settings.models)}", "model")
        return self.settings.models[name]

    def _name(self, record: Record) -> str:
        return str(record.shown.get("model", self.settings.default_model))

    def _parent(self, owner: str, id: str) -> Record:
        record = self.get(owner, id)
        if record.state != "finished":
            raise Conflict(f"render {id} is {record.state}: only a finished one can be painted on", "id")
        return record

    # -- looking

    def get(self, owner: str | None, id: str) -> Record:
        """A render; another owner's is not there."""
        record = self.records.get(id)
        if owner not in (None, record.owner):
            raise NotFound("there is no such render", "id")
        return record

    def view(self, record: Record, far: bool = False) -> RenderView:
        """A record as clients see it; with `far`, how far its canvas is."""
        progress = self._progress(record) if far and record.started is not None else None
        return RenderView.of(record, self._name(record), progress)

    def list(self, owner: str | None, after: str | None, limit: int) -> tuple[list[Record], bool]:
        """The newest renders of an owner, or those before render `after`; and whether there are more."""
        ids = self.records.owned(owner, after, limit + 1)
        found = []
        for id in ids[:limit]:
            try:
                found.append(self.records.get(id))
            except NotFound:  # removed meanwhile
                continue
        return found, len(ids) > limit

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


def expired(records: Records, retain_s: float) -> list[str]:
    """Remove the renders that ended so many seconds ago; returns their ids."""
    gone = []
    for id in records.owned(None):
        try:
            record = records.get(id)
            if record.terminal and record.ended is not None and records.clock() - record.ended >= retain_s:
                records.remove(id)
                gone.append(id)
        except NotFound:
            continue
    return gone


def _as_called(planned: RenderRequest, request: RenderRequest) -> RenderRequest:
    """The planned request with the places that hold everywhere in it, in place of copies at hand."""
    update: dict[str, Any] = {}
    for field in PICTURES:
        made, asked = getattr(planned, field), getattr(request, field)
        if made is not None:
            update[field] = made.model_copy(update={"path": asked.path})
    for field in SHAPES:
        pairs = zip(getattr(planned, field), getattr(request, field), strict=True)
        update[field] = tuple(
            made
            if made.mask is None
            else made.model_copy(update={"mask": made.mask.model_copy(update={"path": asked.mask.path})})
            for made, asked in pairs
        )
    return planned.model_copy(update=update)
