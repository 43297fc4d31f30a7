"""Whether the owner that a head names still lives, as far as this process can see at once."""

from __future__ import annotations

import os

from raytile.canvas.head import Head
from raytile.errors import CanvasError


def refuse_live(head: Head, where: str, host: str, now: float) -> None:
    """Raise `CanvasError` when the canvas is being rendered: it must not be replaced.

    On this host (named `host`) the process says so; of another host we know when it last wrote (`now`: seconds since
    1970). A clock that is wrong there lets us replace a live canvas, whose owner is then told by its next commit."""
    if head.state != "running":
        return
    owner, young = head.owner, abs(now - head.updated) < head.lease
    if owner.host == host and owner.pid != os.getpid():
        if _alive(owner.pid):
            raise CanvasError(
                f"{where} is being rendered by process {owner.pid}: stop that first"
                " (if that process is another program by now, delete the canvas)"
            )
    elif young:  # elsewhere, or by this process: of an earlier run, since containers give each of theirs the same id?
        raise CanvasError(
            f"{where} is being rendered by process {owner.pid} on {owner.host}: stop that first, with raytile cancel"
            f" (if it is dead, wait {head.lease:g} s)"
        )


def _alive(pid: int) -> bool:
    """Whether a process of this id runs here."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
