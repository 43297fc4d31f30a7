"""How a service is set up: a file (YAML or JSON), variables named RAYTILE_..., and options; the last word wins."""

from __future__ import annotations

import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from raytile.errors import InvalidRequest, shown

PREFIX = "RAYTILE_"
CONFIG = "RAYTILE_CONFIG"
HEAD = "node:__internal_head__"
"""The resource by which Ray knows its head."""
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """All that a service is told.

    store: a directory or s3://BUCKET/PREFIX, where records and canvases lie. keys: whether requests need an API key
    ("auto": where there are any, and always off loopback). models: names that clients may ask for, and what they
    mean; the first is the default. max_*: what a request may ask for, in pixels, steps, regions, bytes (body of JSON,
    upload), unfinished renders (of one key, of all). max_workers: of the service. max_running: renders that are open
    at once, some of them at rest. modules: models that a worker keeps loaded. min_warm, warm_idle_s: workers that are
    kept without work, and for how long the others are. worker_resources: what a worker asks of Ray, such as
    {"num_gpus": 1}. service_resources: what replicas, supervisor and drivers ask for, which do no heavy work: by
    default a sliver of the head, so that nodes of workers may go without ending them. retain_s: seconds after which
    an ended render is removed (None: never). preview_every: steps between previews. cost_per_1000_evaluations: what
    plans quote. price_per_worker_hour: what metrics make a cost of (None: they show none). lease: seconds after which a
    silent driver or supervisor counts as dead. presign: seconds that a link to a finished picture in S3 holds; 0: the
    service streams it itself."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    store: str = Field(default_factory=lambda: str(Path.home() / ".cache" / "raytile" / "service"), min_length=1)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    keys: Literal["auto", "on", "off"] = "auto"
    models: dict[str, str] = Field(default_factory=lambda: {"terra": "terra"}, min_length=1)
    max_pixels: Count = 2**28
    max_side: Count = 2**15
    max_steps: Count = 100
    max_regions: int = Field(default=64, ge=0)
    max_body: Count = 2**20
    max_upload: Count = 64 * 2**20
    max_renders_per_key: Count = 100
    max_queue: Count = 1000
    max_workers: Literal["auto"] | Count = "auto"
    max_running: Count = 16
    modules: Count = 2
    min_warm: int = Field(default=0, ge=0)
    warm_idle_s: Seconds = 60.0
    worker_resources: dict[str, Any] = Field(default_factory=dict)
    service_resources: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default_factory=lambda: {HEAD: 0.001}, min_length=1
    )
    retain_s: Seconds | None = None
    preview_every: int = Field(default=5, ge=0)
    cost_per_1000_evaluations: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    price_per_worker_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    lease: float = Field(default=15.0, gt=0, le=3600, allow_inf_nan=False)
    presign: Seconds = 0.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("models")
    @classmethod
    def _names_are_plain(cls, models: dict[str, str]) -> dict[str, str]:
        for name in models:
            if not name or len(name) > 64 or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
                raise ValueError(f"{shown(name)} is no name for a model: use letters, digits, '-', '_' and '.'")
        return models

    @property
    def default_model(self) -> str:
        return next(iter(self.models))

    @classmethod
    def load(cls, file: str | Path | None = None, **given: Any) -> Settings:
        """Of `file` (else of RAYTILE_CONFIG), the environment, and what is `given` (None: not).

        Raises `InvalidRequest`, one line that names the setting."""
        file = file or os.environ.get(CONFIG, "").strip() or None
        values = {} if file is None else _read(Path(file))
        for name in values:
            if name not in cls.model_fields:
                near = get_close_matches(name, cls.model_fields, 1)
                raise InvalidRequest(
                    f"{file}: {name}: no such setting" + (f": did you mean {near[0]}?" if near else "")
                )
        kept = {name: value for name, value in values.items() if not os.environ.get(f"{PREFIX}{name.upper()}")}
        try:
            return cls(**{**kept, **{name: value for name, value in given.items() if value is not None}})
        except ValidationError as error:
            first = error.errors()[0]
            where = str(first["loc"][0]) if first["loc"] else ""
            words = first["msg"].removeprefix("Value error, ")
            raise InvalidRequest(
                f"{where}: {words} (got {shown(first['input'])}; see {PREFIX}{where.upper()})"
            ) from None
        except SettingsError as error:
            raise InvalidRequest(f"{error}: write it as JSON") from None


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} cannot be read ({error}): give a settings file of YAML or JSON") from None
    try:
        if file.suffix.lower() == ".json":
            found = json.loads(text)
        else:
            import yaml

            try:
                found = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ValueError(" ".join(str(error).split())) from None
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{file}: neither YAML nor JSON ({error})") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InvalidRequest(f"{file}: settings have names, such as max_steps: 50 (got {shown(found)})")
    return found
