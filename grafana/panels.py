"""The kinds of panels that there are. Each gives a panel without a place; `page` places it.

A panel has a title, a text that says what good looks like, and queries; the names of the families
behind it are added to the text, so that whoever looks at a panel can ask for more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, Final, TypedDict, Unpack

from grafana_foundation_sdk.models import bargauge as sdk_bars
from grafana_foundation_sdk.models import common, prometheus
from grafana_foundation_sdk.models import dashboard as sdk
from grafana_foundation_sdk.models import heatmap as sdk_heatmap
from grafana_foundation_sdk.models import stat as sdk_stat
from grafana_foundation_sdk.models import statetimeline as sdk_timeline
from grafana_foundation_sdk.models import text as sdk_text
from grafana_foundation_sdk.models import timeseries as sdk_series

from grafana.thresholds import COLOURS, PLAIN, Steps, thresholds
from grafana.variables import PROMETHEUS

NO_TRAFFIC: Final = "No traffic"
NOT_REPORTED: Final = "Not reported by this card"
# Only the service knows which process on a card is which model's.
NO_MODEL_ON_GPU: Final = "No model on a GPU that the service reads itself"

FAMILY: Final = re.compile(r"\b(?:llm|process|python)_[a-z0-9_]+|\bup\b|\bALERTS\b")


@dataclass(frozen=True)
class Query:
    """`legend` names a series by its labels, as `{{model}}`."""

    expr: str
    legend: str = ""
    exemplars: bool = False


class Look(TypedDict, total=False):
    unit: str
    steps: Steps
    no_value: str
    low: float
    high: float
    decimals: int
    mapping: sdk.ValueMap
    links: list[sdk.DashboardLink]
    actions: list[sdk.Action]
    w: int
    h: int


def families(exprs: Sequence[str]) -> list[str]:
    """Names of metric families, without labels of the same look."""
    bare = (re.sub(r'"[^"]*"|\bby ?\([^)]*\)|\bgroup_left ?\([^)]*\)', "", expr) for expr in exprs)
    return list(dict.fromkeys(name for expr in bare for name in FAMILY.findall(expr)))


def told(about: str, exprs: Sequence[str]) -> str:
    return f"{about}\n\nFrom: {', '.join(f'`{name}`' for name in families(exprs))}"


def panel(
    kind: str,
    title: str,
    about: str,
    targets: Sequence[prometheus.Dataquery],
    look: Look,
    options: Any,
    custom: Any = None,
    color: sdk.FieldColorModeId = sdk.FieldColorModeId.THRESHOLDS,
) -> sdk.Panel:
    defaults = sdk.FieldConfig(
        unit=look.get("unit", "none"),
        decimals=look.get("decimals"),
        min_val=look.get("low"),
        max_val=look.get("high"),
        mappings=[mapping] if (mapping := look.get("mapping")) else [],
        thresholds=thresholds(look.get("steps", PLAIN)),
        color=sdk.FieldColor(mode=color),
        links=look.get("links", []),
        actions=look.get("actions") or None,
        no_value=look.get("no_value", NO_TRAFFIC),
        custom=custom,
    )
    return sdk.Panel(
        type_val=kind,
        title=title,
        description=told(about, [target.expr for target in targets]),
        datasource=PROMETHEUS,
        targets=list(targets),
        grid_pos=sdk.GridPos(w=look.get("w", 8), h=look.get("h", 8)),
        options=options,
        field_config=sdk.FieldConfigSource(defaults=defaults, overrides=[]),
    )


def asked(queries: Sequence[Query], instant: bool = False) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery(
            expr=query.expr,
            legend_format=query.legend or "__auto",
            ref_id=letter,
            instant=instant,
            range_val=not instant,
            exemplar=query.exemplars,
            editor_mode=prometheus.QueryEditorMode.CODE,
        )
        for letter, query in zip(ascii_uppercase, queries, strict=False)
    ]


def last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions(values=False, calcs=["lastNotNull"], fields="")


def stat(title: str, about: str, *queries: Query, **look: Unpack[Look]) -> sdk.Panel:
    options = sdk_stat.Options(
        graph_mode=common.BigValueGraphMode.AREA,
        color_mode=common.BigValueColorMode.VALUE,
        text_mode=(
            common.BigValueTextMode.VALUE_AND_NAME
            if len(queries) > 1
            else common.BigValueTextMode.AUTO
        ),
        reduce_options=last(),
        orientation=common.VizOrientation.AUTO,
    )
    return panel("stat", title, about, asked(queries), {"h": 4, "w": 4, **look}, options)


def gauge(title: str, about: str, *queries: Query, **look: Unpack[Look]) -> sdk.Panel:
    # The SDK's gauge does not know the shapes of Grafana 13; older ones pass over what they do not know.
    options = {
        "shape": "gauge",
        "barShape": "flat",
        "barWidthFactor": 0.4,
        "segmentCount": 1,
        "segmentSpacing": 0.3,
        "effects": {},
        "showThresholdLabels": False,
        "showThresholdMarkers": True,
        "sizing": "auto",
        "minVizWidth": 75,
        "minVizHeight": 75,
        "orientation": "auto",
        "reduceOptions": last(),
    }
    return panel("gauge", title, about, asked(queries), {"h": 5, "w": 4, **look}, options)


def bars(title: str, about: str, *queries: Query, **look: Unpack[Look]) -> sdk.Panel:
    options = sdk_bars.Options(
        display_mode=common.BarGaugeDisplayMode.LCD,
        value_mode=common.BarGaugeValueMode.COLOR,
        name_placement=common.BarGaugeNamePlacement.AUTO,
        orientation=common.VizOrientation.HORIZONTAL,
        reduce_options=last(),
    )
    return panel("bargauge", title, about, asked(queries, instant=True), look, options)


def series(
    title: str,
    about: str,
    *queries: Query,
    stacked: bool = False,
    limits: bool = False,
    names: Sequence[str] = (),
    **look: Unpack[Look],
) -> sdk.Panel:
    """Lines over time; `limits` draws the thresholds as dashed lines, `names` are values of the label
    in the legend that have a colour of their own."""
    custom = common.GraphFieldConfig(
        draw_style=common.GraphDrawStyle.LINE,
        line_width=1,
        fill_opacity=30 if stacked else 0,
        show_points=common.VisibilityMode.NEVER,
        span_nulls=False,
        stacking=common.StackingConfig(
            mode=common.StackingMode.NORMAL if stacked else common.StackingMode.NONE, group="A"
        ),
        thresholds_style=common.GraphThresholdsStyleConfig(
            mode=(
                common.GraphThresholdsStyleMode.DASHED
                if limits
                else common.GraphThresholdsStyleMode.OFF
            )
        ),
        axis_soft_min=0,
    )
    options = sdk_series.Options(legend=legend(), tooltip=tooltip())
    made = panel(
        "timeseries", title, about, asked(queries), look, options, custom,
        color=sdk.FieldColorModeId.PALETTE_CLASSIC,
    )  # fmt: skip
    assert made.field_config is not None
    made.field_config.overrides = painted([*(query.legend for query in queries), *names])
    return made


def painted(names: Sequence[str]) -> list[sdk.DashboardFieldConfigSourceOverrides]:
    """For series with these names, those that have a meaning, its colour."""
    return [
        override(name, {"color": {"mode": "fixed", "fixedColor": COLOURS[name]}})
        for name in names
        if name in COLOURS
    ]


def override(name: str, properties: dict[str, Any]) -> sdk.DashboardFieldConfigSourceOverrides:
    return sdk.DashboardFieldConfigSourceOverrides(
        matcher=sdk.MatcherConfig(id_val="byName", options=name),
        properties=[
            sdk.DynamicConfigValue(id_val=key, value=value) for key, value in properties.items()
        ],
    )


def legend(visible: bool = True) -> common.VizLegendOptions:
    return common.VizLegendOptions(
        display_mode=common.LegendDisplayMode.LIST,
        placement=common.LegendPlacement.BOTTOM,
        show_legend=visible,
        calcs=[],
    )


def tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions(
        mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING
    )


def timeline(title: str, about: str, *queries: Query, **look: Unpack[Look]) -> sdk.Panel:
    """States over time, a line for each series."""
    options = sdk_timeline.Options(
        show_value=common.VisibilityMode.NEVER,
        merge_values=True,
        align_value=common.TimelineValueAlignment.LEFT,
        legend=legend(),
        tooltip=tooltip(),
    )
    custom = sdk_timeline.FieldConfig(line_width=0, fill_opacity=80)
    return panel("state-timeline", title, about, asked(queries), look, options, custom)


def heatmap(title: str, about: str, expr: str, **look: Unpack[Look]) -> sdk.Panel:
    """Of a histogram: `expr` is the rates of its buckets by `le`."""
    options = sdk_heatmap.Options(
        calculate=False,
        color=sdk_heatmap.HeatmapColorOptions(
            mode=sdk_heatmap.HeatmapColorMode.SCHEME,
            scheme="Blues",
            fill="dark-blue",
            scale=sdk_heatmap.HeatmapColorScale.EXPONENTIAL,
            exponent=0.5,
            steps=64,
        ),
        filter_values=sdk_heatmap.FilterValueRange(le=1e-9),
        rows_frame=sdk_heatmap.RowsHeatmapOptions(layout=common.HeatmapCellLayout.AUTO),
        show_value=common.VisibilityMode.NEVER,
        y_axis=sdk_heatmap.YAxisConfig(
            unit=look.get("unit"), axis_placement=common.AxisPlacement.LEFT
        ),
        cell_values=sdk_heatmap.CellValues(unit="reqps"),
        legend=sdk_heatmap.HeatmapLegend(show=True),
        tooltip=sdk_heatmap.HeatmapTooltip(
            mode=common.TooltipDisplayMode.SINGLE, y_histogram=True, show_color_scale=True
        ),
        exemplars=sdk_heatmap.ExemplarConfig(color="rgba(255,0,255,0.7)"),
    )
    custom = sdk_heatmap.FieldConfig(hide_from=common.HideSeriesConfig())
    (target,) = asked([Query(expr, "{{le}}", exemplars=True)])
    target.format_val = prometheus.PromQueryFormat.HEATMAP
    return panel("heatmap", title, about, [target], look, options, custom)


def text(title: str, markdown: str, w: int = 8, h: int = 8) -> sdk.Panel:
    """Markdown that stands here, with nothing of a label or a variable in it."""
    return sdk.Panel(
        type_val="text",
        title=title,
        description="Written by hand.",
        grid_pos=sdk.GridPos(w=w, h=h),
        options=sdk_text.Options(mode=sdk_text.TextMode.MARKDOWN, content=markdown),
        field_config=sdk.FieldConfigSource(defaults=sdk.FieldConfig(), overrides=[]),
    )
