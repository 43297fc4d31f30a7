"""A row's bits depend on that row alone; the probe finds a module that breaks this."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raytile.errors import ClusterError
from raytile.models.base import Module
from raytile.models.probe import probe
from raytile.models.registry import load, resolve
from raytile.plan import noise

if TYPE_CHECKING:
    from raytile.models.base import Conditioning

MODULES = ("toy", "sd", "terra", "land")


@pytest.mark.parametrize("name", MODULES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_slot_and_companions_do_not_matter(name: str, data: st.DataObject, modules: dict[str, Module]) -> None:
    """For any row, slot and companions, at any batch size: the same bits."""
    module = modules[name]
    spec, rows = module.spec, data.draw(st.sampled_from([1, 2, 3, 4, 8]))
    slots = [data.draw(st.integers(0, rows - 1)) for _ in range(2)]
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    row = torch.randn(spec.channels, spec.window, spec.window, generator=generator)
    prompts = module.encode_prompts(["a red cat", "", "far sea"])
    time = data.draw(st.sampled_from([999.0, 512.5, 1.0]))
    steered = bool(spec.control) and data.draw(st.booleans())
    mask = torch.rand(1, spec.window * spec.factor, spec.window * spec.factor, generator=generator)

    def predicted(slot: int, scale: float) -> Tensor:
        x = torch.randn(rows, *row.shape, generator=generator) * scale
        x[slot] = row
        words = [prompts[(slot + other) % 3] for other in range(rows)]
        words[slot] = prompts[0]
        masks = torch.rand(rows, *mask.shape, generator=generator)
        masks[slot] = mask
        return module.predict(x, time, words, masks if steered else None)[slot]

    assert torch.equal(predicted(slots[0], 1.0), predicted(slots[1], 30.0))


@pytest.mark.parametrize("name", MODULES)
def test_prompts_are_encoded_alone(name: str, modules: dict[str, Module]) -> None:
    module = modules[name]
    (alone,) = module.encode_prompts(["a red cat"])
    among = module.encode_prompts(["far sea", "", "a red cat"])[2]
    assert alone.keys() == among.keys()
    assert all(torch.equal(alone[key], among[key]) for key in alone)


@pytest.mark.parametrize("name", MODULES)
def test_rows_are_counted_by_the_network_itself(name: str, modules: dict[str, Module]) -> None:
    module = modules[name]
    spec, before = module.spec, module.rows_evaluated()
    words = module.encode_prompts(["a", "red", "cat"])
    module.predict(torch.zeros(3, spec.channels, spec.window, spec.window), 10.0, words)
    assert module.rows_evaluated() - before == 3


@pytest.mark.parametrize("name", MODULES)
def test_host_float32_in_and_out(name: str, modules: dict[str, Module]) -> None:
    module = modules[name]
    spec = module.spec
    x = torch.randn(spec.micro_batch, spec.channels, spec.window, spec.window)
    kept = x.clone()
    words = module.encode_prompts(["a"]) * spec.micro_batch
    predicted, pixels = module.predict(x, 3.0, words), module.decode(x[0])
    assert torch.equal(x, kept)
    assert predicted.shape == x.shape
    assert pixels.shape == (3, spec.window * spec.factor, spec.window * spec.factor)
    assert {predicted.dtype, pixels.dtype} == {torch.float32}
    assert not predicted.requires_grad


def test_half_precision_stays_near(sd_folder: Path, sd: Module) -> None:
    half = load(resolve(str(sd_folder)), dtype="bfloat16")
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    want = sd.predict(x, 500.0, sd.encode_prompts(["a", "red"]))
    got = half.predict(x, 500.0, half.encode_prompts(["a", "red"]))
    assert got.dtype == torch.float32
    assert not torch.equal(got, want)
    assert (got - want).abs().max() < 0.1 * want.abs().max()


@pytest.mark.parametrize("name", MODULES)
def test_probe_is_stable_and_tells_modules_apart(name: str, modules: dict[str, Module]) -> None:
    digests = {probe(modules[other]) for other in MODULES}
    assert len(digests) == len(MODULES)
    assert probe(modules[name]) == probe(modules[name]) in digests
    assert probe(modules[name], rows=3) == probe(modules[name], rows=3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["sd_folder", "terra_folder"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_cuda(kind: str, dtype: str, request: pytest.FixtureRequest) -> None:
    """The probe holds there too, runs agree bit for bit, and float32 is the processor's result to tolerance."""
    spec = resolve(str(request.getfixturevalue(kind)))
    here, there = load(spec), load(spec, "cuda", dtype)
    assert probe(there) == probe(there) == probe(load(spec, "cuda", dtype))
    x = torch.randn(4, spec.channels, spec.window, spec.window, generator=torch.Generator().manual_seed(0))
    words = there.encode_prompts(["a red cat", "far", "", "sea"])
    want, got = here.predict(x, 400.0, words), there.predict(x, 400.0, words)
    tolerance = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}[dtype]
    assert (got - want).abs().max() <= tolerance * want.abs().max()
    assert there.predict(x * 0, 1.0, words).isfinite().all()


@pytest.mark.parametrize("function", ["log", "cos", "sin"])
def test_probe_sees_the_last_bit_of_the_hosts_arithmetic(
    function: str, toy: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host draws the noise, by numpy's functions: two hosts may differ in them where their devices agree."""
    expected, exact = probe(toy), getattr(np, function)
    monkeypatch.setattr(np, function, lambda x: np.nextafter(exact(x), 2.0))
    assert probe(toy) != expected


def test_probe_sees_the_noise(toy: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, exact = probe(toy), noise.normal
    monkeypatch.setattr(noise, "normal", lambda *args: np.nextafter(exact(*args), np.float32(9)))
    assert probe(toy) != expected


class Leaky:
    """A module whose rows see their companions, as batch-wise autotuned kernels would."""

    def __init__(self, inner: Module) -> None:
        self._inner, self.spec = inner, inner.spec

    def encode_prompts(self, prompts: Sequence[str]) -> list[Conditioning]:
        return self._inner.encode_prompts(prompts)

    def predict(
        self, x: Tensor, timestep: float, conditioning: Sequence[Conditioning], control: Tensor | None = None
    ) -> Tensor:
        slot = torch.arange(len(x)).view(-1, 1, 1, 1) * 1e-6
        return self._inner.predict(x, timestep, conditioning, control) + slot


def test_probe_refuses_rows_that_depend_on_their_slot(toy: Module) -> None:
    with pytest.raises(ClusterError, match="micro-batch"):
        probe(Leaky(toy))  # type: ignore[arg-type]
