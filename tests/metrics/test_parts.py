"""Where the time of a worker goes: the parts are told apart, and add up to no more than there was."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import pytest

from raytile.api import render
from raytile.events import Counts, Event, PhaseDone, TileDone, WorkerReady
from raytile.plan.request import RenderRequest

MOMENT = 1e-6
"""Seconds by which sums of floats may be off."""


@pytest.mark.parametrize("sync", ["shift", "overlap"])
def test_parts_add_up_to_no_more_than_the_time_there_was(tmp_path: Path, sync: str) -> None:
    since: dict[int, float] = {}
    last: dict[int, Counts] = {}

    def listen(event: Event) -> None:
        if isinstance(event, WorkerReady):
            since[event.worker] = time.perf_counter()
        if isinstance(event, PhaseDone | TileDone):
            told, before = event.counts, last.get(event.worker, Counts())
            parts = told.predict_seconds + told.exchange_seconds + told.decode_seconds + told.write_seconds
            assert parts <= told.busy_seconds + MOMENT
            there = time.perf_counter() - since[event.worker]
            assert told.wait_seconds + told.busy_seconds <= there + MOMENT
            now, was = asdict(told), asdict(before)
            fallen = [
                name for name in was if now[name] < was[name] and name != "peak_rss_bytes"
            ]  # about, says the kernel
            assert not fallen
            last[event.worker] = told

    request = RenderRequest.parse(prompt="a meadow", width=640, height=256, steps=4, model="toy", sync=sync)
    render(request, tmp_path / "c.zarr", in_process=True, workers=2, device="cpu", listeners=[listen])
    assert set(last) == {0, 1}
    for told in last.values():
        assert min(told.predict_seconds, told.exchange_seconds, told.wait_seconds) > 0
        assert told.store_errors == told.peak_device_bytes == 0
    assert sum(told.decode_seconds for told in last.values()) > 0
    assert sum(told.write_seconds for told in last.values()) > 0
