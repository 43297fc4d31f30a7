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
    owner = head.owner
    if owner.host == host:
        if _alive(owner.pid):
            raise CanvasError(
                f"{where} is being rendered by process {owner.pid}: stop that first"
                " (if that process is another program by now, delete the canvas)"
            )
    elif abs(now - head.updated) < head.lease:
        raise CanvasError(
            f"{where} is being rendered by process {owner.pid} on {owner.host}: stop that first, with raytile cancel"
            f" (if it is dead, wait {head.lease:g} s)"
        )


def _alive(pid: int) -> bool:
    """Whether another process of this id runs here.

    Our own id is that of a dead owner: containers give each of their runs the same one."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
