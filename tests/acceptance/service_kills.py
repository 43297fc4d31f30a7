"""During ten running renders everything that a service is made of is killed in turn, then all of it; then a second
service on the same store goes on while the first is ended. Nothing is lost, each render is completed once."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tests.acceptance.clusters import scratch, wait_for
from tests.acceptance.common import report, say
from tests.acceptance.services import PARTS, Service, digest_alone, serving

RENDERS = int(os.environ.get("RAYTILE_KILLS_RENDERS", "10"))
STEPS = int(os.environ.get("RAYTILE_KILLS_STEPS", "100"))
SIDE = int(os.environ.get("RAYTILE_KILLS_SIDE", "1280"))
WORKERS = 10
LIMIT = 1500.0
WISHES = [
    {"prompt": f"islands {n}", "size": f"{SIDE}x{SIDE}", "steps": STEPS, "seed": n, "model": "toy"} for n in range(2)
]


def running(service: Service) -> bool:
    return service.states()["running"] >= min(RENDERS, 10)


def all_over(service: Service) -> bool:
    states = service.states()
    ended = sum(states.values()) == states["finished"] + states["failed"] + states["cancelled"]
    return ended and all(map(service.endings, service.records.owned(None)))


def sure(service: Service, ids: list[str], digests: list[str]) -> dict[str, bool]:
    """The checks of a store in which everything has ended."""
    records = [service.records.get(id) for id in ids]
    return {
        "all are finished": all(record.state == "finished" for record in records),
        "digests are right": all(
            record.digest == digests[number % len(digests)] for number, record in enumerate(records)
        ),
        "one completion each": all(service.endings(id) == ["finished"] for id in ids),
        "event ids are consecutive": all(
            [event["id"] for event in events] == list(range(1, len(events) + 1)) for events in map(service.events, ids)
        ),
        "the queue is empty": service.records.queued_ids() == [],
    }


def main() -> None:
    figures: dict[str, Any] = {"renders": RENDERS, "workers": WORKERS, "load": os.getloadavg()[0]}
    checks: dict[str, bool] = {}
    with scratch(quick=False) as place:
        digests = [digest_alone(_plain(wish), place / f"{n}.zarr") for n, wish in enumerate(WISHES)]
        store = place / "store"
        with serving(place / "a", store, WORKERS, 0.2) as service:
            ids = [service.paint(**WISHES[number % len(WISHES)]) for number in range(RENDERS)]
            wait_for(lambda: running(service), 300, service.stats)
            back: dict[str, float] = {}
            for part in PARTS:
                before = service.states()
                if before["running"] == 0:
                    break
                service.kill(part)
                back[part] = round(wait_for(service.ready, 120, service.log.read_text), 1)
                say(f"killed a {part} during", dict(before), f"; ready again after {back[part]} s")
                time.sleep(2)
            figures["seconds_until_ready"] = back
            checks["all parts were killed while renders ran"] = len(back) == len(PARTS)
            figures["states_when_all_was_killed"] = dict(service.states())
            checks["everything was killed while renders ran"] = service.states()["running"] > 0
            service.kill_all()
        with serving(place / "b", store, WORKERS, 0.2) as service:
            took = wait_for(
                lambda: all_over(service), LIMIT, lambda: (service.stats(), service.log.read_text()[-3000:])
            )
            figures["seconds_after_restart"] = round(took, 1)
            figures["claims"] = [service.records.get(id).claims for id in ids]
            checks |= {f"kills: {name}": holds for name, holds in sure(service, ids, digests).items()}
        say(checks, figures)
        two(place, digests, checks, figures)
    report("a service killed in parts and whole; a second one on its store", checks, figures)


def two(place: Path, digests: list[str], checks: dict[str, bool], figures: dict[str, Any]) -> None:
    """A rolling upgrade: the second service starts, then the first is ended."""
    store = place / "shared"
    with serving(place / "c", store, 1) as first:
        ids = [first.paint(**WISHES[number % len(WISHES)]) for number in range(6)]
        wait_for(lambda: first.states()["running"] >= 1, 120, first.stats)
        with serving(place / "d", store, 1) as second:
            wait_for(lambda: len(_services(second, ids)) == 2 or all_over(second), 120, second.stats)
            figures["both_worked"] = len(_services(second, ids))
            left = second.states()
            first.stop()
            figures["states_when_the_first_ended"] = dict(left)
            checks["upgrade: renders were left when the first ended"] = left["running"] > 0
            wait_for(lambda: all_over(second), LIMIT, second.stats)
            checks |= {f"upgrade: {name}": holds for name, holds in sure(second, ids, digests).items()}


def _services(service: Service, ids: list[str]) -> set[str]:
    return {held for id in ids if (held := service.records.get(id).service) is not None}


def _plain(wish: dict[str, Any]) -> dict[str, Any]:
    """The same wish for `RenderRequest`."""
    width, _, height = str(wish["size"]).partition("x")
    return {**{k: v for k, v in wish.items() if k != "size"}, "width": int(width), "height": int(height)}


if __name__ == "__main__":
    main()
