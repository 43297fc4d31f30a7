"""Training of the denoiser and its text encoder together, by flow matching on a bank of latents."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from raytile.models.autoencoder import PATCH
from raytile.models.control import CHANNELS as CONTROL_CHANNELS
from raytile.models.control import control_channels
from raytile.train.bank import Bank
from raytile.train.captions import ALIKE, LENGTH, build_tokenizer, token_ids, write_caption
from raytile.train.optimizer import MixedOptimizer
from raytile.train.state import load_state, pid_file, save_state

TEXT_WIDTH = 128
OUTER = ("conv_in", "conv_out", "embedding", "norm")
"""Names of weights that are no inner matrices: their rule is AdamW's."""


@dataclass(frozen=True)
class DenoiserRecipe:
    """The denoiser's figures."""

    widths: tuple[int, ...] = (48, 80, 160)
    batch: int = 16
    rate: float = 1.5e-3
    warm_up: int = 50
    ema: float = 0.997
    matrix_rule: bool = True
    """Muon for inner matrices; otherwise AdamW for all."""
    pooled: float = 1.0
    """Weight of the squared error of 4x4 means, beside that of single cells."""
    masked: float = 0.6
    """Share of crops whose land mask is given; the others train the model that paints without one."""
    decay_from: int | None = None
    """Step from which the rate falls linearly to nothing at `steps`."""
    steps: int = 1_000_000
    seed: int = 2


def new_unet(widths: tuple[int, ...], channels: int = 8) -> Any:
    """The denoiser: text by cross-attention at the two lower levels and in the time embedding; a land mask as further
    input channels after the latents'."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=32,
        in_channels=channels + CONTROL_CHANNELS,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (len(widths) - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (len(widths) - 1), "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=tuple(max(1, width // 32) for width in widths),
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def new_text_encoder(words: int) -> Any:
    """A small CLIP text model, read by its last hidden states."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
        )
    )


@torch.no_grad()
def start_alike(text: Any, tokenizer: Any, own: float = 0.15) -> None:
    """Give the words of each group in `ALIKE` their mean embedding, at full size, plus a small part of their own."""
    table = text.get_input_embeddings().weight
    for group in ALIKE:
        ids = torch.tensor(tokenizer.convert_tokens_to_ids(list(group)))
        words = table[ids]
        mean = words.mean(0)
        table[ids] = mean * (words.norm(dim=1).mean() / mean.norm()) + own * (words - mean)


class Denoiser(nn.Module):
    """Both nets as one module, so that they share optimizer, average and state."""

    def __init__(self, recipe: DenoiserRecipe, words: int, channels: int = 8) -> None:
        super().__init__()
        self.unet = new_unet(recipe.widths, channels)
        with torch.no_grad():  # masks start as though there were none
            self.unet.conv_in.weight[:, channels:] = 0
        self.text = new_text_encoder(words)

    def forward(self, x: Tensor, t: Tensor, ids: Tensor, land: Tensor) -> Tensor:
        """Velocity n - x0 of noised latents x at times t in [0, 1], beside the channels of their masks."""
        states = self.text(ids)[0]
        velocity: Tensor = self.unet(torch.cat([x, land], 1), 1000.0 * t, encoder_hidden_states=states).sample
        return velocity


def draw_times(generator: torch.Generator, count: int) -> Tensor:
    """Times in (0, 1]: four fifths logit-normal(0.8, 1.2), one fifth uniform, one in fifty exactly 1."""
    bell = torch.sigmoid(0.8 + 1.2 * torch.randn(count, generator=generator))
    kind = torch.rand(count, generator=generator)
    flat = 1.0 - torch.rand(count, generator=generator)
    return torch.where(kind < 0.8, bell, torch.where(kind < 0.98, flat, torch.ones(count)))


@dataclass(frozen=True)
class Batch:
    """Latents, trainable cells [rows, 1, 32, 32], token numbers, and the channels of masks (zero where not given)."""

    clean: Tensor
    free: Tensor
    ids: Tensor
    land: Tensor


def flow_loss(net: Denoiser, batch: Batch, generator: torch.Generator, pooled: float) -> Tensor:
    """Squared error of the velocity over trainable cells, and of its 4x4 means."""
    clean, free = batch.clean, batch.free
    noise = torch.randn(clean.shape, generator=generator)
    t = draw_times(generator, len(clean))
    mix = t[:, None, None, None]
    error = (net((1 - mix) * clean + mix * noise, t, batch.ids, batch.land).float() - (noise - clean)) * free
    share = free.mean().clamp_min(1e-3)
    loss: Tensor = error.square().mean() / share
    if pooled:
        loss = loss + pooled * F.avg_pool2d(error, 4).square().mean() / share
    return loss


def batch_at(bank: Bank, tokenizer: Any, recipe: DenoiserRecipe, step: int) -> Batch:
    """What a step trains on: a function of (bank, seed, step)."""
    rng = np.random.default_rng((recipe.seed, step))
    chosen = rng.integers(len(bank.sights), size=recipe.batch)
    captions = [write_caption(bank.sights[int(i)], rng) for i in chosen]
    clean = torch.from_numpy(bank.latents[chosen].astype(np.float32))
    free = torch.from_numpy(bank.trainable[chosen].astype(np.float32))[:, None]
    given = torch.from_numpy(rng.random(recipe.batch) < recipe.masked)[:, None, None, None]
    masks = np.unpackbits(bank.land[chosen], axis=2).astype(np.float32)
    land = control_channels(torch.from_numpy(masks)[:, None], PATCH) * given
    return Batch(clean, free, token_ids(tokenizer, captions), land)


def rate_at(step: int, recipe: DenoiserRecipe) -> float:
    """Warm-up, then constant, then (on a release's copy) a straight line to zero."""
    rate = recipe.rate * min(1.0, (step + 1) / recipe.warm_up)
    if recipe.decay_from is not None and step >= recipe.decay_from:
        rate *= max(0.0, (recipe.steps - step) / (recipe.steps - recipe.decay_from))
    return rate


def train_denoiser(
    bank: Bank,
    folder: Path,
    recipe: DenoiserRecipe,
    seconds: float,
    *,
    name: str = "denoiser",
    start: str | None = None,
    clock: Callable[[], float] = time.monotonic,
    save_every: float = 180.0,
    say: Callable[[str], None] = print,
) -> Denoiser:
    """Train until `recipe.steps` or the seconds are used up; goes on from `folder/name.pt`, or copies `start`'s."""
    tokenizer = build_tokenizer()
    torch.manual_seed(recipe.seed)
    net = Denoiser(recipe, len(tokenizer), bank.latents.shape[1])
    start_alike(net.text, tokenizer)
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = MixedOptimizer(net.named_parameters(), recipe.rate, OUTER if recipe.matrix_rule else ("",))
    step = 0
    saved = load_state(folder / f"{name}.pt") or (load_state(folder / f"{start}.pt") if start else None)
    if saved:
        net.load_state_dict(saved["model"])
        average.load_state_dict(saved["ema"])
        if "optimizer" in saved:  # a restored model has none
            optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]

    def save() -> None:
        save_state(
            folder / f"{name}.pt",
            {
                "model": net.state_dict(),
                "ema": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "widths": list(recipe.widths),
                "encoder": bank.encoder,
            },
        )

    begin = last = clock()
    recent: deque[float] = deque(maxlen=50)
    with pid_file(folder, name):
        while step < recipe.steps and clock() - begin < seconds:
            batch = batch_at(bank, tokenizer, recipe, step)
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, recipe)
            optimizer.zero_grad(set_to_none=True)
            generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
            with torch.autocast("cpu", torch.bfloat16):
                loss = flow_loss(net, batch, generator, recipe.pooled)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            decay = min(recipe.ema, (1.0 + step) / (10.0 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1.0 - decay)
            step += 1
            recent.append(loss.item())
            if step % 20 == 0:
                say(f"{name} step {step} loss {sum(recent) / len(recent):.4f} after {clock() - begin:.0f} s")
            if clock() - last > save_every:
                save()
                last = clock()
        save()
    return average
