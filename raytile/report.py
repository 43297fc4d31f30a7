"""Figures for people: the tables and lines that the command prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from raytile.geometry.box import Box
from raytile.news import count
from raytile.plan.cost import Cost
from raytile.plan.plan import Plan
from raytile.plan.spec import ModelSpec
from raytile.progress import spell


def size(count: float) -> str:
    """Bytes for people.

    >>> size(4096), size(3_500_000)
    ('4.1 kB', '3.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def plan_figures(plan: Plan, cost: Cost, workers: int) -> dict[str, Any]:
    """All that `raytile plan` foretells, as plain JSON values."""
    return {
        "width": plan.request.width,
        "height": plan.request.height,
        "model": plan.request.model,
        "seed": plan.request.seed,
        "sync": plan.request.sync,
        "sampler": plan.sampler,
        "workers": workers,
        "plan_hash": plan.hash,
        "levels": [
            {
                "width": level.tiling.x.cells * plan.spec.factor,
                "height": level.tiling.y.cells * plan.spec.factor,
                "steps": level.steps - level.first_step,
                "windows": len(plan.windows(level.index, level.first_step)),
            }
            for level in plan.levels
        ],
        "tiles_total": plan.tiling.count,
        "tiles_painted": int(plan.active.sum()) if plan.partial else plan.tiling.count,
        "sides": _sides(plan),
        "strips": strips(plan),
        "regions": len(plan.request.regions),
        "source": None if plan.request.source is None else plan.request.source.path,
        "strength": plan.request.strength,
        "control": None if plan.request.control is None else plan.request.control.path,
        **asdict(cost),
        "memory": {**asdict(cost.memory), "total": cost.memory.total},
    }


def _sides(plan: Plan) -> str:
    """How the sides of the picture meet, in words; empty where they do not."""
    request, atlas = plan.request, plan.levels[-1].atlas
    if atlas is None:
        axes = {"x": "left and right", "y": "top and bottom", "xy": "left and right, top and bottom"}
        return f"{axes[request.wrap]} meet" if request.wrap in axes else ""
    if request.tileset is not None:
        return f"tileset of {count(len(atlas.faces), 'picture')}, {count(len(atlas.joins), 'seam')}"
    return f"{request.topology}, {count(len(atlas.joins), 'seam')}"


def strips(plan: Plan) -> int:
    """Pixels of the finished picture that are copies of others: along sides that several pictures share."""
    atlas, tiling = plan.levels[-1].atlas, plan.tiling
    if atlas is None:
        return 0
    whole = Box(0, tiling.y.cells, 0, tiling.x.cells)
    copies = sum(found.part.area for found in atlas.origin(whole) if found.part != found.box)
    return copies * plan.spec.factor**2


def plan_table(figures: Mapping[str, Any]) -> Table:
    """`plan_figures` as a table."""
    table = _pairs()
    workers, tiles, memory = figures["workers"], figures["tiles"], figures["memory"]
    table.add_row("picture", f"{figures['width']} x {figures['height']}, {figures['model']}, seed {figures['seed']}")
    for name in ("sides", "control"):
        if figures[name]:
            table.add_row(name, figures[name])
    if figures["strips"]:
        table.add_row("strips", f"{figures['strips']:,} pixels along shared sides are copies of others")
    if figures["regions"]:
        table.add_row("regions", f"{figures['regions']:,}, with words of their own")
    if figures["source"]:
        anew = f"painted anew for {figures['strength']:.0%} of the steps"
        part, whole = figures["tiles_painted"], figures["tiles_total"]
        where = "" if part == whole else f" in {part:,} of {whole:,} tiles, the rest is copied"
        table.add_row("source", f"{figures['source']}, {anew}{where}")
    table.add_row("joined by", f"{figures['sync']}, sampler {figures['sampler']}")
    for number, level in enumerate(figures["levels"], 1):
        about = f"{level['width']} x {level['height']}: {level['steps']} steps of about {level['windows']:,} windows"
        table.add_row(f"level {number}", about)
    table.add_row("windows", f"{figures['windows']:,}, each cell seen {figures['window_share']:.3f} times a step")
    padding = figures["evaluations_padded"] - figures["evaluations"]
    table.add_row("evaluations", f"{figures['evaluations']:,} (and {padding:,} of padding)")
    table.add_row("", f"{figures['evaluations_per_megapixel']:,.1f} per megapixel")
    spread = f"{min(tiles)}" if min(tiles) == max(tiles) else f"{min(tiles)} to {max(tiles)}"
    table.add_row("workers", f"{workers}, with {spread} of {figures['tiles_total']:,} tiles each")
    table.add_row("messages", f"{figures['messages']:,}, at most {figures['messages_per_step']:,} a step")
    table.add_row("bytes", f"{size(figures['bytes'])}, at most {size(figures['bytes_per_step'])} a step")
    parts = ", ".join(f"{name} {size(value)}" for name, value in memory.items() if name != "total")
    table.add_row("memory", f"{size(memory['total'])} a worker ({parts}), beside the libraries and one micro-batch")
    return table


def summary_lines(summary: Mapping[str, Any], png: Path | None) -> Iterator[str]:
    """A finished run in a few lines."""
    seconds = summary["seconds"]
    where = f"{summary['canvas']} and {png}" if png else summary["canvas"]
    yield f"painted {summary['width']} x {summary['height']}: {where}"
    parts = ", ".join(f"{name} {spell(seconds[name])}" for name in ("load", "denoise", "decode"))
    workers = f"{summary['workers']} worker{'s' if summary['workers'] > 1 else ''}"
    yield f"{spell(seconds['total'])} ({parts}) on {workers}"
    per = summary["evaluations_per_megapixel"]
    exchanged = size(summary["bytes_exchanged"])
    yield f"{summary['evaluations']:,} evaluations ({per:,.1f} per megapixel), {exchanged} exchanged"
    if happened := _happened(summary):
        yield happened
    yield f"pixels {summary['pixels_sha256']}"


def _happened(summary: Mapping[str, Any]) -> str:
    """What came and went in a run, in one line; empty where nothing did."""
    words = {
        "rollbacks": "roll-back{s}",
        "steps_redone": "step{s} done again",
        "joins": "worker{s} joined",
        "moves": "tile{s} moved",
    }
    found = {name: summary.get(name) or 0 for name in words}
    return ", ".join(f"{n} {words[name].format(s='' if n == 1 else 's')}" for name, n in found.items() if n)


def facts_table(facts: Mapping[str, Any]) -> Table:
    """What `raytile info` says, as a table; the nested parts are for its JSON form."""
    table = _pairs()
    for name, value in facts.items():
        if value in (None, "") or isinstance(value, Mapping):
            continue
        if name in ("created", "updated"):
            value = datetime.fromtimestamp(value).isoformat(" ", "seconds")
        elif name.startswith("bytes"):
            value = size(value)
        elif isinstance(value, tuple):
            value = " x ".join(map(str, value))
        table.add_row(name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
    return table


def models_table(specs: Iterable[ModelSpec]) -> Table:
    """What each model is, in one row."""
    table = Table(box=None, pad_edge=False)
    for head in ("model", "window", "sampler", "steps", "guidance", "weights", "zooms"):
        table.add_column(head)
    for spec in specs:
        window = f"{spec.window * spec.factor} px"
        zooms = ", ".join(zoom.phrase for zoom in spec.zooms)
        defaults = (spec.default_sampler, str(spec.default_steps), f"{spec.default_guidance:g}")
        table.add_row(spec.name, window, *defaults, size(spec.weights_bytes), zooms)
    return table


def _pairs() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table
