"""Training of the autoencoder, stage B: the decoder alone learns crispness; latents stay as they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from raytile.errors import InvalidRequest
from raytile.models.autoencoder import PATCH, LinearStartAutoencoder
from raytile.train.autoencoder import draw_batch, laplacian_l1
from raytile.train.state import load_state, pid_file, save_state
from raytile.train.world import World


@dataclass(frozen=True)
class DecoderRecipe:
    """Stage B's figures."""

    batch: int = 6
    size: int = 128
    rate: float = 2e-4
    judge_rate: float = 4e-4
    latent_noise: float = 0.04
    fooling: float = 0.03
    likeness: float = 0.3
    """Weight of the L1 between the judge's features of the two pictures."""
    spectrum: float = 0.02
    grid: float = 0.05
    judge_warm_up: int = 150
    """Steps in which the judge learns before the decoder hears it."""
    steps: int = 2100
    decay_from: int = 1500
    seed: int = 7


class Judge(nn.Module):
    """A small patch discriminator: sees 22 pixels; one score a 4x4 cell."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = ((3, width, 4, 2), (width, 2 * width, 4, 2), (2 * width, 2 * width, 3, 1), (2 * width, 1, 3, 1))
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, kernel, stride, padding=1)) for a, b, kernel, stride in sizes
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of each layer, the scores last."""
        features: list[Tensor] = []
        for layer in self.layers:
            x = layer(x if not features else F.leaky_relu(x, 0.2))
            features.append(x)
        return features


def band_powers(x: Tensor, bands: int = 10) -> Tensor:
    """Mean power [bands] of Hann-windowed pictures in equal radial bands from 1/20 to 1/2 cycles per pixel."""
    size = x.shape[-1]
    window = torch.hann_window(size, periodic=False)
    power = torch.fft.rfft2((x - x.mean((2, 3), keepdim=True)) * window[:, None] * window).abs().square().mean((0, 1))
    rows, columns = torch.fft.fftfreq(size), torch.fft.rfftfreq(size)
    band = ((rows[:, None].square() + columns.square()).sqrt() * 2 * bands).long().clamp_max(bands)
    sums = torch.zeros(bands + 1).index_add(0, band.flatten(), power.flatten())
    counts = torch.zeros(bands + 1).index_add(0, band.flatten(), torch.ones(band.numel()))
    return (sums / counts)[1:bands]


def spectrum_loss(y: Tensor, x: Tensor) -> Tensor:
    """Mean absolute log ratio of band powers of the batch."""
    return (band_powers(y) / band_powers(x).clamp_min(1e-6)).clamp_min(1e-6).log().abs().mean()


def grid_loss(y: Tensor) -> Tensor:
    """How unlike the 64 places in a patch are: mean relative deviation of their mean gradients, over both axes;

    and how far the mean gradient across the patch's border is from the others'.
    """
    total = y.new_zeros(())
    size = y.shape[-1] // PATCH
    for axis in (2, 3):
        steps = (y - y.roll(1, axis)).abs()[..., PATCH:, PATCH:]
        means = steps.reshape(-1, size - 1, PATCH, size - 1, PATCH).mean((0, 1, 3))
        total = total + (means / means.mean().clamp_min(1e-6) - 1.0).abs().mean()
        lines = means.mean(1 - (axis - 2))
        total = total + (lines[0] / lines[1:].mean().clamp_min(1e-6) - 1.0).abs()
    return total


def decoder_loss(
    model: LinearStartAutoencoder, judge: Judge, x: Tensor, z: Tensor, heard: bool, recipe: DecoderRecipe
) -> tuple[Tensor, Tensor]:
    """(loss of the decoder, its picture)."""
    y = model.decode(z).float()
    error = y - x
    loss = error.abs().mean() + 0.5 * laplacian_l1(error)
    loss = loss + recipe.spectrum * spectrum_loss(y, x) + recipe.grid * grid_loss(y)
    if heard:
        with torch.no_grad():
            real = judge(x)
        fake = judge(y)
        likeness = sum(
            ((a.float() - b.float()).abs().mean() for a, b in zip(fake[:-1], real[:-1], strict=True)), y.new_zeros(())
        )
        loss = loss + recipe.likeness * likeness / (len(fake) - 1) - recipe.fooling * fake[-1].float().mean()
    return loss, y


def train_stage_b(
    world: World,
    folder: Path,
    recipe: DecoderRecipe,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    save_every: float = 120.0,
    say: Callable[[str], None] = print,
) -> LinearStartAutoencoder:
    """Train the decoder of `folder/autoencoder.pt` into `folder/decoder.pt`; goes on from the latter if there."""
    saved: dict[str, Any] | None = load_state(folder / "decoder.pt")
    base = saved or load_state(folder / "autoencoder.pt")
    if base is None:
        raise InvalidRequest(f"no autoencoder in {folder}: train stage A first")
    model: LinearStartAutoencoder = LinearStartAutoencoder(**base["config"])
    model.load_state_dict(base["model"])
    torch.manual_seed(recipe.seed)
    judge = Judge()
    trained = [*model.linear_out.parameters(), *model.decoder.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=recipe.rate, betas=(0.8, 0.99), weight_decay=1e-3)
    judge_optimizer = torch.optim.AdamW(judge.parameters(), lr=recipe.judge_rate, betas=(0.5, 0.99))
    step = 0
    if saved:
        judge.load_state_dict(saved["judge"])
        optimizer.load_state_dict(saved["optimizer"])
        judge_optimizer.load_state_dict(saved["judge_optimizer"])
        step = saved["step"]

    def save() -> None:
        state = {"model": model.state_dict(), "judge": judge.state_dict(), "step": step, "config": base["config"]}
        state |= {"optimizer": optimizer.state_dict(), "judge_optimizer": judge_optimizer.state_dict()}
        save_state(folder / "decoder.pt", state)

    begin = last = clock()
    with pid_file(folder, "decoder"):
        while step < recipe.steps and clock() - begin < seconds:
            x = draw_batch(world, recipe.seed, step, recipe.batch, recipe.size)
            generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
            slow = min(1.0, (recipe.steps - step) / (recipe.steps - recipe.decay_from))
            optimizer.param_groups[0]["lr"] = recipe.rate * slow
            judge_optimizer.param_groups[0]["lr"] = recipe.judge_rate * slow
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad():
                    z = model.encode(x).float()
                z = z + recipe.latent_noise * torch.randn(z.shape, generator=generator)
                loss, y = decoder_loss(model, judge, x, z, step >= recipe.judge_warm_up, recipe)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            judge_optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16):
                real, fake = judge(x)[-1].float(), judge(y.detach())[-1].float()
            judged = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
            judged.backward()  # type: ignore[no-untyped-call]
            judge_optimizer.step()
            step += 1
            if step % 50 == 0:
                losses = f"loss {loss.item():.4f} judge {judged.item():.3f}"
                say(f"decoder step {step} {losses} after {clock() - begin:.0f} s")
            if clock() - last > save_every:
                save()
                last = clock()
        save()
    return model
