"""Model names to specs (no torch), specs to loaded modules (torch, in workers)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from raytile.errors import InvalidModel
from raytile.models.folder import digest, read_spec
from raytile.models.parts import read_folder
from raytile.models.toy import timed_spec, toy_spec
from raytile.plan.spec import ModelSpec

if TYPE_CHECKING:
    from raytile.models.base import Module

TERRA = Path(__file__).parent / "terra"
NAMES = ("terra", "toy", "timed")


def resolve(name: str) -> ModelSpec:
    """The spec of a built-in model or of a diffusers folder. Raises `InvalidModel`."""
    if name == "terra":
        return read_spec(TERRA, "terra")
    if name == "toy":
        return toy_spec()
    if name == "timed" or name.startswith("timed:"):
        return timed_spec(name)
    path = Path(name).expanduser()
    if not path.exists():
        raise InvalidModel(
            f"no model {name!r}: the built-in ones are {', '.join(NAMES)}; a path to a diffusers folder works too"
        )
    return read_spec(path)


def available() -> list[ModelSpec]:
    """The built-in models that are whole in this installation."""
    specs = []
    for name in NAMES:
        try:
            specs.append(resolve(name))
        except InvalidModel:
            continue
    return specs


def load(spec: ModelSpec, device: str = "cpu", dtype: str = "float32") -> Module:
    """The module a spec speaks of, on this machine. Raises `InvalidModel` if the folder here has other contents."""
    if spec.kind == "toy":
        from raytile.models.toy import Toy

        return Toy(spec, device, dtype)
    if spec.kind == "timed":
        from raytile.models.toy import Timed

        return Timed(spec, device, dtype)
    from raytile.models.latent_diffusion import LatentDiffusion

    folder = read_folder(Path(spec.path) if spec.path else TERRA)
    if digest(folder) != spec.digest:
        raise InvalidModel(
            f"{folder.path} is not the model that was planned with: copy the same folder to every machine"
        )
    return LatentDiffusion(spec, folder, device, dtype)
