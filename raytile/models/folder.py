"""From a diffusers model folder to the spec that plans are made of, without torch."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from raytile.errors import InvalidModel
from raytile.models.parts import Folder, Json, read_folder
from raytile.plan.spec import ModelSpec, Prediction, Zoom, samplers_for

LINEAR_START_FACTOR = 8


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
        window=_square(unet["sample_size"], path) if "window" not in folder.extra else 0,
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


def digest(folder: Folder) -> str:
    """SHA-256 over the names and contents of all files that are loaded, in sorted order."""
    total = hashlib.sha256()
    for name in folder.files():
        with (folder.path / name).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        total.update(hashlib.sha256(name.encode()).digest() + content)
    return total.hexdigest()


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
        for name in ("default_guidance", "renoise"):
            if name in values:
                values[name] = float(values[name])
    except (TypeError, ValueError, KeyError):
        raise InvalidModel(f"{path}/raytile.json: zooms, guidance_interval or a number is malformed") from None
    spec = replace(spec, **values)
    if spec.window < 1 or spec.micro_batch < 1 or spec.decode_halo < 0 or spec.default_steps < 1:
        raise InvalidModel(f"{path}/raytile.json: window, micro_batch and default_steps must be positive")
    if spec.default_sampler not in samplers_for(spec.prediction):
        usable = ", ".join(samplers_for(spec.prediction))
        raise InvalidModel(f"{path}/raytile.json: default_sampler must be one of {usable}")
    return spec


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
