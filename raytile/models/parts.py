"""The parts of a model folder: found, held against what raytile can load, refused with one clear line.

JSON files and safetensors headers only: never torch, never code from the folder, never the network."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytile.errors import InvalidModel
from raytile.models.control import CHANNELS as CONTROL_CHANNELS

Json = dict[str, Any]

CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "LinearStartAutoencoder"),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"),
    "scheduler": (),
}
"""The parts a folder must have and the classes raytile loads them with (any scheduler's config will do)."""

DOUBLING, TURNING = "doubling.safetensors", "turns.safetensors"
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
MAX_HEADER = 100_000_000
PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")
UNET_MUST_BE_UNSET = ("class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")
UNET_KEYS = ("in_channels", "out_channels", "cross_attention_dim", "down_block_types", "sample_size")
LIBRARIES = ("diffusers", "transformers", "raytile", "raytile.models.autoencoder")
NEEDED = {
    "AutoencoderKL": {"unet": UNET_KEYS, "vae": ("latent_channels", "block_out_channels")},
    "LinearStartAutoencoder": {"unet": UNET_KEYS, "vae": ("latent_channels", "decode_halo", "encoder_blocks")},
}
LISTS = ("down_block_types", "block_out_channels")
NUMBERS = {"in_channels": 1, "out_channels": 1, "cross_attention_dim": 1, "latent_channels": 1, "decode_halo": 0}
NUMBERS |= {"encoder_blocks": 0}
"""The least that each may be. `sample_size` is looked at when it is used."""


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
        names |= {DOUBLING} if self.doubling is not None else set()
        names |= {TURNING} if self.turns is not None else set()
        names |= {f"{part}/config.json" for part in STEMS}
        names |= {file.relative_to(self.path).as_posix() for file in self.weights.values()}
        names |= {f"tokenizer/{file.name}" for file in (self.path / "tokenizer").iterdir() if file.is_file()}
        return sorted(names)

    @property
    def doubling(self) -> Path | None:
        """How latents double (see `Module.doubling`), where the folder knows."""
        file = self.path / DOUBLING
        return file if file.is_file() else None

    @property
    def turns(self) -> Path | None:
        """How latents turn (see `Module.turns`), where the folder knows."""
        file = self.path / TURNING
        return file if file.is_file() else None


def read_folder(path: Path) -> Folder:
    """Look at every part of a model folder and check that raytile can load it. Raises `InvalidModel`."""
    if path.is_file():
        raise InvalidModel(f"{path} is a single file: convert it to a diffusers folder and give the folder's path")
    if not path.is_dir():
        raise InvalidModel(f"no such model folder: {path}")
    index = read_json(path / "model_index.json", "not a diffusers folder")
    for part in index:
        if part in ("text_encoder_2", "text_encoder_3", "transformer"):
            raise InvalidModel(
                f"{path}: models with {part} (SDXL, SD 3, FLUX) are not supported yet; use SD 1.x or 2.x"
            )
    for part, known in CLASSES.items():
        _check_class(path, part, index.get(part), known)
    configs = {part: read_json(path / part / "config.json", f"part {part} is missing") for part in STEMS}
    scheduler = path / "scheduler" / "scheduler_config.json"
    configs["scheduler"] = read_json(scheduler, "part scheduler is missing")
    for part in ("unet", "vae"):
        configs[part]["_class_name"] = index[part][1]
    for beside in (DOUBLING, TURNING):
        if (path / beside).exists():
            check_safetensors(path / beside)
    weights = {part: _weights(path / part, stem) for part, stem in STEMS.items()}
    _check_tokenizer(path / "tokenizer")
    extra = read_json(path / "raytile.json", "") if (path / "raytile.json").exists() else {}
    _check_shapes(path, configs, CONTROL_CHANNELS if extra.get("control") else 0)
    return Folder(path, index, configs, weights, extra)


def check_safetensors(file: Path) -> None:
    """Hold a file's header against its length: a cut download is found before it is loaded. Raises `InvalidModel`."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header: Json = json.loads(stream.read(min(length, MAX_HEADER)))
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        whole = file.stat().st_size == 8 + length + end
    except (struct.error, ValueError, AttributeError, LookupError, TypeError, OverflowError, MemoryError):
        whole = False
    if not whole:
        raise InvalidModel(f"{file} is cut short or no safetensors file: copy it again")


def read_json(file: Path, otherwise: str) -> Json:
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        raise InvalidModel(f"{otherwise}: {file} does not exist; save the whole pipeline again") from None
    except (OSError, ValueError) as error:
        raise InvalidModel(f"{file} cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise InvalidModel(f"{file} is not a JSON object")
    return content


def whole(config: Json, key: str, where: str, least: int = 1, most: int | None = None) -> int:
    """A whole number of a config, held against its range. Raises `InvalidModel`."""
    value = config[key]
    if type(value) is not int or value < least or (most is not None and value > most):  # True is an int, too
        span = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InvalidModel(f"{where}: {key} must be a whole number {span}, not {json.dumps(value)}")
    return value


def _check_class(path: Path, part: str, entry: Any, known: tuple[str, ...]) -> None:
    if not entry or entry == [None, None]:
        raise InvalidModel(f"{path}: part {part} is missing in model_index.json; save the whole pipeline again")
    if not isinstance(entry, list) or len(entry) != 2:
        raise InvalidModel(f"{path}/model_index.json: {part} must be [library, class], not {entry!r}")
    library, kind = entry
    if library not in LIBRARIES or (known and kind not in known):
        wanted = " or ".join(known) if known else "a diffusers scheduler"
        raise InvalidModel(
            f"{path}: {part} is a {library}.{kind}; raytile loads {wanted} there and runs no foreign code"
        )


def _weights(folder: Path, stem: str) -> Path:
    # First, since diffusers prefers an index's shards to the single file beside it: neither checked nor digested.
    shards = sorted(file.name for file in folder.glob(f"{stem}*safetensors*index*.json"))
    if shards:
        raise InvalidModel(
            f"{folder}: sharded weights ({shards[0]}) are not supported yet; save with a larger max_shard_size, "
            "or delete the index if the single file is whole"
        )
    if (folder / "adapter_config.json").exists():  # transformers would load its weights as well
        raise InvalidModel(f"{folder}: adapters are not supported yet; merge adapter_config.json's into the weights")
    for name in (f"{stem}.safetensors", f"{stem}.fp16.safetensors"):
        if (folder / name).exists():
            check_safetensors(folder / name)
            return folder / name
    pickles = [file.name for pattern in PICKLES for file in folder.glob(pattern)]
    if pickles:
        raise InvalidModel(f"{folder} has pickled weights only ({pickles[0]}): convert to safetensors")
    raise InvalidModel(f"part {folder.name} is missing: {folder}/{stem}.safetensors does not exist")


def _check_tokenizer(folder: Path) -> None:
    whole = (folder / "tokenizer.json").exists()
    if not whole and not ((folder / "vocab.json").exists() and (folder / "merges.txt").exists()):
        raise InvalidModel(f"part tokenizer is missing: {folder} needs tokenizer.json, or vocab.json and merges.txt")


def _check_type(config: Json, key: str, where: str) -> None:
    if key in LISTS and not (isinstance(config[key], list) and config[key]):
        raise InvalidModel(f"{where}: {key} must be a list with an entry a level, not {json.dumps(config[key])}")
    if key in NUMBERS:
        whole(config, key, where, least=NUMBERS[key])


def _check_shapes(path: Path, configs: dict[str, Json], control: int) -> None:
    unet, vae, text = configs["unet"], configs["vae"], configs["text_encoder"]
    for part, keys in NEEDED[vae["_class_name"]].items():
        for key in keys:
            if key not in configs[part]:
                raise InvalidModel(f"{path}/{part}/config.json lacks {key}; save the model again with diffusers")
            _check_type(configs[part], key, f"{path}/{part}/config.json")
    if unet.get("addition_embed_type") not in (None, "text"):
        raise InvalidModel(f"{path}: UNets with {unet['addition_embed_type']} embeddings (SDXL) are not supported yet")
    for name in UNET_MUST_BE_UNSET:
        if unet.get(name) is not None:
            raise InvalidModel(f"{path}: UNets with {name} are not supported yet; use a plain SD 1.x or 2.x folder")
    channels = vae["latent_channels"]
    if unet["in_channels"] != channels + control or unet["out_channels"] != channels:
        steered = f", a control has {control}" if control else ""
        raise InvalidModel(
            f"{path}: the UNet takes {unet['in_channels']} channels, the VAE has {channels}{steered}; "
            "inpainting and other conditioned UNets are not supported yet"
        )
    width = unet["cross_attention_dim"]
    if width != text.get("hidden_size"):
        raise InvalidModel(
            f"{path}: the UNet attends to width {width}, the text encoder gives {text.get('hidden_size')}"
        )
