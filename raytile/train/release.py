"""Writes the model folder that is shipped: diffusers layout, fp16 safetensors, and raytile.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from raytile.models.autoencoder import LinearStartAutoencoder
from raytile.models.folder import encode_halo
from raytile.train.captions import ZOOM_PHRASES, save_tokenizer
from raytile.train.denoiser import Denoiser
from raytile.train.world import SCALES

PARTS = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("raytile.models.autoencoder", "LinearStartAutoencoder"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "PreTrainedTokenizerFast"),
    "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
}
WINDOW = 32


def write_release(folder: Path, net: Denoiser, autoencoder: LinearStartAutoencoder) -> None:
    """Replace what `folder` holds of the model (its README.md stays) by these weights in half precision."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    fresh = folder.with_name(folder.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, module in (("unet", net.unet), ("vae", autoencoder), ("text_encoder", net.text)):
        half = type(module)(module.config) if name == "text_encoder" else type(module).from_config(module.config)
        half.load_state_dict(module.state_dict())
        half.to(torch.float16).save_pretrained(str(fresh / name), safe_serialization=True)
    save_tokenizer(fresh / "tokenizer")
    FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0).save_pretrained(str(fresh / "scheduler"))
    index: dict[str, Any] = {"_class_name": "RaytilePipeline", **{name: list(kind) for name, kind in PARTS.items()}}
    (fresh / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    (fresh / "raytile.json").write_text(json.dumps(plan_facts(net, autoencoder), indent=2) + "\n")
    for file in fresh.rglob("*.safetensors"):
        file.chmod(0o644)
    for part in sorted(fresh.iterdir()):
        target = folder / part.name
        if target.is_dir():
            shutil.rmtree(target)
        folder.mkdir(parents=True, exist_ok=True)
        part.replace(target)
    fresh.rmdir()


def plan_facts(net: Denoiser, autoencoder: LinearStartAutoencoder) -> dict[str, Any]:
    """What raytile's plan needs to know of the model; zooms run from the coarsest to the finest."""
    zooms = [{"scale": scale, "phrase": words} for scale, words in zip(SCALES, ZOOM_PHRASES, strict=True)]
    return {
        "window": WINDOW,
        "network_stride": 2 ** (len(net.unet.config["block_out_channels"]) - 1),
        "decode_halo": autoencoder.config["decode_halo"],
        "encode_halo": encode_halo(autoencoder.config["encoder_blocks"]),
        "control": "land",
        "prediction": "flow",
        "default_steps": 20,
        "default_guidance": 2.5,
        "guidance_interval": [0.0, 0.75],
        "micro_batch": 4,
        "zooms": zooms[::-1],
        "renoise": 0.65,
    }


def read_release(folder: Path) -> tuple[Any, LinearStartAutoencoder, Any, Any]:
    """(unet, autoencoder, text encoder, tokenizer) of a model folder, in float32."""
    from diffusers import UNet2DConditionModel
    from transformers import AutoTokenizer, CLIPTextModel

    unet = UNet2DConditionModel.from_pretrained(str(folder / "unet"), torch_dtype=torch.float32)
    autoencoder = LinearStartAutoencoder.from_pretrained(str(folder / "vae"), torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(str(folder / "text_encoder"), dtype=torch.float32)
    return unet.eval(), autoencoder.eval(), text.eval(), AutoTokenizer.from_pretrained(str(folder / "tokenizer"))
