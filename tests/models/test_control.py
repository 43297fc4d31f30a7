"""Control: a mask changes what it should, and where none is given nothing changes."""

from __future__ import annotations

import pytest
import torch

from raytile.models.base import Module
from raytile.models.control import CHANNELS, control_channels
from raytile.models.reference import reference


def test_a_sub_cell_is_the_mean_of_its_pixels() -> None:
    mask = torch.rand(2, 1, 16, 24, generator=torch.Generator().manual_seed(0))
    channels = control_channels(mask, 8)
    assert channels.shape == (2, CHANNELS, 2, 3)
    for number, (y, x) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        want = mask[1, 0, 8 + y : 12 + y, 16 + x : 20 + x].mean()
        assert torch.allclose(channels[1, number, 1, 2], want)
    assert (channels[:, -1] == 1).all()


@pytest.mark.parametrize("name", ["toy", "land"])
def test_a_mask_is_seen_where_it_lies(name: str, modules: dict[str, Module]) -> None:
    """All water is something else than no mask; half land differs from all water on its own side, at least."""
    module = modules[name]
    spec = module.spec
    assert spec.control == "land"
    x = torch.randn(3, spec.channels, spec.window, spec.window, generator=torch.Generator().manual_seed(0))
    x[1:] = x[0]
    mask = torch.zeros(3, 1, spec.window * spec.factor, spec.window * spec.factor)
    mask[1, :, :, : spec.window * spec.factor // 2] = 1
    words = module.encode_prompts(["a sea"]) * 3
    plain, (water, half, again) = module.predict(x, 500.0, words), module.predict(x, 500.0, words, mask)
    assert torch.equal(water, again)
    assert not torch.equal(water, plain[0])
    change = (half - water).abs().mean((0, 1))
    assert change[: spec.window // 2].mean() > change[spec.window // 2 :].mean()
    assert change.max() > 0


@pytest.mark.parametrize("name", ["toy", "land"])
def test_without_a_mask_channels_are_zero(name: str, modules: dict[str, Module]) -> None:
    """What a network without a control would say: its weights of the control's channels do not matter."""
    module = modules[name]
    spec = module.spec
    x = torch.randn(1, spec.channels, spec.window, spec.window, generator=torch.Generator().manual_seed(0))
    words = module.encode_prompts(["a"])
    before = module.predict(x, 300.0, words)
    if name == "land":
        weight = module._unet.conv_in.weight  # type: ignore[attr-defined]
        kept = weight.detach().clone()
        with torch.no_grad():
            weight[:, spec.channels :] *= -3
        after = module.predict(x, 300.0, words)
        with torch.no_grad():
            weight.copy_(kept)
    else:
        after = module.predict(x, 300.0, words, None)
    assert torch.equal(before, after)


def test_toy_paints_land_bright(toy: Module) -> None:
    noise = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(1, 128, 128)
    mask[:, :, 64:] = 1
    light = reference(toy, "a red sea", noise, control=mask).mean((0, 1))
    plain = reference(toy, "a red sea", noise).mean((0, 1))
    assert light[72:].mean() > light[:56].mean() + 0.2
    assert plain[72:].mean() < plain[:56].mean() + 0.2
