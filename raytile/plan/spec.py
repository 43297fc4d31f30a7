"""What the plan must know of a model: a few integers and defaults, read from its folder without loading weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Prediction = Literal["epsilon", "v_prediction", "flow", "sample"]
SAMPLERS = ("ddim", "euler", "euler_ancestral", "dpmpp_2m")


@dataclass(frozen=True)
class Zoom:
    """A scale at which the model was trained, and the words that ask for it in a prompt.

    `scale` is relative to the finest the model knows (1.0)."""

    scale: float
    phrase: str


@dataclass(frozen=True)
class ModelSpec:
    """The shape of a model as the plan sees it. Lengths are in latent cells unless they say pixels.

    `path` is where this machine finds the folder ("" for built-in models, found by `name`); it is not part of the
    identity, `digest` (SHA-256 over the folder's files, names included) is.
    `decode_halo` is how far around a tile the decoder looks. For a decoder of convolutions alone (terra, toy) a tile's
    pixels then come out as in a whole decode. AutoencoderKL (Stable Diffusion) sees all of what it is given, by group
    norms and an attention in its middle: with any halo its tiles differ from a whole decode, and step where they meet.
    With random weights, on 64 x 64 cells in tiles of 16: by 3 % of the picture's spread and no larger steps on even
    noise, by 27 % and steps 23 % larger on noise that grows brighter and stronger across (test_tile_decode.py).
    `encode_halo` is the same of the encoder, which takes a source's pixels to latents: AutoencoderKL's differ by 31 %
    of the latents' spread where colours drift (test_encode.py).
    `control` is what pictures can steer the model: "" (none) or "land" (one channel: 1 is land, 0 is water).
    `weights_bytes` the size of the weights at rest, for memory estimates.
    `guidance_interval` is the share [a, b) of the step index in which guidance applies (1.0 elsewhere)."""

    name: str
    kind: str
    path: str
    digest: str
    channels: int
    factor: int
    window: int
    network_stride: int
    decode_halo: int
    prediction: Prediction
    default_sampler: str
    default_steps: int
    default_guidance: float
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    micro_batch: int = 4
    zooms: tuple[Zoom, ...] = ()
    renoise: float = 0.65
    encode_halo: int = 0
    control: str = ""
    weights_bytes: int = 0

    def identity(self) -> dict[str, Any]:
        """All that decides pixels, as plain JSON values."""
        data = asdict(self)
        for where in ("path", "weights_bytes"):
            del data[where]
        return data


def samplers_for(prediction: Prediction) -> tuple[str, ...]:
    """The samplers that can use what a network predicts; rectified flow has no variance-preserving form here."""
    return ("euler", "dpmpp_2m") if prediction == "flow" else SAMPLERS
