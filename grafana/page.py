"""A dashboard as rows of panels, laid out on Grafana's grid of 24 columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from grafana_foundation_sdk.models import dashboard as sdk

from grafana import links, variables
from grafana.annotations import all_events

COLUMNS: Final = 24


@dataclass(frozen=True)
class Row:
    """`repeat` is the variable of which each value gets a row of its own."""

    title: str
    panels: Sequence[sdk.Panel]
    collapsed: bool = False
    repeat: str | None = None


@dataclass(frozen=True)
class Page:
    uid: str
    title: str
    description: str
    variables: Sequence[sdk.VariableModel]
    rows: Sequence[Row]

    def build(self) -> sdk.Dashboard:
        return sdk.Dashboard(
            uid=self.uid,
            title=self.title,
            description=self.description,
            tags=[links.TAG],
            editable=False,
            graph_tooltip=sdk.DashboardCursorSync.CROSSHAIR,
            refresh="15s",
            time=sdk.DashboardDashboardTime(from_val="now-1h", to="now"),
            templating=sdk.DashboardDashboardTemplating(
                list_val=[*(make() for make in variables.BASE), *self.variables]
            ),
            annotations=sdk.AnnotationContainer(list_val=all_events()),
            links=[links.between_dashboards()],
            panels=laid_out(self.rows),
        )


def laid_out(rows: Sequence[Row]) -> list[sdk.Panel | sdk.RowPanel]:
    numbers = count(1)
    placed: list[sdk.Panel | sdk.RowPanel] = []
    y = 0
    for row in rows:
        head = sdk.RowPanel(
            title=row.title,
            id_val=next(numbers),
            collapsed=row.collapsed,
            grid_pos=sdk.GridPos(x=0, y=y, w=COLUMNS, h=1),
            repeat=row.repeat,
            panels=[],
        )
        placed.append(head)
        bottom = flow(row.panels, y + 1)
        for panel in row.panels:
            panel.id_val = next(numbers)
        if row.collapsed:
            head.panels = list(row.panels)
            y += 1
        else:
            placed.extend(row.panels)
            y = bottom
    return placed


def flow(panels: Sequence[sdk.Panel], y: int) -> int:
    """Places panels from left to right, in lines as high as their highest; the next free y."""
    x = height = 0
    for panel in panels:
        position = panel.grid_pos
        assert position is not None
        if x + position.w > COLUMNS:
            x, y, height = 0, y + height, 0
        position.x, position.y = x, y
        x, height = x + position.w, max(height, position.h)
    return y + height
