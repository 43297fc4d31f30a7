"""Where the time of a worker goes, by part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, TypeVar, cast

Part = Literal["predict", "exchange", "decode", "write"]
F = TypeVar("F", bound=Callable[..., Any])


class Parts:
    """Seconds so far, by part. No part runs inside another, so they add up to no more than the time of all calls.

    On a GPU too the clock tells the truth without waiting for the device: what a network answers is copied to the
    processor before its call returns, since messages leave from there."""

    def __init__(self) -> None:
        self.seconds: dict[Part, float] = {"predict": 0.0, "exchange": 0.0, "decode": 0.0, "write": 0.0}

    @contextmanager
    def timed(self, part: Part) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start


def exchanges(method: F) -> F:
    """A method, of one that has `parts`, whose time goes to exchange: messages are packed, unpacked and fused there."""

    @wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.parts.timed("exchange"):
            return method(self, *args, **kwargs)

    return cast(F, run)
