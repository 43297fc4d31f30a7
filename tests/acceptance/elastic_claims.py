"""Of two runs that claim a canvas at the same moment one wins and the other is told: on disk, in memory, on S3."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from raytile.canvas import store
from raytile.canvas.bytes import MemoryBytes
from raytile.canvas.canvas import Canvas
from raytile.canvas.claims import claim, claim_head
from raytile.canvas.head import Head, ModelName, Owner
from raytile.canvas.headstore import HEAD, HeadStore
from raytile.canvas.keeper import Keeper
from raytile.canvas.layout import CanvasLayout
from raytile.canvas.place import bytes_at
from raytile.errors import CanvasError
from raytile.plan.request import RenderRequest
from tests.acceptance.common import report, say
from tests.s3 import serving

ROUNDS = 50
LEASE = 1.0
LAYOUT = CanvasLayout(width=64, height=64, channels=4, rows=8, columns=8, tile_cells=4, factor=8)


def dead(turn: int) -> Head:
    """A head whose owner is gone: every other one had no time to say so."""
    return Head(
        request=RenderRequest(prompt="an island", width=LAYOUT.width, height=LAYOUT.height, seed=7),
        plan_hash="p" * 64,
        model=ModelName(name="toy", digest="d" * 64),
        state="running" if turn % 2 else "failed",
        owner=Owner(host="gone", pid=1, token=f"dead-{turn}"),
        created=0.0,
        updated=0.0,
        tiles_total=LAYOUT.tiles,
        lease=LEASE,
    )


def claimant(place: str, number: int, together: Any, said: Any) -> None:
    """Claim at the start of each round; a winner keeps its canvas alive and commits until the round ends."""
    for turn in range(ROUNDS):
        me = Owner(host=f"host-{number}", pid=os.getpid(), token=f"{turn}-{number}")
        together.wait()
        start = time.monotonic()
        try:
            canvas: Canvas | None = claim(place, me, clock=time.monotonic, sleep=time.sleep)
            keeper = Keeper(canvas, clock=time.time) if canvas else None
            said.put((turn, number, None, time.monotonic() - start))
        except CanvasError as error:
            keeper = None
            said.put((turn, number, str(error), time.monotonic() - start))
        together.wait()  # the main process has heard both
        if keeper is not None:
            keeper.post(lambda head, turn=turn: head.but(step=turn + 1))
            keeper.flush(30)
            keeper.close()
        together.wait()  # committed: the main process looks, and kills the owner for the next round


def compete(place: str) -> dict[str, Any]:
    """All rounds between two processes on the canvas at `place`."""
    context = multiprocessing.get_context("spawn")
    together, said = context.Barrier(3), context.Queue()
    store.create(place, LAYOUT, dead(0))
    objects = bytes_at(place)
    racers = [context.Process(target=claimant, args=(place, number, together, said)) for number in range(2)]
    for racer in racers:
        racer.start()
    one_winner = told = 0
    wins, seconds = [0, 0], []
    for turn in range(ROUNDS):
        objects.write(HEAD, dead(turn).to_bytes())
        together.wait()
        outcomes = sorted(said.get(timeout=60) for _ in range(2))
        together.wait()
        together.wait()
        winners = [number for _, number, error, _ in outcomes if error is None]
        head, _ = HeadStore(objects).read()
        if len(winners) == 1:
            winner = winners[0]
            wins[winner] += 1
            one_winner += (head.owner.token, head.claims, head.step) == (f"{turn}-{winner}", 1, turn + 1)
            loser = outcomes[1 - winner]
            told += f"by process {racers[winner].pid} on host-{winner}" in str(loser[2])
        seconds += [round(each[3], 3) for each in outcomes]
    for racer in racers:
        racer.join()
    return {"one_winner": one_winner, "loser_was_told": told, "wins": wins, "slowest_seconds": max(seconds)}


def compete_in_memory() -> dict[str, Any]:
    """The same between two threads; a winner's head changes until the other has been told."""
    one_winner = told = 0
    wins = [0, 0]
    for turn in range(ROUNDS):
        heads = HeadStore(MemoryBytes())
        heads.create(dead(turn))
        found = race(heads, turn)
        winners = [number for number, error in found.items() if error is None]
        if len(winners) == 1:
            wins[winners[0]] += 1
            one_winner += heads.read()[0].owner.token == f"{turn}-{winners[0]}"
            told += f"on host-{winners[0]}" in str(found[1 - winners[0]])
    return {"one_winner": one_winner, "loser_was_told": told, "wins": wins}


def race(heads: HeadStore, turn: int) -> dict[int, str | None]:
    """One round: what each claimant was told, None if it won."""
    found: dict[int, str | None] = {}
    together = threading.Barrier(2)

    def attempt(number: int) -> None:
        me = Owner(host=f"host-{number}", pid=number, token=f"{turn}-{number}")
        together.wait()
        try:
            head, tag = claim_head(heads, me, clock=time.monotonic, sleep=time.sleep)
        except CanvasError as refused:
            found[number] = str(refused)
            return
        found[number] = None
        while len(found) < 2:
            head = head.but(beat=head.beat + 1)
            tag = heads.swap(tag, head)
            time.sleep(LEASE / 5)

    racers = [threading.Thread(target=attempt, args=(number,)) for number in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    return found


def main() -> None:
    figures: dict[str, Any] = {"rounds": ROUNDS, "lease_seconds": LEASE}
    with tempfile.TemporaryDirectory() as folder:
        figures["disk"] = compete(str(Path(folder, "a.zarr")))
    say(figures)
    figures["memory"] = compete_in_memory()
    say(figures["memory"])
    with serving():
        figures["s3"] = compete("s3://pictures/claims/a.zarr")
    say(figures["s3"])
    checks = {
        f"{what} in all {ROUNDS} rounds, {kind}": figures[kind][name] == ROUNDS
        for kind in ("disk", "memory", "s3")
        for name, what in (("one_winner", "one winner"), ("loser_was_told", "the other was told by whom"))
    }
    report("50 rounds of two claimants: one winner each", checks, figures)


if __name__ == "__main__":
    main()
