"""What the panels of a dashboard show: their queries' answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tests.grafana.asking import choose, escaped, everything, label_values, put_in
from tests.grafana.prometheus import Asked
from tests.grafana.reading import DASHBOARDS, variables
from tools.pictures.layout import Panel, placed


@dataclass(frozen=True)
class Measured:
    """`panels` as in the dashboard, each with `answers`: the query's letter → what Prometheus said.

    Times are Unix seconds."""

    title: str
    since: float
    until: float
    step: int
    panels: list[Panel]

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def measured(asked: Asked, seconds: int, step: int) -> dict[str, Measured]:
    """Of all dashboards, for the last so many seconds; `step` is the interval between scrapes."""
    until = time.time() // step * step
    since = until - seconds
    # As Grafana has them for lines of a point each scrape.
    ranges = {
        "__interval": f"{step}s",
        "__rate_interval": f"{4 * step}s",
        "__range": f"{seconds}s",
    }

    def answer(target: Mapping[str, Any], chosen: Mapping[str, str]) -> list[dict[str, Any]]:
        expr = put_in(target["expr"], chosen)
        if target.get("instant"):
            data = asked.api("query", query=expr, time=until)
        else:
            data = asked.api("query_range", query=expr, start=since, end=until, step=step)
        result: list[dict[str, Any]] = data["result"]
        return result

    found = {}
    for uid, dashboard in DASHBOARDS.items():
        chosen = {**choose(variables(uid), asked.values_of, everything), **ranges}
        panels = list(placed(dashboard["panels"], values_of_repeated(asked, uid, chosen)))
        for panel in panels:
            own = {name: escaped(value) for name, value in panel["scope"].items()}
            panel["answers"] = {
                target["refId"]: answer(target, {**chosen, **own})
                for target in panel.get("targets", [])
            }
        found[uid] = Measured(dashboard["title"], since, until, step, panels)
    return found


def values_of_repeated(asked: Asked, uid: str, chosen: Mapping[str, str]) -> dict[str, list[str]]:
    """Variable → its values, of those that a row is repeated by."""
    by = {panel["repeat"] for panel in DASHBOARDS[uid]["panels"] if panel.get("repeat")}
    found = {}
    for variable in variables(uid):
        if variable["name"] in by:
            series, label = label_values(variable["query"]["query"])
            found[variable["name"]] = asked.values_of(put_in(series, chosen), label)
    return found
