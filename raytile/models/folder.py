"""A diffusers model folder read without torch: JSON files and safetensors headers only, never code, never network."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from raytile.errors import InvalidModel
from raytile.plan.spec import ModelSpec, Prediction, Zoom

Json = dict[str, Any]

CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "LinearStartAutoencoder"),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"),
    "scheduler": (),
}
"""The parts a folder must have and the classes raytile loads them with (any scheduler's config will do)."""

STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")
UNET_MUST_BE_UNSET = ("class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")
LINEAR_START_FACTOR = 8


@dataclass(frozen=True)
class Folder:
    """What was found: configs by part, each part's weight file, and the names of all files that decide pixels."""

    path: Path
    index: Json
    configs: dict[str, Json]
    weights: dict[str, Path]
    extra: Json

    def files(self) -> list[str]:
        """Relative names, sorted, of every file that is loaded."""
        names = {"model_index.json", "scheduler/scheduler_config.json"}
        names |= {"raytile.json"} if self.extra else set()
        names |= {f"{part}/config.json" for part in STEMS}
        names |= {file.relative_to(self.path).as_posix() for file in self.weights.values()}
        names |= {f"tokenizer/{file.name}" for file in (self.path / "tokenizer").iterdir() if file.is_file()}
        return sorted(names)


def read_spec(path: Path, name: str | None = None) -> ModelSpec:
    """The spec of a Stable Diffusion 1.x/2.x folder or of one with a raytile.json (see `OVERRIDES`).

    Raises `InvalidModel`, one line that names the missing part and the fix."""
    folder = read_folder(path)
    unet, vae = folder.configs["unet"], folder.configs["vae"]
    prediction = _prediction(folder.configs["scheduler"])
    linear = vae["_class_name"] == "LinearStartAutoencoder"
    spec = ModelSpec(
        name=name or path.resolve().name,
        kind="folder",
        path=str(path.resolve()),
        digest=digest(folder),
        channels=unet["in_channels"],
        factor=LINEAR_START_FACTOR if linear else 2 ** (len(vae["block_out_channels"]) - 1),
        window=_square(unet.get("sample_size"), path) if "window" not in folder.extra else 0,
        network_stride=2 ** (len(unet["down_block_types"]) - 1),
        decode_halo=vae["decode_halo"] if linear else 16,
        prediction=prediction,
        default_sampler="euler" if prediction == "flow" else "ddim",
        default_steps=30,
        default_guidance=7.5,
        weights_bytes=sum(file.stat().st_size for file in folder.weights.values()),
    )
    spec = _override(spec, folder.extra, path)
    if spec.window % spec.network_stride:
        raise InvalidModel(f"{path}: window {spec.window} is no multiple of the UNet's stride {spec.network_stride}")
    return spec


def read_folder(path: Path) -> Folder:
    """Look at every part of a model folder and check that raytile can load it. Raises `InvalidModel`."""
    if path.is_file():
        raise InvalidModel(f"{path} is a single file: convert it to a diffusers folder and give the folder's path")
    if not path.is_dir():
        raise InvalidModel(f"no such model folder: {path}")
    index = _json(path / "model_index.json", "not a diffusers folder")
    for part in index:
        if part in ("text_encoder_2", "text_encoder_3", "transformer"):
            raise InvalidModel(
                f"{path}: models with {part} (SDXL, SD 3, FLUX) are not supported yet; use SD 1.x or 2.x"
            )
    for part, known in CLASSES.items():
        _check_class(path, part, index.get(part), known)
    configs = {part: _json(path / part / "config.json", f"part {part} is missing") for part in STEMS}
    scheduler = path / "scheduler" / "scheduler_config.json"
    configs["scheduler"] = _json(scheduler, "part scheduler is missing")
    for part in ("unet", "vae"):
        configs[part].setdefault("_class_name", index[part][1])
    weights = {part: _weights(path / part, stem) for part, stem in STEMS.items()}
    _check_tokenizer(path / "tokenizer")
    _check_shapes(path, configs)
    extra = _json(path / "raytile.json", "") if (path / "raytile.json").exists() else {}
    return Folder(path, index, configs, weights, extra)


def digest(folder: Folder) -> str:
    """SHA-256 over the names and contents of all files that are loaded, in sorted order."""
    total = hashlib.sha256()
    for name in folder.files():
        with (folder.path / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        total.update(hashlib.sha256(name.encode()).digest() + content)
    return total.hexdigest()


def check_safetensors(file: Path) -> None:
    """Hold a file's header against its length: a cut download is found before it is loaded. Raises `InvalidModel`."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header: Json = json.loads(stream.read(length)) if length < size else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (struct.error, ValueError, AttributeError, KeyError, TypeError):
        raise InvalidModel(f"{file} is cut short or no safetensors file: copy it again") from None
    if not ends or size != 8 + length + max(ends):
        raise InvalidModel(
            f"{file} has {size} bytes where its header says {8 + length + max(ends, default=0)}: copy it again"
        )


OVERRIDES = frozenset(field.name for field in fields(ModelSpec)) - {
    "name",
    "kind",
    "path",
    "digest",
    "channels",
    "factor",
    "weights_bytes",
}
"""What a folder's raytile.json may say, by the names of `ModelSpec`; zooms as [{"scale": 0.5, "phrase": "region"}]."""


def _override(spec: ModelSpec, extra: Json, path: Path) -> ModelSpec:
    unknown = sorted(set(extra) - OVERRIDES)
    if unknown:
        raise InvalidModel(f"{path}/raytile.json: unknown key {unknown[0]!r}; known are {', '.join(sorted(OVERRIDES))}")
    values = dict(extra)
    if values.get("prediction", spec.prediction) != spec.prediction:
        raise InvalidModel(f"{path}/raytile.json: prediction differs from the scheduler config's ({spec.prediction})")
    try:
        if "zooms" in values:
            values["zooms"] = tuple(Zoom(float(zoom["scale"]), str(zoom["phrase"])) for zoom in values["zooms"])
        if "guidance_interval" in values:
            first, last = values["guidance_interval"]
            values["guidance_interval"] = (float(first), float(last))
        for name in ("window", "network_stride", "decode_halo", "default_steps", "micro_batch"):
            if name in values:
                values[name] = int(values[name])
    except (TypeError, ValueError, KeyError):
        raise InvalidModel(f"{path}/raytile.json: zooms, guidance_interval or a number is malformed") from None
    spec = replace(spec, **values)
    if spec.window < 1 or spec.micro_batch < 1 or spec.decode_halo < 0 or spec.default_steps < 1:
        raise InvalidModel(f"{path}/raytile.json: window, micro_batch and default_steps must be positive")
    return spec


def _json(file: Path, otherwise: str) -> Json:
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        raise InvalidModel(f"{otherwise}: {file} does not exist; save the whole pipeline again") from None
    except (OSError, ValueError) as error:
        raise InvalidModel(f"{file} cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise InvalidModel(f"{file} is not a JSON object")
    return content


def _check_class(path: Path, part: str, entry: Any, known: tuple[str, ...]) -> None:
    if not entry or entry[1] is None:
        raise InvalidModel(f"{path}: part {part} is missing in model_index.json; save the whole pipeline again")
    library, kind = entry
    if library not in ("diffusers", "transformers", "raytile.models.autoencoder") or (known and kind not in known):
        wanted = " or ".join(known) if known else "a diffusers scheduler"
        raise InvalidModel(
            f"{path}: {part} is a {library}.{kind}; raytile loads {wanted} there and runs no foreign code"
        )


def _weights(folder: Path, stem: str) -> Path:
    for name in (f"{stem}.safetensors", f"{stem}.fp16.safetensors"):
        if (folder / name).exists():
            check_safetensors(folder / name)
            return folder / name
    if (folder / f"{stem}.safetensors.index.json").exists():
        raise InvalidModel(f"{folder}: sharded weights are not supported yet; save with a larger max_shard_size")
    pickles = [file.name for pattern in PICKLES for file in folder.glob(pattern)]
    if pickles:
        raise InvalidModel(f"{folder} has pickled weights only ({pickles[0]}): convert to safetensors")
    raise InvalidModel(f"part {folder.name} is missing: {folder}/{stem}.safetensors does not exist")


def _check_tokenizer(folder: Path) -> None:
    whole = (folder / "tokenizer.json").exists()
    if not whole and not ((folder / "vocab.json").exists() and (folder / "merges.txt").exists()):
        raise InvalidModel(f"part tokenizer is missing: {folder} needs tokenizer.json, or vocab.json and merges.txt")


def _check_shapes(path: Path, configs: dict[str, Json]) -> None:
    unet, vae, text = configs["unet"], configs["vae"], configs["text_encoder"]
    if unet.get("addition_embed_type") not in (None, "text"):
        raise InvalidModel(f"{path}: UNets with {unet['addition_embed_type']} embeddings (SDXL) are not supported yet")
    for name in UNET_MUST_BE_UNSET:
        if unet.get(name) is not None:
            raise InvalidModel(f"{path}: UNets with {name} are not supported yet; use a plain SD 1.x or 2.x folder")
    channels = vae.get("latent_channels", 4)
    if unet["in_channels"] != channels or unet.get("out_channels", channels) != channels:
        raise InvalidModel(
            f"{path}: the UNet takes {unet['in_channels']} channels, the VAE has {channels}; "
            "inpainting and other conditioned UNets are not supported yet"
        )
    width = unet.get("cross_attention_dim")
    if width != text.get("hidden_size"):
        raise InvalidModel(
            f"{path}: the UNet attends to width {width}, the text encoder gives {text.get('hidden_size')}"
        )


def _prediction(scheduler: Json) -> Prediction:
    if scheduler.get("_class_name", "").startswith("FlowMatch"):
        return "flow"
    kind: str = scheduler.get("prediction_type", "epsilon")
    known: dict[str, Prediction] = {
        "epsilon": "epsilon",
        "v_prediction": "v_prediction",
        "sample": "sample",
        "flow_prediction": "flow",
    }
    if kind not in known:
        raise InvalidModel(f"scheduler config: prediction_type {kind!r} is not one of {', '.join(known)}")
    return known[kind]


def _square(size: Any, path: Path) -> int:
    if isinstance(size, list) and len(set(size)) == 1:
        size = size[0]
    if not isinstance(size, int):
        raise InvalidModel(f"{path}/unet/config.json: sample_size must be one integer, not {size!r}")
    return size
