"""The committed dashboards, as Grafana reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[2] / "grafana" / "dashboards"
DASHBOARDS: Final[dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(FOLDER.glob("*.json"))
}

# What lines of tables are: other labels of a table are shown, and not found by.
KEYS: Final = frozenset(
    {"instance", "gpu", "model", "api", "endpoint", "component", "group", "id", "xid"}
)


@dataclass(frozen=True)
class Query:
    """What a dashboard asks Prometheus, and for what."""

    page: str
    of: str
    expr: str
    instant: bool = False
    # Labels that a series is named by, or that a line of a table is found by.
    named_by: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.page}, {self.of}: {self.expr}"


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those in collapsed rows too; rows are none."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def every_panel() -> list[tuple[str, dict[str, Any]]]:
    return [(uid, panel) for uid, dashboard in DASHBOARDS.items() for panel in panels(dashboard)]


def named_by(panel: dict[str, Any], target: dict[str, Any]) -> frozenset[str]:
    if panel["type"] != "table":
        return frozenset(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    organized = panel["transformations"][-1]["options"]
    if organized["excludeByName"].keys() & {"Value", f"Value #{target['refId']}"}:
        return frozenset()
    return frozenset(organized["renameByName"]) & KEYS


def asked(uid: str) -> list[Query]:
    """All queries of panels and annotations."""
    dashboard = DASHBOARDS[uid]
    of_panels = [
        Query(
            uid,
            panel["title"],
            target["expr"],
            bool(target.get("instant")),
            named_by(panel, target),
        )
        for panel in panels(dashboard)
        for target in panel.get("targets", [])
    ]
    of_annotations = [
        Query(uid, f"annotation {entry['name']}", entry["target"]["expr"])
        for entry in dashboard["annotations"]["list"]
    ]
    return of_panels + of_annotations


def variables(uid: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DASHBOARDS[uid]["templating"]["list"]
    return found
