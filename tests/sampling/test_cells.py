"""A cell's bits are the same whatever tensor it is computed in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raytile.models.schedules import build_schedule
from raytile.sampling import SAMPLERS, Schedule, renoise, scale_input, start

CONFIG = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
SCHEDULES = {
    **{name: build_schedule(CONFIG, "epsilon", name, 6) for name in SAMPLERS},
    "velocity": build_schedule(CONFIG | {"prediction_type": "v_prediction"}, "v_prediction", "dpmpp_2m", 6),
    "flow": build_schedule({}, "flow", "euler", 6),
    "flow dpmpp_2m": build_schedule({}, "flow", "dpmpp_2m", 6),
}


def run(schedule: Schedule, noise: Tensor, predictions: Tensor, fresh: Tensor) -> Tensor:
    x, memory = renoise(start(noise, schedule) * 0.1, noise, 0, schedule), ()
    shown = []
    for step in range(schedule.steps):
        shown.append(scale_input(x, step, schedule))
        x, memory = SAMPLERS[schedule.sampler](x, predictions[step], step, memory, schedule, fresh[step])
    return torch.stack([x, *shown])


@pytest.mark.parametrize("name", list(SCHEDULES))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_crop_is_computed_as_in_the_whole(name: str, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 21)), data.draw(st.integers(1, 37))
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    y1, x1 = data.draw(st.integers(y + 1, height)), data.draw(st.integers(x + 1, width))
    contiguous = data.draw(st.booleans())
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    noise, *rest = torch.randn(13, 4, height, width, generator=generator)
    predictions, fresh = torch.stack(rest[:6]), torch.stack(rest[6:])

    def crop(tensor: Tensor) -> Tensor:
        cut = tensor[..., y:y1, x:x1]
        return cut.contiguous() if contiguous else cut

    whole = run(SCHEDULES[name], noise, predictions, fresh)
    part = run(SCHEDULES[name], crop(noise), crop(predictions), crop(fresh))
    assert torch.equal(crop(whole), part)
