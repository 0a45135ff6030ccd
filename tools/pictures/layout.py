"""Where the panels of a dashboard stand, from Grafana's grid to pixels."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.grafana.asking import put_in

Panel = dict[str, Any]

# In pixels. A cell of the grid is 30 high, and 8 from the next.
WIDTH: Final = 1600
COLUMNS: Final = 24
CELL: Final = 30
GAP: Final = 8
MARGIN: Final = 16
HEAD: Final = 48
FOOT: Final = 36


def placed(panels: list[Panel], values: Mapping[str, list[str]]) -> Iterator[Panel]:
    """The panels that are seen, from above: those of collapsed rows are not, and those of a row that
    is repeated by a variable stand once for each of its `values`, which is their `scope`."""
    lower = 0
    for head, below in rows(panels):
        name = head.get("repeat")
        height = max(map(end, (head, *below))) - head["gridPos"]["y"]
        for number, value in enumerate(values[name] if name else [""]):
            lower += height if number else 0
            for panel in (head, *below):
                yield moved(panel, lower, {name: value} if name else {})


def rows(panels: list[Panel]) -> Iterator[tuple[Panel, list[Panel]]]:
    heads = [index for index, panel in enumerate(panels) if panel["type"] == "row"]
    for start, stop in zip(heads, [*heads[1:], len(panels)], strict=True):
        yield panels[start], panels[start + 1 : stop]


def end(panel: Panel) -> int:
    place = panel["gridPos"]
    bottom: int = place["y"] + place["h"]
    return bottom


def moved(panel: Panel, lower: int, scope: dict[str, str]) -> Panel:
    copied = copy.deepcopy({key: value for key, value in panel.items() if key != "panels"})
    copied["gridPos"]["y"] += lower
    copied["title"] = put_in(panel["title"], scope) if scope else panel["title"]
    copied["scope"] = scope
    return copied


def in_pixels(panel: Panel) -> dict[str, int]:
    column = (WIDTH - 2 * MARGIN + GAP) / COLUMNS
    grid = panel["gridPos"]
    return {
        "left": round(MARGIN + grid["x"] * column),
        "top": HEAD + grid["y"] * (CELL + GAP),
        "width": round(grid["w"] * column - GAP),
        "height": grid["h"] * (CELL + GAP) - GAP,
    }


def page_height(panels: list[Panel]) -> int:
    return HEAD + max(map(end, panels)) * (CELL + GAP) + FOOT
