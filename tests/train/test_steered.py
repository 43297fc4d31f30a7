"""Whether masks are obeyed: the judge knows land from water, and masks reach the network as they should."""

from __future__ import annotations

import numpy as np
import torch

from raytile.models.control import CHANNELS, control_channels
from raytile.train.bank import Bank
from raytile.train.captions import build_tokenizer
from raytile.train.crops import SIZE, draw_crop
from raytile.train.denoiser import Denoiser, DenoiserRecipe, batch_at
from raytile.train.steered import Judge, drawn_masks
from raytile.train.world import World


def test_the_judge_knows_real_land(world: World) -> None:
    judge = Judge([draw_crop(world, 3, number) for number in range(30)])
    crops = [draw_crop(world, 4, number) for number in range(12)]
    shares = [judge.agreement(crop.sight.style, crop.pixels, crop.land) for crop in crops]
    turned = [judge.agreement(crop.sight.style, crop.pixels, ~crop.land) for crop in crops]
    assert min(shares) > 0.9
    assert np.allclose(np.add(shares, turned), 1, atol=0.1)


def test_drawn_masks_have_both_land_and_water(world: World) -> None:
    masks = drawn_masks(world)
    assert all(mask.shape == (SIZE, SIZE) and mask.dtype == np.bool_ for mask in masks.values())
    assert all(0.1 < mask.mean() < 0.9 for name, mask in masks.items() if name != "coast")


def test_an_untrained_control_changes_no_bit() -> None:
    torch.manual_seed(3)
    recipe = DenoiserRecipe(widths=(16, 32))
    net = Denoiser(recipe, len(build_tokenizer())).eval()
    x, ids = torch.randn(2, 8, 32, 32), torch.zeros(2, 24, dtype=torch.long)
    land = control_channels((torch.rand(2, 1, SIZE, SIZE) > 0.5).float(), 8)
    with torch.no_grad():
        steered, plain = (net(x, torch.tensor([0.3, 0.9]), ids, channels) for channels in (land, land * 0))
    assert torch.equal(steered, plain)


def test_masks_are_given_to_a_share_of_crops_and_are_their_own(world: World) -> None:
    crops = [draw_crop(world, 5, number) for number in range(6)]
    land = np.stack([crop.land for crop in crops])
    bank = Bank(
        np.stack([np.full((8, 32, 32), number, np.float16) for number in range(6)]),
        np.stack([crop.trainable for crop in crops]),
        np.packbits(land, axis=2),
        [crop.sight for crop in crops],
        "none",
    )
    tokenizer, given = build_tokenizer(), 0
    for step in range(20):
        batch = batch_at(bank, tokenizer, DenoiserRecipe(), step)
        again = batch_at(bank, tokenizer, DenoiserRecipe(), step)
        assert torch.equal(batch.land, again.land)
        assert batch.land.shape == (16, CHANNELS, 32, 32)
        for row in range(16):
            number = int(batch.clean[row, 0, 0, 0])
            own = control_channels(torch.from_numpy(land[number : number + 1, None].astype(np.float32)), 8)[0]
            has = bool(batch.land[row, -1].any())
            given += has
            assert torch.equal(batch.land[row], own * has)
    assert 0.5 < given / 320 < 0.7
