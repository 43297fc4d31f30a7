"""Tiny random model folders of the real shapes, for tests across the project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

WORDS = ("a", "red", "blue", "cat", "sea", "hill", "of", "the", "far", "near", "snow", "sand", "grid", "blur")
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def tiny_stable_diffusion(
    folder: Path, seed: int = 0, window: int = 8, factor: int = 4, prediction: str = "epsilon"
) -> Path:
    """Save a StableDiffusionPipeline with random weights: UNet 32/64, AutoencoderKL, CLIP of width 32."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    levels = factor.bit_length()
    unet = UNet2DConditionModel(
        sample_size=window,
        block_out_channels=(32, 64),
        layers_per_block=1,
        # Attention on the coarse level only: at 64 x 64 cells it would take minutes.
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(16,) * (levels - 1) + (32,),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=window * factor,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=_text_encoder(width=32, tokens=16),
        tokenizer=_clip_tokenizer(tokens=16),
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULER, prediction_type=prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    torch.random.set_rng_state(state)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_terra(folder: Path, seed: int = 0, window: int = 8, control: str = "") -> Path:
    """Save a folder of terra's shape: flow UNet with text in the time embedding, linear-start autoencoder."""
    from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DConditionModel

    from raytile.models.autoencoder import LinearStartAutoencoder, decode_halo

    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=window,
        in_channels=8 + (5 if control else 0),
        out_channels=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        encoder_hid_dim=None,
    )
    halo = decode_halo(1, 1)
    vae = LinearStartAutoencoder(
        width=16, encoder_blocks=1, decoder_blocks=1, fine_width=8, fine_blocks=1, scaling_factor=0.7, decode_halo=halo
    )
    for parameter in vae.parameters():  # zero-initialised ends would hide the convolution nets
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    parts = {"unet": unet, "vae": vae, "text_encoder": _text_encoder(width=32, tokens=12)}
    for name, part in parts.items():
        part.half().save_pretrained(folder / name, safe_serialization=True)
    _word_tokenizer(tokens=12).save_pretrained(folder / "tokenizer")
    FlowMatchEulerDiscreteScheduler(shift=1.0).save_pretrained(folder / "scheduler")
    torch.random.set_rng_state(state)
    index = {
        "_class_name": "RaytilePipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["raytile.models.autoencoder", "LinearStartAutoencoder"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    }
    extra = {
        "window": window,
        "network_stride": 2,
        "decode_halo": halo,
        "prediction": "flow",
        "default_steps": 6,
        "default_guidance": 2.5,
        "guidance_interval": [0.2, 0.8],
        "micro_batch": 4,
        "zooms": [{"scale": 0.5, "phrase": "far"}, {"scale": 1.0, "phrase": "near"}],
        "renoise": 0.65,
    } | ({"control": control} if control else {})
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "raytile.json").write_text(json.dumps(extra))
    return folder


def _text_encoder(width: int, tokens: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(_clip_vocabulary()),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokens,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModel(config).eval()


def _clip_vocabulary() -> dict[str, int]:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    names = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return {name: place for place, name in enumerate(names)}


def _clip_tokenizer(tokens: int) -> Any:
    """Spells words letter by letter: no merges, nothing unknown among lower-case letters."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=_clip_vocabulary(), merges=[], model_max_length=tokens)


def _word_tokenizer(tokens: int) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["[PAD]", "[EOS]", "[BOS]", "[UNK]", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        bos_token="[BOS]",
        eos_token="[EOS]",
        model_max_length=tokens,
    )
