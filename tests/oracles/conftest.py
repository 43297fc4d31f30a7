"""The tiny model on which recordings were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.oracles.tiny import tiny_model


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_8(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Folder and pipeline of the tiny model with windows of 8 cells."""
    folder = tmp_path_factory.mktemp("oracles") / "tiny-8"
    return folder, tiny_model(folder, window=8)


@pytest.fixture(scope="session")
def tiny_16(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The same with windows of 16 cells."""
    folder = tmp_path_factory.mktemp("oracles") / "tiny-16"
    return folder, tiny_model(folder, window=16)
