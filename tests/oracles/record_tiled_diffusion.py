"""Record how Tiled Diffusion (CVPR 2025) fills the pads of its pictures and copies strips along shared sides.

Every cell carries a number of its own instead of a random one, so that what was copied whence is exact. A picture has
PAD cells around SIDE x SIDE; sides are in its order: right, left, up, down. A case is a list of pictures, each the
colour and the direction ("cw" lies against "ccw") of its sides, or None.

    python -m tests.oracles.record_tiled_diffusion --from CLONE
"""

from __future__ import annotations

import contextlib
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.oracles.foreign import clone_from, keep, load

REPOSITORY, COMMIT = "madaror/tiled-diffusion", "6c4c0355c504c3ca804a66ad89731943f27124e2"
SIDE, PAD, STRIP, STEPS = 8, 3, 2, 6
SIDES = ("right", "left", "top", "bottom")

Picture = tuple[tuple[int, str] | None, ...]
A, B, C, D = (1, "cw"), (1, "ccw"), (2, "cw"), (2, "ccw")
CASES: dict[str, tuple[Picture, ...]] = {
    "self": ((A, B, C, D),),
    "one to one": ((A, D, None, None), (C, B, None, None)),
    "many to many": ((A, B, C, D), (A, B, C, D), (A, B, C, D)),
    "two colours": ((A, B, C, D), (C, B, A, D), (A, D, C, B)),
}


def turned(one: int, other: int) -> tuple[Picture, ...]:
    """Two pictures, side `one` of the first against side `other` of the second."""
    first: list[tuple[int, str] | None] = [None] * 4
    second: list[tuple[int, str] | None] = [None] * 4
    first[one], second[other] = A, B
    return tuple(first), tuple(second)


CASES |= {f"{SIDES[one]} {SIDES[other]}": turned(one, other) for one in range(4) for other in range(4)}


def numbered(pictures: int) -> list[torch.Tensor]:
    """Padded pictures [1, 1, SIDE + 2 PAD, SIDE + 2 PAD] in which no number comes twice."""
    full = SIDE + 2 * PAD
    return [torch.arange(full * full).reshape(1, 1, full, full).float() + 1000 * n for n in range(pictures)]


def main(arguments: list[str] | None = None) -> None:
    folder = clone_from(arguments, REPOSITORY, COMMIT)
    load(folder, COMMIT, "config.py")
    utils = load(folder, COMMIT, "utils.py")
    handler = load(folder, COMMIT, "latent_handler.py").LatentHandler
    arrays: dict[str, Any] = {}
    for case, pictures in CASES.items():
        filled, alike = [], []
        for step in range(STEPS):
            for store, constrain in ((filled, False), (alike, True)):
                latents = [
                    SimpleNamespace(
                        pre_latent=cells,
                        post_latent=cells.clone(),
                        side_id=[side and side[0] for side in sides],
                        side_dir=[side and side[1] for side in sides],
                    )
                    for cells, sides in zip(numbered(len(pictures)), pictures, strict=True)
                ]
                with contextlib.redirect_stdout(io.StringIO()):
                    groups = utils.generate_graph_groups(latents)
                if constrain:
                    handler.apply_similarity_constraint(latents, step, groups, max_width=PAD, max_replica_width=STRIP)
                    store.append([latent.pre_latent[0, 0].numpy() for latent in latents])
                else:
                    handler.tile(latents, step, groups, max_width=PAD)
                    store.append([latent.post_latent[0, 0].numpy() for latent in latents])
        arrays[f"{case}|filled"] = np.array(filled, dtype=np.int32)  # [step, picture, y, x]
        arrays[f"{case}|alike"] = np.array(alike, dtype=np.int32)
    keep("tiled_diffusion", arrays)


if __name__ == "__main__":
    main()
