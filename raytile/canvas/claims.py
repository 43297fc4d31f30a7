"""Who may go on with a canvas: a run takes it over by a compare-and-swap of its head, once no live run holds it.

A live owner changes the head at least every lease. Whoever wants the canvas watches that for a lease by a clock of
its own, so clocks on different machines need not agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from raytile.canvas import store
from raytile.canvas.canvas import Canvas
from raytile.canvas.head import Head, HeadConflict, Owner
from raytile.canvas.headstore import HeadStore
from raytile.canvas.place import bytes_at
from raytile.errors import CanvasError

Clock = Callable[[], float]
Sleep = Callable[[float], object]
OnWait = Callable[[Head, float], None]
LOOKS = 15  # how often the head is looked at within a lease


def claim(
    path: Path | str,
    owner: Owner,
    *,
    clock: Clock,
    sleep: Sleep,
    on_wait: OnWait | None = None,
    lease: float | None = None,
) -> Canvas:
    """Take over an unfinished canvas for `owner`; a finished one comes back as it is, unclaimed.

    A canvas that failed or was cancelled is taken at once. One that says it is running is taken when its head has
    stood still for its lease, in seconds of `clock` (any steady one; `sleep` must advance it); `on_wait` hears the
    head and the seconds still to wait. `lease` is the new owner's, if not the old one's. Raises `CanvasError`, naming
    the owner, when the owner lives or someone else takes it first."""
    canvas = store.open(path)
    held = claim_head(HeadStore(bytes_at(canvas.path)), owner, clock=clock, sleep=sleep, on_wait=on_wait, lease=lease)
    return Canvas(canvas.path, canvas.layout, held)


def claim_head(
    heads: HeadStore,
    owner: Owner,
    *,
    clock: Clock,
    sleep: Sleep,
    on_wait: OnWait | None = None,
    lease: float | None = None,
) -> tuple[Head, str]:
    """The claim itself, on a head wherever it is kept; returns the head as it then stands, and its tag."""
    head, tag = heads.read()
    while head.state != "finished":
        if head.state == "running":
            after, tag = _watch(heads, head, tag, clock, sleep, on_wait)
            asked_only = after.but(cancel_asked=head.cancel_asked) == head  # not a sign of life
            if after.state == "running" and not asked_only:
                raise _held(heads, after)
            head, changed = after, after != head
            if changed:
                continue
        mine = head.but(
            owner=owner,
            claims=head.claims + 1,
            state="running",
            error=None,
            cancel_asked=False,
            lease=lease or head.lease,
        )
        try:
            return mine, heads.swap(tag, mine)
        except HeadConflict:
            head, tag = heads.read()
            if head.state == "running":  # another claimant was faster, or the owner woke up
                raise _held(heads, head) from None
    return head, tag


def ask_cancel(path: Path | str, *, clock: Clock, sleep: Sleep) -> Head:
    """Ask whoever renders this canvas to stop; returns its head when that is done, or the owner is known to live.

    An owner that does not answer for a lease is dead: the canvas is then cancelled here. A live one sees the wish by
    its next heartbeat; it is waited for, but no longer than a lease, so the head may still say running.
    A canvas that is finished already is a `CanvasError`."""
    heads = HeadStore(bytes_at(store.where(path)))
    head, tag = heads.read()
    if head.state == "finished":
        raise CanvasError(f"{heads.where} is finished: there is nothing to cancel")
    deadline = clock() + head.lease
    while head.state == "running":
        try:
            if not head.cancel_asked:
                head = head.but(cancel_asked=True)
                tag = heads.swap(tag, head)
            after, tag = _watch(heads, head, tag, clock, sleep, None)
            if after == head:
                head = head.but(state="cancelled")
                heads.swap(tag, head)
                break
            if clock() >= deadline and after.state == "running" and after.cancel_asked:
                return after
            head = after
        except HeadConflict:
            head, tag = heads.read()
    return head


def _watch(
    heads: HeadStore, head: Head, tag: str, clock: Clock, sleep: Sleep, on_wait: OnWait | None
) -> tuple[Head, str]:
    """Look at the head for its lease; returns it as soon as it has changed, or as it is if it has not."""
    end = clock() + head.lease
    while (left := end - clock()) > 0:
        if on_wait is not None:
            on_wait(head, left)
        sleep(min(left, head.lease / LOOKS))
        asked = clock()
        found = heads.read()
        if found[1] != tag:
            return found
        if clock() - asked > head.lease / LOOKS:
            # The store was away, for the owner too: silence counts from here.
            end = clock() + head.lease
    return head, tag


def _held(heads: HeadStore, head: Head) -> CanvasError:
    return CanvasError(
        f"{heads.where} is being rendered by process {head.owner.pid} on {head.owner.host}:"
        " wait for it, or stop it with raytile cancel"
    )
