"""A pool of Ray actors. Messages are ObjectRefs that go from actor to actor; the driver never gets one."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from raytile import __version__
from raytile.engine.pool import Crew, Outcome, Ref, Setup
from raytile.engine.ray import session
from raytile.engine.ray.draining import Draining
from raytile.engine.ray.verdict import Place, judge
from raytile.errors import ClusterError, InvalidRequest, WorkerLost, first_line

log = logging.getLogger(__name__)
BUSY_DEADLINE = 60.0
"""Seconds to wait for others to give up places in a cluster that has enough of them."""
GROWING_DEADLINE = 300.0
"""... and for nodes to come to one that has not."""
PATIENCE = 10.0
"""After so many seconds without a place the user is told what is waited for."""
NO_DEADLINE = 3600.0
"""Seconds for a worker to leave a node that is taken away at no set time."""


class RayPool:
    """Actors for `crew` (by default one per GPU of the cluster, or per CPU) on the Ray at `address`.

    Uses the Ray this process is connected to, if any; else `address` or RAY_ADDRESS; else starts one here.
    `close` undoes what `connect` did. `options` override what an actor asks for: one GPU where the cluster has any,
    else one CPU (a cluster that grows from nothing has none yet: say it). `deadline`: seconds until the crew's least
    have to have a place. Actors without a place are the demand by which a cluster grows; it ends with them, whatever
    ends this process."""

    ahead = 4
    lent = False

    def __init__(
        self,
        crew: Crew | None = None,
        address: str | None = None,
        options: Mapping[str, Any] | None = None,
        deadline: float | None = None,
    ) -> None:
        self.least = self.most = 0
        self._crew = crew or Crew()
        self._address = address
        self._options = dict(options or {})
        self._deadline = deadline
        self._kind: Any = None
        self._actors: dict[int, Any] = {}
        self._numbers: dict[str, int] = {}
        self._tokens: dict[int, str] = {}
        self._placing: dict[int, Any] = {}
        self._places: dict[int, Place] = {}
        self._gone: dict[int, WorkerLost] = {}
        self._draining = Draining(time.monotonic)
        self._joined: str | None = None

    def connect(self, useful: int) -> None:
        kind = self._actor_kind()
        self._joined = self._joined or session.join(self._address, self._crew, self._options)
        import ray

        total = ray.cluster_resources()
        gpus, cpus = int(total.get("GPU", 0)), int(total.get("CPU", 0))
        if not {"num_cpus", "num_gpus"} & set(self._options):
            self._options["num_gpus" if gpus else "num_cpus"] = 1
            kind = self._actor_kind()
        self._kind = kind
        least, most = self._crew.least, self._crew.most
        if least is None or most is None:
            least = most = min(max(1, gpus or cpus), useful)
        elif least < most:
            least, most = min(least, useful), min(most, useful)
            if self._joined == "started":  # a Ray of our own never grows
                most = max(least, min(most, session.fits(total, self._options)))
        self.least, self.most = least, most
        self.hire(most - len(self.workers()))
        self._place()

    @property
    def cluster(self) -> Literal["none", "own", "shared"]:
        return "own" if self._joined == "started" else "shared"

    def _actor_kind(self) -> Any:
        import ray

        from raytile.engine.ray.actor import CONTROL, WorkerActor

        # A restarted actor would have lost its tiles: none restarts, no call is tried again behind our back.
        options = {"max_restarts": 0, "max_task_retries": 0, "num_cpus": 0, **self._options}
        try:
            return ray.remote(concurrency_groups={CONTROL: 1})(WorkerActor).options(**options)
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"worker resources: {error}") from None

    def _place(self) -> None:
        """Wait until the least have a place; `ClusterError` if they find none in time."""
        import ray

        begin = time.monotonic()
        room = session.fits(ray.cluster_resources(), self._options)
        deadline = self._deadline or (BUSY_DEADLINE if room >= self.least == self.most else GROWING_DEADLINE)
        for until in sorted({min(PATIENCE, deadline), deadline}):
            while (missing := self.least - len(set(self._settle(strict=True)) - self._gone.keys())) > 0:
                left = begin + until - time.monotonic()
                if left <= 0:
                    break
                ray.wait(list(self._placing.values()), num_returns=missing, timeout=left)
            if missing <= 0:
                return
            if until < deadline:
                log.warning("waiting for a place for %d workers, each of which asks for %s", missing, self._options)
        free = {name: n for name, n in ray.available_resources().items() if not name.startswith(("node:", "obj"))}
        raise ClusterError(
            f"{missing} of {self.least} workers found no place in {deadline:.0f} s: each asks for "
            f"{self._options}, free is {free}: ask for fewer --workers or other --worker-resources"
        )

    def _settle(self, strict: bool = False) -> Mapping[int, Place]:
        """Take note of who has found a place; with `strict`, `ClusterError` if one came up wrong."""
        import ray

        if self._placing:
            refs = list(self._placing.values())
            ready = set(ray.wait(refs, num_returns=len(refs), timeout=0)[0])
            for number, ref in list(self._placing.items()):
                if ref not in ready:
                    continue
                del self._placing[number]
                wrong = self._check(number, ref)
                if wrong and strict:
                    raise ClusterError(wrong)
                if wrong:
                    log.warning("%s", wrong)
                    self._end(number, WorkerLost(wrong))
        return self._places

    def _check(self, number: int, ref: Any) -> str | None:
        """Note the place of a worker that has come up, or return what is wrong with it."""
        import ray

        try:
            place = Place(**ray.get(ref))
        except (ray.exceptions.RayError, TypeError) as error:
            cause = getattr(error, "cause", None) or error
            return f"a worker did not come up ({first_line(cause)}): is raytile {__version__} installed on every node?"
        if place.version != __version__:
            return (
                f"raytile is {place.version} on {place.host} (node {place.node}) and {__version__} here: "
                "install one version on every node"
            )
        self._places[number] = place
        return None

    def workers(self) -> tuple[int, ...]:
        return tuple(number for number in self._actors if number not in self._gone)

    def placed(self) -> tuple[int, ...]:
        places = self._settle()
        return tuple(number for number in self.workers() if number in places)

    def hire(self, count: int) -> tuple[int, ...]:
        first = len(self._actors)
        for number in range(first, first + count):
            self._actors[number] = actor = self._kind.remote()
            self._placing[number] = ref = actor.placed.remote()
            self._numbers[ref.task_id().actor_id().hex()] = number
        return tuple(range(first, first + count))

    def load(self, worker: int, setup: Setup) -> Ref:
        self._tokens[worker] = setup.token
        ref: Ref = self._actors[worker].load.remote(worker, setup)
        return ref

    def call(self, worker: int, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        call = self._actors[worker].call.options(num_returns=returns)
        made = call.remote(self._tokens.get(worker, ""), method, *args)
        return tuple(made) if returns > 1 else (made,)

    def wait(self, refs: Sequence[Ref], timeout: float) -> list[Outcome]:
        import ray

        if not refs:
            return []
        first, _ = ray.wait(list(refs), num_returns=1, timeout=timeout)
        if not first:
            return []
        ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
        return [self._outcome(ref) for ref in ready]

    def _outcome(self, ref: Any) -> Outcome:
        import ray

        try:
            return Outcome(ref, ray.get(ref))
        except ray.exceptions.RayError as error:
            self._settle()
            verdict = judge(error, self._called(ref), self._numbers, self._places)
        if verdict.lost is None:
            return Outcome(ref, error=verdict.error)
        self._end(verdict.lost, WorkerLost(str(verdict.error)), kill=verdict.kill)
        return Outcome(ref, error=self._gone[verdict.lost], lost=verdict.lost)

    def _called(self, ref: Any) -> int:
        """The worker whose call a ref is of: its task's id names the actor."""
        return self._numbers[ref.task_id().actor_id().hex()]

    def cancel(self, refs: Collection[Ref]) -> None:
        # Not by `ray.cancel`: a call that still waits for a message leaves a gap in the order of its actor's calls,
        # and the calls behind the gap wait for it half a minute and fail (seen with Ray 2.60).
        import ray

        from raytile.engine.ray.actor import ring

        asked: list[Any] = list(refs)
        _, open_ = ray.wait(asked, num_returns=len(asked), timeout=0, fetch_local=False) if asked else ([], [])
        tasks: dict[int, list[str]] = {}
        for ref in open_:
            worker = self._called(ref)
            if worker not in self._gone:
                tasks.setdefault(worker, []).append(ref.task_id().hex())
        if tasks:
            ray.remote(num_cpus=0)(ring).remote([self._actors[worker] for worker in tasks], list(tasks.values()))

    def leaving(self) -> Mapping[int, float]:
        deadlines = self._draining.deadlines()
        if not deadlines:
            return {}
        nodes = {number: self._places[number].node for number in self.placed()}
        now = time.time()
        return {
            number: min(max(0.0, deadlines[node] - now), NO_DEADLINE)
            for number, node in nodes.items()
            if node in deadlines
        }

    def release(self, worker: int) -> None:
        self._end(worker, WorkerLost(f"worker {worker} was released"))

    def _end(self, worker: int, why: WorkerLost, kill: bool = True) -> None:
        """A worker is part of this pool no more; later calls on it come through as its loss, for the same reason."""
        if worker in self._gone:
            return
        import ray

        self._gone[worker] = why
        self._placing.pop(worker, None)
        if kill:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(self._actors[worker])

    def close(self) -> None:
        import ray

        if ray.is_initialized():
            for worker in self.workers():
                self.release(worker)
            if self._joined:
                ray.shutdown()
        for table in (self._actors, self._numbers, self._tokens, self._placing, self._places, self._gone):
            table.clear()
        self._joined = None
