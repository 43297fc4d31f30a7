"""Laws of the copy finder: a copied piece is found where it lies, moved and transposed; noise is not."""

from __future__ import annotations

import pytest
import torch

from raytile.train.nearest import CORE, nearest


def test_a_moved_and_transposed_copy_is_found() -> None:
    crops = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    samples = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    samples[0, :, 8 : 8 + CORE, 8 : 8 + CORE] = crops[3, :, 5 : 5 + CORE, 11 : 11 + CORE]
    samples[1, :, 8 : 8 + CORE, 8 : 8 + CORE] = crops[2, :, 0:CORE, 7 : 7 + CORE].transpose(1, 2)
    moved, turned, noise = nearest(samples, crops, batch=2)
    assert (moved.crop, moved.top, moved.left, moved.transposed) == (3, 5, 11, False)
    assert (turned.crop, turned.top, turned.left, turned.transposed) == (2, 0, 7, True)
    assert moved.distance == pytest.approx(0.0, abs=5e-3)
    assert turned.distance == pytest.approx(0.0, abs=5e-3)
    assert noise.distance > 1.0
