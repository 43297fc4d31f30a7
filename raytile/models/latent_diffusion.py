"""One class for every model folder: text encoder, UNet and autoencoder behind the `Module` call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from raytile.errors import InvalidModel
from raytile.models.control import CHANNELS as CONTROL_CHANNELS
from raytile.models.control import control_channels
from raytile.models.numerics import RowCounter, pin_numerics
from raytile.models.parts import Folder
from raytile.models.schedules import build_schedule
from raytile.plan.spec import ModelSpec
from raytile.sampling import Schedule

if TYPE_CHECKING:
    from raytile.models.base import Conditioning, Doubling


class LatentDiffusion:
    """A Stable Diffusion 1.x/2.x folder, or raytile's own, on one device in one dtype.

    Files come from the folder alone: no network, no pickles, no foreign code."""

    def __init__(self, spec: ModelSpec, folder: Folder, device: str, dtype: str) -> None:
        import transformers
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextModel

        pin_numerics(device)
        transformers.utils.logging.disable_progress_bar()
        self.spec = spec
        self._scheduler = folder.configs["scheduler"]
        self._device, self._dtype = torch.device(device), getattr(torch, dtype)
        self._tokenizer = _tokenizer(folder)
        self._text_encoder = self._part(CLIPTextModel, folder, "text_encoder")
        self._unet = self._part(UNet2DConditionModel, folder, "unet")
        self._vae = self._part(_autoencoder(folder), folder, "vae")
        self._counter = RowCounter(self._unet)
        self._doubling = _read_doubling(folder, spec.channels)
        self._turns = _read_turns(folder, spec.channels)
        self._staging: dict[tuple[int, ...], Tensor] = {}

    def schedule(self, sampler: str, steps: int) -> Schedule:
        return build_schedule(self._scheduler, self.spec.prediction, sampler, steps)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> list[Conditioning]:
        """{"text": [tokens, width]} a prompt, each encoded alone so that it owes nothing to its companions."""
        return [{"text": self._encode(prompt)} for prompt in prompts]

    def _encode(self, prompt: str) -> Tensor:
        # a tokenizer whose config names no length says 1e30
        length = min(self._tokenizer.model_max_length, self._text_encoder.config.max_position_embeddings)
        tokens = self._tokenizer(
            [prompt],
            padding="max_length",
            max_length=length,
            truncation=True,
            return_tensors="pt",
        )
        masked = getattr(self._text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self._device) if masked else None
        hidden: Tensor = self._text_encoder(tokens.input_ids.to(self._device), attention_mask=mask)[0]
        return hidden[0].float().cpu()

    @torch.no_grad()
    def predict(
        self, x: Tensor, timestep: float, conditioning: Sequence[Conditioning], control: Tensor | None = None
    ) -> Tensor:
        if self.spec.control:
            none = x.new_zeros(len(x), CONTROL_CHANNELS, *x.shape[2:])
            x = torch.cat([x, none if control is None else control_channels(control, self.spec.factor)], dim=1)
        text = torch.stack([row["text"] for row in conditioning])
        time = torch.tensor([timestep], dtype=torch.float32, device=self._device)
        predicted: Tensor = self._unet(self._send(x), time, encoder_hidden_states=self._send(text)).sample
        return predicted.float().cpu()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        scale, shift = self._scaling()
        decoded = self._vae.decode(self._send(latents[None]) / scale + shift)
        pixels: Tensor = decoded if isinstance(decoded, Tensor) else decoded.sample
        return pixels[0].float().cpu()

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        scale, shift = self._scaling()
        encoded = self._vae.encode(self._send(pixels[None]))
        mode: Tensor = encoded if isinstance(encoded, Tensor) else encoded.latent_dist.mode()
        return ((mode - shift) * scale)[0].float().cpu()

    def _scaling(self) -> tuple[float, float]:
        """A diffusion model's latents are (the autoencoder's - shift) * scale."""
        config = self._vae.config
        return config.scaling_factor, getattr(config, "shift_factor", None) or 0.0

    def doubling(self) -> Doubling | None:
        return self._doubling

    def turns(self) -> Tensor | None:
        return self._turns

    def rows_evaluated(self) -> int:
        return self._counter.rows

    def _send(self, tensor: Tensor) -> Tensor:
        """To the device and dtype. On CUDA by way of a pinned buffer that is kept, so the copy runs on its own.

        Reusing the buffer is safe: every call here ends by reading its result back, which waits for the copy."""
        if self._device.type != "cuda":
            return tensor.to(self._dtype)
        shape = tuple(tensor.shape)
        if shape not in self._staging:
            with torch.inference_mode(False):  # a buffer born in inference mode could not be written outside
                self._staging[shape] = torch.empty(shape, dtype=torch.float32, pin_memory=True)
        staged = self._staging[shape].copy_(tensor)
        return staged.to(self._device, non_blocking=True).to(self._dtype)

    def _part(self, kind: Any, folder: Folder, name: str) -> Any:
        variant = "fp16" if folder.weights[name].name.endswith(".fp16.safetensors") else None
        part = kind.from_pretrained(
            str(folder.path / name),
            torch_dtype=self._dtype,
            variant=variant,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=True,
        )
        return part.to(self._device).eval()


def _read_doubling(folder: Folder, channels: int) -> Doubling | None:
    """The tensors of the folder's doubling.safetensors. Raises `InvalidModel` where they are not of this model."""
    if folder.doubling is None:
        return None
    shapes = {"kernel": (2, 2, channels, 3, 3, channels), "offset": (2, 2, channels)}
    found = _read_beside(folder.doubling, shapes)
    return found["kernel"], found["offset"]


def _read_turns(folder: Folder, channels: int) -> Tensor | None:
    """The matrices of the folder's turns.safetensors. Raises `InvalidModel` where they are not of this model."""
    if folder.turns is None:
        return None
    found = _read_beside(folder.turns, {"turns": (8, channels, channels)})["turns"]
    if not torch.allclose(found @ found.mT, torch.eye(channels), atol=1e-3):
        raise InvalidModel(f"{folder.turns} holds matrices that are not orthogonal: fit it anew, or remove it")
    return found


def _read_beside(file: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of these names and shapes, float32."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(file)
    except SafetensorError as error:
        raise InvalidModel(f"{file} is no whole safetensors file: {error}") from None
    if {name: tuple(tensor.shape) for name, tensor in found.items()} != wanted:
        raise InvalidModel(f"{file} is not made for this model: fit it anew, or remove it")
    return {name: tensor.float() for name, tensor in found.items()}


def _autoencoder(folder: Folder) -> Any:
    if folder.configs["vae"]["_class_name"] == "LinearStartAutoencoder":
        from raytile.models.autoencoder import LinearStartAutoencoder

        return LinearStartAutoencoder
    from diffusers import AutoencoderKL

    return AutoencoderKL


def _tokenizer(folder: Folder) -> Any:
    from transformers import CLIPTokenizer, PreTrainedTokenizerFast

    kind = CLIPTokenizer if folder.index["tokenizer"][1].startswith("CLIP") else PreTrainedTokenizerFast
    return kind.from_pretrained(str(folder.path / "tokenizer"), local_files_only=True)
