"""Scene files: a request as people write it, in YAML or JSON, with words of their own for parts of the picture.

A scene has the fields of `RenderRequest`, and for people: `size` ("4096x2048"; one number for the faces of a cube),
`style` (words set before the prompt and those of every region), `units` ("share": shapes in fractions of width and
height, feathers of the shorter side), a `name` for a region, a path alone for a picture, `topology: tileset:FILE.json`.
Paths are relative to the scene file. Imports nothing heavy until it is called."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytile.errors import SHOWN, InvalidRequest, RaytileError, first_line, shown

if TYPE_CHECKING:
    from pydantic import ValidationError

    from raytile.plan.request import RenderRequest
    from raytile.plan.scene import Shape

TILESET = "tileset:"
OF_PEOPLE = ("size", "style", "units")
PICTURES = ("source", "control")
SHAPES = ("regions", "repaint")
UNITS = ("pixels", "share")
MOST = 2**24
"""Characters of a scene file."""


@dataclass(frozen=True)
class Layer:
    """Some fields of a request, and `where` they stand, for errors ("" for options of the command)."""

    where: str
    values: Mapping[str, Any]

    def fault(self, words: str) -> InvalidRequest:
        return InvalidRequest(f"{self.where}: {words}" if self.where else words)


def read_scene(file: str | Path) -> Layer:
    """Read a scene file: JSON by its ending, else YAML; raises `InvalidRequest`, one line with file, field and fix."""
    path, where = Path(file), str(file)
    try:
        with path.open(encoding="utf-8") as opened:
            text = opened.read(MOST + 1)
    except OSError as error:
        raise InvalidRequest(f"{where} cannot be read ({error.strerror}): give a scene file of YAML or JSON") from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{where} is not UTF-8 text ({error.reason})") from None
    if len(text) > MOST:
        raise InvalidRequest(f"{where} is too long for a scene: at most {MOST} characters, use masks for fine shapes")
    return layer(_parsed(text, path), where, path.parent)


def layer(values: object, where: str = "", folder: str | Path = "") -> Layer:
    """Check the names of all fields and set paths against `folder`; raises `InvalidRequest`, starting with `where`."""
    from raytile.plan.request import RenderRequest

    made = Layer(where, _mapping(values, Layer(where, {}), "a scene"))
    _known(made, made.values, (*RenderRequest.model_fields, *OF_PEOPLE))
    given, at = dict(made.values), Path(folder)
    for name in PICTURES:
        if name in given:
            given[name] = _picture(given[name], at)
    for name in SHAPES:
        if name in given:
            known = (*_kind(name).model_fields, "name")
            given[name] = [_shape(made, words, one, known, at) for words, one in _numbered(made, name)]
    for name in ("topology", "tileset"):
        found = given.get(name)
        if isinstance(found, str) and (name == "tileset" or _names_tileset(found)):
            file = found[len(TILESET) :] if _names_tileset(found) else found
            if not file:
                raise made.fault(f"{name}: name its file, such as tileset:set.json")
            given[name] = TILESET + _placed(file, at)
    return Layer(where, given)


def settle(*layers: Layer) -> RenderRequest:
    """The request that the layers make together, of each field the last word; sizes found where none is given.

    Raises `InvalidRequest`, naming the layer that is at fault."""
    from raytile.plan.request import RenderRequest

    values, origin = _merged(layers)
    last = layers[-1]
    style, units = values.pop("style", ""), {name: values.pop(f"units of {name}", "pixels") for name in SHAPES}
    side = values.pop("side", None)
    if not isinstance(style, str):
        raise origin["style"].fault(f"style: must be words (got {shown(style)})")
    topology = values.get("topology")
    if isinstance(topology, str) and topology.startswith(TILESET):
        values["tileset"] = values.pop("topology")
    values.update(_size(values, origin, side, last))
    for name in SHAPES:
        if name in values:
            values[name] = _in_pixels(values, origin, name, units[name], style)
    if style:
        values["prompt"] = _styled(style, values.get("prompt", ""))
    try:
        return RenderRequest.parse(**values)
    except InvalidRequest as error:
        field = re.split(r"[.:]", str(error), maxsplit=1)[0]
        if field == "prompt" and "prompt" not in values:
            raise last.fault("prompt: missing: give it as the argument, or in the scene or line") from None
        raise origin.get(field, Layer("", {})).fault(str(error)) from None


def _names_tileset(text: str) -> bool:
    return text[: len(TILESET)].lower() == TILESET


def sides(at: Layer) -> dict[str, Any]:
    """What `size` of a layer says: width and height, and the `side` of a cube's face if it is one number."""
    size = at.values["size"]
    for name in ("width", "height"):
        if name in at.values:
            raise at.fault(f"size: stands beside {name}: leave one of them out")
    if isinstance(size, list | tuple) and len(size) == 2:
        return {"width": size[0], "height": size[1]}
    if not isinstance(size, str | int):
        raise at.fault(f"size: write WIDTHxHEIGHT in pixels, such as 2048x1024 (got {shown(size)})")
    text = shown(size) if isinstance(size, int) else size.strip()
    if text.isdecimal() and len(text) < 10:
        return {"width": 3 * int(text), "height": 2 * int(text), "side": text}
    try:
        return dict(zip(("width", "height"), parse_size(text), strict=True))
    except InvalidRequest as error:
        raise at.fault(str(error)) from None


def parse_size(text: str) -> tuple[int, int]:
    """`2048x1024` as (width, height); raises `InvalidRequest`."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*[xX×]\s*(\d{1,9})\s*", text)
    if match is None:
        raise InvalidRequest(f"size: write WIDTHxHEIGHT in pixels, such as 2048x1024 (got {shown(text)})")
    return int(match[1]), int(match[2])


def _parsed(text: str, path: Path) -> object:
    if path.suffix.lower() == ".json":
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{path}: not JSON ({error})") from None
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InvalidRequest(f"{path}: {line}not YAML ({error.problem})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path}: not YAML ({first_line(error)})") from None


def _mapping(values: object, at: Layer, what: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise at.fault(f"{what} has named fields, such as prompt: islands (got {shown(values)})")
    return values


def _known(at: Layer, names: Iterable[str], known: Iterable[str]) -> None:
    known = tuple(known)
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise at.fault(f"{name}: no such field" + (f": did you mean {near[0]}?" if near else ""))


def _numbered(at: Layer, name: str) -> list[tuple[str, object]]:
    """The members of a list of shapes, each with the words that an error calls it by."""
    found = at.values[name]
    if not isinstance(found, list | tuple):
        raise at.fault(f"{name}: must be a list (got {shown(found)})")
    return [(_called(name, number, one), one) for number, one in enumerate(found, 1)]


def _called(name: str, number: int, one: object) -> str:
    called = one.get("name") if isinstance(one, Mapping) else None
    words = f"{'region' if name == 'regions' else name} {number}"
    return f"{words} ({' '.join(called[:SHOWN].split())})" if called and isinstance(called, str) else words


def _kind(name: str) -> type[Shape]:
    from raytile.plan.scene import Region, Shape

    return Region if name == "regions" else Shape


def _shape(at: Layer, words: str, one: object, known: Iterable[str], folder: Path) -> dict[str, Any]:
    here = Layer(f"{at.where}: {words}" if at.where else words, {})
    given = dict(_mapping(one, here, "it"))
    _known(here, given, known)
    if "mask" in given:
        given["mask"] = _picture(given["mask"], folder)
    return given


def _picture(value: object, folder: Path) -> object:
    """A path, or {"path": ...}, as the request has it; anything else is left for the request to refuse."""
    if isinstance(value, str | Path):
        value = {"path": str(value)}
    if isinstance(value, Mapping) and isinstance(value.get("path"), str):
        return {**value, "path": _placed(value["path"], folder)}
    return value


def _placed(path: str, folder: Path) -> str:
    """Absolute: a canvas made of this picture may be asked from elsewhere."""
    return path if "://" in path or not path else str((folder / path).absolute())


def _merged(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[str, Layer]]:
    """Each field's last word, and the layer that has it; `size` is spelt out, and units go with their shapes."""
    values: dict[str, Any] = {}
    origin: dict[str, Layer] = {}
    for one in layers:
        given = dict(one.values)
        if "size" in given:
            given.update(sides(one))
            del given["size"]
            values.pop("side", None)
        units = given.pop("units", "pixels")
        if units not in UNITS:
            raise one.fault(f"units: {shown(units)} is none of {', '.join(UNITS)}")
        given.update({f"units of {name}": units for name in SHAPES if name in given})
        values.update(given)
        origin.update(dict.fromkeys(given, one))
    return values, origin


def _size(values: Mapping[str, Any], origin: Mapping[str, Layer], side: str | None, last: Layer) -> dict[str, Any]:
    """What of width, height and tileset is still to be found."""
    tileset = values.get("tileset")
    if tileset is not None:
        return _of_tileset(values, origin, tileset)
    if side is not None and values.get("topology") != "cube":
        raise origin["width"].fault(
            f"size: one number is the side of a cube's faces: write {side}x{side}, or take the topology cube"
        )
    missing = [name for name in ("width", "height") if name not in values]
    if len(missing) == 2 and isinstance(values.get("source"), Mapping):
        from pydantic import ValidationError

        from raytile.canvas.inputs import identify
        from raytile.plan.scene import Picture

        try:
            found = identify(Picture.model_validate(values["source"]).path)
        except ValidationError as error:
            raise origin["source"].fault(f"source.{_explained(error)}") from None
        return {"width": found.width, "height": found.height}
    if missing:
        what = "size" if len(missing) == 2 else missing[0]
        raise last.fault(f"{what}: missing: give --size WIDTHxHEIGHT, or a size in the scene or line")
    return {}


def _of_tileset(values: Mapping[str, Any], origin: Mapping[str, Layer], tileset: Any) -> dict[str, Any]:
    """The tileset, read if it is a file, and the size that its pictures take."""
    from raytile.models import registry
    from raytile.plan.scene import Tileset
    from raytile.plan.tilesets import canvas_size, parse_tileset, read_tileset

    for name in ("width", "height"):
        if name in values:
            raise origin[name].fault("size: follows from the pictures of the tileset: leave it out")
    model = values.get("model", "terra")
    if not isinstance(model, str):
        raise origin["model"].fault(f"model: must be a name or a folder (got {shown(model)})")
    try:
        if isinstance(tileset, str):
            tileset = read_tileset(tileset.removeprefix(TILESET))
        elif not isinstance(tileset, Tileset):
            tileset = parse_tileset(tileset)
        width, height = canvas_size(tileset, registry.resolve(model).factor)
    except RaytileError as error:
        raise origin.get("tileset", origin.get("topology", Layer("", {}))).fault(str(error)) from None
    return {"tileset": tileset, "width": width, "height": height}


def _in_pixels(
    values: Mapping[str, Any], origin: Mapping[str, Layer], name: str, units: str, style: str
) -> list[dict[str, Any]]:
    """The shapes of a layer as the request has them, each checked by itself so that errors can name it."""
    from pydantic import ValidationError

    kind = _kind(name)
    shapes = []
    for number, one in enumerate(values[name], 1):
        given = {field: value for field, value in one.items() if field != "name"}
        try:
            kind.model_validate(given)
            if units == "share":
                given = _scaled(given, *(_whole(values, origin, side) for side in ("width", "height")))
                kind.model_validate(given)
        except ValidationError as error:
            raise origin[name].fault(f"{_called(name, number, one)}: {_explained(error)}") from None
        if style and "prompt" in given:
            given["prompt"] = _styled(style, given["prompt"])
        shapes.append(given)
    return shapes


def _whole(values: Mapping[str, Any], origin: Mapping[str, Layer], side: str) -> int:
    found = values[side]
    if not isinstance(found, int) or found < 1:
        raise origin[side].fault(f"{side}: must be a whole number of pixels (got {shown(found)})")
    return found


def _explained(error: ValidationError) -> str:
    """The first thing that is wrong, in one line that begins with the field."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    words = first["msg"].removeprefix("Value error, ")
    return f"{where}: {words} (got {shown(first['input'])})" if where else words


def _scaled(shape: Mapping[str, Any], width: int, height: int) -> dict[str, Any]:
    """A shape in shares of the picture, in pixels."""
    made = dict(shape)
    if shape.get("box") is not None:
        made["box"] = [float(part) * side for part, side in zip(shape["box"], (width, height) * 2, strict=True)]
    if shape.get("polygon") is not None:
        made["polygon"] = [[float(x) * width, float(y) * height] for x, y in shape["polygon"]]
    if shape.get("feather") is not None:
        made["feather"] = float(shape["feather"]) * min(width, height)
    return made


def _styled(style: str, prompt: object) -> object:
    """The prompt with the style's words before it; what is no prompt is left for the request to refuse."""
    if not isinstance(prompt, str):
        return prompt
    return f"{style}, {prompt}" if prompt else style
