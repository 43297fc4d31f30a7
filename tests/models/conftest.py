"""Model folders and modules that are made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raytile.models.base import Module
from raytile.models.registry import load, resolve
from tests.models.make_tiny import tiny_stable_diffusion, tiny_terra


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_stable_diffusion(tmp_path_factory.mktemp("sd") / "tiny-sd")


@pytest.fixture(scope="session")
def terra_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_terra(tmp_path_factory.mktemp("terra") / "tiny-terra")


@pytest.fixture(scope="session")
def land_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of terra's shape that a land mask steers."""
    return tiny_terra(tmp_path_factory.mktemp("land") / "tiny-land", control="land")


@pytest.fixture(scope="session")
def land(land_folder: Path) -> Module:
    return load(resolve(str(land_folder)))


@pytest.fixture(scope="session")
def sd(sd_folder: Path) -> Module:
    return load(resolve(str(sd_folder)))


@pytest.fixture(scope="session")
def terra(terra_folder: Path) -> Module:
    return load(resolve(str(terra_folder)))


@pytest.fixture(scope="session")
def toy() -> Module:
    return load(resolve("toy"))


@pytest.fixture(scope="session")
def modules(toy: Module, sd: Module, terra: Module, land: Module) -> dict[str, Module]:
    return {"toy": toy, "sd": sd, "terra": terra, "land": land}
