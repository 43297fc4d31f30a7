"""What the dashboards share: the variables on top, the links between them, and how a panel looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus as query
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
NAMES = {"fleet": "raytile fleet", "render": "raytile render", "service": "raytile service"}
TAG = "raytile"
GREEN, YELLOW, ORANGE, RED = "green", "yellow", "orange", "red"

Panel = Any  # the builders of the library's panels share no class of their own


@dataclass(frozen=True)
class Line:
    """One expression of a panel and what its lines are called; `{{label}}` stands for a label's value."""

    expression: str
    name: str = ""


def number(
    title: str,
    about: str,
    unit: str,
    line: Line,
    steps: Sequence[tuple[float, str]] = (),
    *,
    span: int = 4,
    decimals: int | None = None,
    nothing: str = "0",
) -> Panel:
    """One figure, large, in the colour of the last of `steps` that it has reached, with its course behind it."""
    panel = (
        stat.Panel()
        .graph_mode(looks.BigValueGraphMode.AREA)
        .color_mode(looks.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    )
    if decimals is not None:
        panel.decimals(decimals)
    return _dressed(panel, title, about, unit, [line], steps, span, 4, nothing)


def lines(
    title: str,
    about: str,
    unit: str,
    targets: Sequence[Line],
    steps: Sequence[tuple[float, str]] = (),
    *,
    span: int = 12,
    stacked: bool = False,
    bars: bool = False,
    top: float | None = None,
    nothing: str = "nothing yet",
) -> Panel:
    """Values over time; where there are `steps`, dashed lines show them."""
    panel = (
        timeseries.Panel()
        .min(0)
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(looks.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(looks.LegendDisplayMode.TABLE)
            .placement(looks.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL))
    if bars:
        panel.draw_style(looks.GraphDrawStyle.BARS).fill_opacity(80)
    if top is not None:
        panel.max(top)
    if steps:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED))
    return _dressed(panel, title, about, unit, targets, steps, span, 9, nothing)


def timeline(
    title: str, about: str, unit: str, line: Line, steps: Sequence[tuple[float, str]], *, nothing: str
) -> Panel:
    """A lane for each series, coloured by the last of `steps` that its value has reached."""
    panel = (
        statetimeline.Panel()
        .show_value(looks.VisibilityMode.NEVER)
        .merge_values(False)
        .row_height(0.85)
        .per_page(64)
        .line_width(0)
        .fill_opacity(85)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.SINGLE))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    )
    return _dressed(panel, title, about, unit, [line], steps, 24, 10, nothing)


def gauges(
    title: str,
    about: str,
    unit: str,
    line: Line,
    steps: Sequence[tuple[float, str]] = (),
    *,
    span: int = 12,
    top: float | None = None,
    nothing: str,
) -> Panel:
    """A bar for each series, as long as its value now."""
    panel = (
        bargauge.Panel()
        .min(0)
        .orientation(looks.VizOrientation.HORIZONTAL)
        .display_mode(looks.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    )
    if top is not None:
        panel.max(top)
    return _dressed(panel, title, about, unit, [line], steps, span, 9, nothing)


def _dressed(
    panel: Panel,
    title: str,
    about: str,
    unit: str,
    targets: Sequence[Line],
    steps: Sequence[tuple[float, str]],
    span: int,
    height: int,
    nothing: str,
) -> Panel:
    panel.title(title).description(about).unit(unit).datasource(DATASOURCE).span(span).height(height).no_value(nothing)
    colours = [model.Threshold(None, GREEN), *(model.Threshold(value, colour) for value, colour in steps)]
    panel.thresholds(build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(colours))
    for target, letter in zip(targets, "ABCDEFGH", strict=False):
        asked = query.Dataquery().ref_id(letter).expr(target.expression).datasource(DATASOURCE).range()
        panel.with_target(asked.legend_format(target.name or title))
    return panel


def board(key: str, about: str, rows: Iterable[tuple[str, Sequence[Panel]]]) -> model.Dashboard:
    """A dashboard of rows of panels, each as wide as the page, with the variables and the links that all have."""
    made = (
        build.Dashboard(NAMES[key])
        .uid(f"raytile-{key}")
        .description(about)
        .tags([TAG])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_choice("namespace", "Namespace", "label_values(ray_node_cpu_count, namespace)"))
        .with_variable(
            _choice("cluster", "Cluster", 'label_values(ray_node_cpu_count{namespace=~"$namespace"}, ray_io_cluster)')
        )
        .link(
            build.DashboardLink("raytile")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
    )
    numbers = count(1)
    for title, panels in rows:
        made.with_row(build.Row(title).id(next(numbers)))
        for panel in panels:
            made.with_panel(panel.id(next(numbers)))
    return made.build()


def _choice(name: str, label: str, asked: str) -> build.QueryVariable:
    everything = model.VariableOption(selected=True, text="All", value="$__all")
    return (
        build.QueryVariable(name)
        .label(label)
        .query(asked)
        .datasource(DATASOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )
