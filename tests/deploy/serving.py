"""Lints a serveConfigV2: Ray's own models take misspelt names in silence, and the service then runs without them."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError


def problems(text: str) -> list[str]:
    """What is wrong with the text of a serveConfigV2, one line each: names, types, and the args of raytile."""
    from ray.serve.schema import ServeDeploySchema

    config = yaml.safe_load(text)
    if not isinstance(config, dict):
        return ["serveConfigV2: not a mapping"]
    found = list(_unknown(config, ServeDeploySchema, "serveConfigV2"))
    try:
        ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        found += [f"serveConfigV2.{_at(one['loc'])}: {one['msg']}" for one in error.errors()]
    if not found:
        for application in config["applications"]:
            if application["import_path"] == "raytile.serve:build":
                found += _args(application.get("args", {}))
    return found


def _args(args: dict[str, Any]) -> Iterator[str]:
    from raytile.errors import InvalidRequest
    from raytile.serve.deployment import Args
    from raytile.serve.settings import Settings

    try:
        Settings.load(**Args.model_validate(args).settings)
    except ValidationError as error:
        for one in error.errors():
            yield f"args.{_at(one['loc'])}: {one['msg']}"
    except InvalidRequest as error:
        yield f"args.settings: {error}"


def _unknown(value: Any, kind: Any, path: str) -> Iterator[str]:
    """Names in `value` that no model in the annotation `kind` knows."""
    models = _models(kind)
    if isinstance(value, list):
        for at, one in enumerate(value):
            yield from _unknown(one, kind, f"{path}[{at}]")
    elif isinstance(value, dict) and models:
        fields = {name: field.annotation for model in models for name, field in model.model_fields.items()}
        for name, one in value.items():
            if name not in fields:
                near = get_close_matches(str(name), fields, 1)
                yield f"{path}.{name}: no such name" + (f": did you mean {near[0]}?" if near else "")
            else:
                yield from _unknown(one, fields[name], f"{path}.{name}")


def _models(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for inner in get_args(kind) for model in _models(inner)]


def _at(place: tuple[int | str, ...]) -> str:
    return ".".join(map(str, place))
