"""Training of the autoencoder: stage A (both halves, from PCA), then stage B (decoder alone, latents fixed)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raytile.models.autoencoder import PATCH, LinearStartAutoencoder
from raytile.train.world import SCALES, World, draw_place, plain_crop

ZOOM_SHARES = (0.4, 0.3, 0.2, 0.1)
SATELLITE_SHARE = 0.6
