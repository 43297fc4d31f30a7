"""From a diffusers model folder to the spec that plans are made of, without torch."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from raytile.errors import InvalidModel
from raytile.models.control import CONTROLS, SUB_CELLS
from raytile.models.parts import Folder, Json, read_folder, whole
from raytile.plan.spec import ModelSpec, Prediction, Zoom, samplers_for

LINEAR_START_FACTOR = 8


def read_spec(path: Path, name: str | None = None) -> ModelSpec:
    """The spec of a Stable Diffusion 1.x/2.x folder or of one with a raytile.json (see `OVERRIDES`).

    A `name` is a built-in model's: its spec names no path, since every installation has its own.
    Raises `InvalidModel`, one line that names the missing part and the fix."""
    folder = read_folder(path)
    unet, vae = folder.configs["unet"], folder.configs["vae"]
    prediction = _prediction(folder.configs["scheduler"], f"{path}/scheduler/scheduler_config.json")
    linear = vae["_class_name"] == "LinearStartAutoencoder"
    spec = ModelSpec(
        name=name or path.resolve().name,
        kind="folder",
        path="" if name else str(path.resolve()),
        digest=digest(folder),
        channels=vae["latent_channels"],
        factor=LINEAR_START_FACTOR if linear else 2 ** (len(vae["block_out_channels"]) - 1),
        window=_square(unet["sample_size"], path) if "window" not in folder.extra else 0,
        network_stride=2 ** (len(unet["down_block_types"]) - 1),
        decode_halo=vae["decode_halo"] if linear else 16,
        encode_halo=encode_halo(vae["encoder_blocks"]) if linear else 16,
        prediction=prediction,
        default_sampler="euler" if prediction == "flow" else "ddim",
        default_steps=30,
        default_guidance=7.5,
        weights_bytes=sum(file.stat().st_size for file in folder.weights.values()),
    )
    spec = _override(spec, folder.extra, path)
    if spec.control and spec.factor % SUB_CELLS:
        raise InvalidModel(f"{path}: {spec.factor} pixels a cell are not divided by a control's {SUB_CELLS} sub-cells")
    if spec.window % spec.network_stride:
        raise InvalidModel(f"{path}: window {spec.window} is no multiple of the UNet's stride {spec.network_stride}")
    return spec


def encode_halo(encoder_blocks: int) -> int:
    """Cells to each side that a cell of `LinearStartAutoencoder.encode` depends on: two 3 x 3 convolutions a block."""
    return 2 * encoder_blocks


def digest(folder: Folder) -> str:
    """SHA-256 over the names and contents of all files that are loaded, in sorted order.

    A file that has not changed since this process last read it (by size and times) is not read again."""
    total = hashlib.sha256()
    for name in folder.files():
        file = (folder.path / name).resolve()
        now = file.stat()
        content = _content(file, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        total.update(hashlib.sha256(name.encode()).digest() + content)
    return total.hexdigest()


@lru_cache(maxsize=1024)
def _content(file: Path, _size: int, _modified: int, _changed: int) -> bytes:
    """SHA-256 of a file as it was at those times (in nanoseconds)."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


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


WHOLE: dict[str, tuple[int, int | None]] = {"window": (1, None), "network_stride": (1, None), "decode_halo": (0, None)}
WHOLE |= {"encode_halo": (0, None)}
WHOLE |= {"default_steps": (1, 500), "micro_batch": (1, 256)}
"""Whole numbers of a raytile.json and their ranges: where a request may say the same, its own."""


def _override(spec: ModelSpec, extra: Json, path: Path) -> ModelSpec:
    where = f"{path}/raytile.json"
    unknown = sorted(set(extra) - OVERRIDES)
    if unknown:
        raise InvalidModel(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(OVERRIDES))}")
    values = dict(extra)
    if values.get("prediction", spec.prediction) != spec.prediction:
        raise InvalidModel(f"{where}: prediction differs from the scheduler config's ({spec.prediction})")
    for name, (least, most) in WHOLE.items():
        if name in values:
            whole(values, name, where, least, most)
    if "default_guidance" in values and not 0 <= _number(values["default_guidance"]) <= 100:
        raise InvalidModel(f"{where}: default_guidance must be a number from 0 to 100")
    if "renoise" in values and not 0 < _number(values["renoise"]) <= 1:
        raise InvalidModel(f"{where}: renoise must be a share of the steps: more than 0, at most 1")
    for name in ("default_guidance", "renoise"):
        if name in values:
            values[name] = float(values[name])
    if "guidance_interval" in values:
        values["guidance_interval"] = _interval(values["guidance_interval"], where)
    if values.get("control", "") not in CONTROLS:
        raise InvalidModel(f'{where}: control must be "land" or left away, not {json.dumps(values["control"])}')
    if "zooms" in values:
        values["zooms"] = _zooms(values["zooms"], where)
    spec = replace(spec, **values)
    if spec.default_sampler not in samplers_for(spec.prediction):
        usable = ", ".join(samplers_for(spec.prediction))
        raise InvalidModel(f"{where}: default_sampler must be one of {usable}")
    return spec


def _number(value: Any) -> float:
    """A JSON number; anything else becomes NaN, which lies in no range."""
    return float(value) if type(value) in (int, float) else math.nan


def _interval(value: Any, where: str) -> tuple[float, float]:
    if isinstance(value, list) and len(value) == 2:
        first, last = map(_number, value)
        if 0 <= first < last <= 1:
            return first, last
    raise InvalidModel(f"{where}: guidance_interval must be two rising shares in [0, 1], not {json.dumps(value)}")


def _zooms(value: Any, where: str) -> tuple[Zoom, ...]:
    zooms = []
    for entry in value if isinstance(value, list) else [value]:
        known = isinstance(entry, dict) and set(entry) == {"scale", "phrase"}
        if not (known and 0 < _number(entry["scale"]) < math.inf and isinstance(entry["phrase"], str)):
            raise InvalidModel(f'{where}: zooms must be like [{{"scale": 0.5, "phrase": "region"}}], scales above 0')
        zooms.append(Zoom(float(entry["scale"]), entry["phrase"]))
    return tuple(zooms)


def _prediction(scheduler: Json, where: str) -> Prediction:
    if "num_train_timesteps" in scheduler:
        whole(scheduler, "num_train_timesteps", where)
    kind, parent = scheduler.get("prediction_type", "epsilon"), scheduler.get("_class_name", "")
    if not isinstance(kind, str) or not isinstance(parent, str):
        raise InvalidModel(f"{where}: prediction_type and _class_name must be words")
    if parent.startswith("FlowMatch"):
        return "flow"
    known: dict[str, Prediction] = {
        "epsilon": "epsilon",
        "v_prediction": "v_prediction",
        "sample": "sample",
        "flow_prediction": "flow",
    }
    if kind not in known:
        raise InvalidModel(f"{where}: prediction_type {kind!r} is not one of {', '.join(known)}")
    return known[kind]


def _square(size: Any, path: Path) -> int:
    if isinstance(size, list) and size and size.count(size[0]) == len(size):
        size = size[0]
    if type(size) is not int or size < 1:
        raise InvalidModel(f"{path}/unet/config.json: sample_size must be one whole number, not {json.dumps(size)}")
    return size
