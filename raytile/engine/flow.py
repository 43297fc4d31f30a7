"""The dataflow of a phase: which calls on which workers, and whose messages go into which. No torch here."""

from __future__ import annotations

from raytile.engine.pool import Pool, Ref
from raytile.plan.phases import Phase, phases, reads_before, route
from raytile.plan.plan import Plan
from raytile.plan.route import Pair, Partition, Reads


class Flow:
    """Submits whole phases on all workers of a pool. Refs of messages are held until their readers are submitted."""

    def __init__(self, plan: Plan, partition: Partition, pool: Pool) -> None:
        self._plan, self._partition, self._pool = plan, partition, pool
        self._course = phases(plan)
        self._outbox: dict[Pair, Ref] = {}

    def submit(self, number: int) -> list[Ref]:
        """Submit phase `number`; each ref becomes a worker's `PhaseDone` (in a list of one)."""
        phase = self._course[number]
        reads = reads_before(self._plan, self._partition, phase)
        if phase.kind == "step":
            return self._step(number, phase)
        if phase.kind == "begin":
            return self._publish("begin", number, (number, phase.level), self._inboxes(reads))
        everyone = range(self._partition.workers)
        inboxes = self._inboxes(reads)
        return [self._pool.call(worker, "halos", number, *inboxes[worker])[0] for worker in everyone]

    def _step(self, number: int, phase: Phase) -> list[Ref]:
        level, step, everyone = phase.level, phase.step, range(self._partition.workers)
        this = route(self._plan, self._partition, level, step)
        bands = self._inboxes(this.reads)
        for worker in everyone:
            # Worth a call of its own only where there are bands to wait for meanwhile.
            if bands[worker] and len(this.interior[worker]) * self._plan.rows(step) >= self._plan.micro_batch:
                self._pool.call(worker, "interior", level, step)
        given: dict[Pair, Ref] = {}
        for worker in everyone:
            owners = this.owners_of(worker)
            _, *sent = self._pool.call(worker, "boundary", level, step, *bands[worker], returns=1 + len(owners))
            given.update({(worker, owner): ref for owner, ref in zip(owners, sent, strict=True)})
        predictions = [[given[p, worker] for p in this.predictors_for(worker)] for worker in everyone]
        return self._publish("finish", number, (number, level, step), predictions)

    def _inboxes(self, reads: Reads) -> list[list[Ref]]:
        """Per worker, the messages it is to read, by sender."""
        everyone = range(self._partition.workers)
        return [[self._outbox[pair] for pair in sorted(reads) if pair[1] == worker] for worker in everyone]

    def _publish(self, method: str, number: int, args: tuple[int, ...], inboxes: list[list[Ref]]) -> list[Ref]:
        """Call the last method of a phase on every worker; what it sends waits for the next phase."""
        coming = reads_before(self._plan, self._partition, self._course[number + 1])
        outbox: dict[Pair, Ref] = {}
        reports: list[Ref] = []
        for worker, messages in enumerate(inboxes):
            readers = [pair for pair in sorted(coming) if pair[0] == worker]
            report, *sent = self._pool.call(worker, method, *args, *messages, returns=1 + len(readers))
            outbox.update(zip(readers, sent, strict=True))
            reports.append(report)
        self._outbox = outbox
        return reports
