"""Tables of one line for each model, GPU or route: one instant query a column, joined by labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any, Final, Unpack

from grafana_foundation_sdk.models import dashboard as sdk
from grafana_foundation_sdk.models import prometheus

from grafana.panels import Look, Query, asked, override, panel
from grafana.thresholds import Steps

GAUGE: Final = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
COLOURED: Final = {"type": "color-text"}
# In pixels, so that sixteen columns stand beside one another on a screen of 1600.
NARROWEST: Final = 90
# In a line that has no such label; what the panel says instead of lines is not said in its cells.
NO_LABEL: Final = "–"


@dataclass(frozen=True)
class Column:
    """A value of each line. `expr` has the table's keys for labels and none else; what should be
    shown of an info metric's labels is asked for by `Labels`."""

    title: str
    expr: str
    unit: str = "none"
    steps: Steps = ()
    high: float | None = None
    decimals: int | None = None
    mapping: sdk.ValueMap | None = None
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """Labels of each line beside its keys, as label → title; the value is not shown."""

    expr: str
    titles: dict[str, str]


def table(
    title: str,
    about: str,
    keys: dict[str, str],
    columns: Sequence[Column | Labels],
    sort_by: str | None = None,
    descending: bool = True,
    key_links: dict[str, list[sdk.DashboardLink]] | None = None,
    widths: dict[str, int] | None = None,
    **look: Unpack[Look],
) -> sdk.Panel:
    """`keys`: label → title of what makes a line. Every query must have exactly these labels, and
    `Labels` those that they show. `widths`: title → pixels, of columns with long words."""
    targets = asked([Query(column.expr) for column in columns], instant=True)
    for target in targets:
        target.format_val = prometheus.PromQueryFormat.TABLE
    # The SDK's table has a footer, which Grafana's has not any more.
    options = {
        "frameIndex": 0,
        "showHeader": True,
        "cellHeight": "sm",
        "sortBy": [{"displayName": sort_by, "desc": descending}] if sort_by else [],
    }
    custom = {
        "align": "auto",
        "cellOptions": {"type": "auto"},
        "inspect": False,
        "minWidth": NARROWEST,
        "wrapHeaderText": True,
    }
    made = panel("table", title, about, targets, {"w": 24, **look}, options, custom)
    made.transformations = joined(keys, columns)
    assert made.field_config is not None
    made.field_config.overrides = [
        *[override(name, {"noValue": NO_LABEL}) for name in keys.values()],
        *[override(name, {"links": of}) for name, of in (key_links or {}).items()],
        *[override(name, {"custom.width": width}) for name, width in (widths or {}).items()],
        *[
            override(column.title, settings(column))
            for column in columns
            if isinstance(column, Column)
        ],
    ]
    return made


def joined(
    keys: dict[str, str], columns: Sequence[Column | Labels]
) -> list[sdk.DataTransformerConfig]:
    # Grafana calls the only value of a table `Value`, and those of several `Value #A`.
    values = [f"Value #{letter}" if len(columns) > 1 else "Value" for letter, _ in zip(ascii_uppercase, columns, strict=False)]  # fmt: skip
    names = dict(keys)
    hidden = {"Time": True}
    for value, column in zip(values, columns, strict=True):
        if isinstance(column, Column):
            names[value] = column.title
        else:
            names.update(column.titles)
            hidden[value] = True
    return [
        sdk.DataTransformerConfig(id_val="merge", options={}),
        sdk.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": hidden,
                "renameByName": names,
                "indexByName": {name: index for index, name in enumerate(names)},
            },
        ),
    ]


def settings(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {"unit": column.unit}
    if column.decimals is not None:
        found["decimals"] = column.decimals
    if column.mapping is not None:
        found["mappings"] = [column.mapping]
    if column.steps:
        found["thresholds"] = {
            "mode": "absolute",
            "steps": [{"value": value, "color": color} for value, color in column.steps],
        }
        found["custom.cellOptions"] = COLOURED
    if column.high is not None:
        found |= {"min": 0, "max": column.high, "custom.cellOptions": GAUGE}
    return found | column.properties
