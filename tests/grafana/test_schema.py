"""Grafana's own declarations of what a dashboard is; schema/README.md says where they are from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

from tests.grafana.reading import DASHBOARDS, every_panel

SCHEMA: Final = Path(__file__).with_name("schema")
UNITS: Final = frozenset(json.loads((SCHEMA / "units.json").read_text()))
# Of annotations of Prometheus: its data source has them, the declaration knows those of Grafana alone.
OF_PROMETHEUS: Final = {"target", "titleFormat", "textFormat", "useValueForTime"}
# Text panels have no queries and no fields.
WITHOUT_FIELDS: Final = {"text"}


def schema(name: str) -> Any:
    return json.loads((SCHEMA / f"{name}.json").read_text())


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_dashboard_is_what_grafana_declares(uid: str) -> None:
    dashboard = json.loads(json.dumps(DASHBOARDS[uid]))
    for annotation in dashboard["annotations"]["list"]:
        for key in OF_PROMETHEUS:
            del annotation[key]

    jsonschema.validate(dashboard, schema("dashboard"))


def test_every_panels_options_are_what_its_plugin_declares() -> None:
    seen = set()
    for uid, panel in every_panel():
        if panel["type"] in WITHOUT_FIELDS:
            continue
        seen.add(panel["type"])
        checked = jsonschema.Draft7Validator(schema(f"{panel['type']}.options"))
        assert [error.message for error in checked.iter_errors(panel["options"])] == [], (
            uid,
            panel["title"],
        )
    assert seen == {path.stem.partition(".")[0] for path in SCHEMA.glob("*.options.json")}


def test_every_panels_fields_are_what_its_plugin_declares() -> None:
    for uid, panel in every_panel():
        path = SCHEMA / f"{panel['type']}.custom.json"
        custom = panel["fieldConfig"]["defaults"].get("custom")
        if path.exists():
            jsonschema.validate(custom, json.loads(path.read_text()))
        else:
            assert custom is None, (uid, panel["title"])


def test_every_override_is_of_something_that_a_field_has() -> None:
    standard = schema("dashboard")["definitions"]["FieldConfig"]["properties"]
    for uid, panel in every_panel():
        path = SCHEMA / f"{panel['type']}.custom.json"
        declared = (
            json.loads(path.read_text())["definitions"]["FieldConfig"] if path.exists() else {}
        )
        custom = declared.get("properties", {})
        for override in panel["fieldConfig"]["overrides"]:
            for entry in override["properties"]:
                name, _, part = entry["id"].partition(".")
                there = part in custom if part else name in standard
                assert there, (uid, panel["title"], entry["id"])


def test_every_unit_is_one_that_grafana_has() -> None:
    for uid, panel in every_panel():
        properties = [p for o in panel["fieldConfig"]["overrides"] for p in o["properties"]]
        units = [p["value"] for p in properties if p["id"] == "unit"]
        if panel["type"] not in WITHOUT_FIELDS:
            units.append(panel["fieldConfig"]["defaults"]["unit"])
        for unit in units:
            assert unit in UNITS or unit.startswith("suffix: "), (uid, panel["title"], unit)


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        ({"refresh": 15}, "refresh"),
        ({"graphTooltip": 7}, "graphTooltip"),
        ({"title": "x", "colour": "red"}, "colour"),
    ],
)
def test_what_is_no_dashboard_is_found(broken: dict[str, Any], where: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=where):
        jsonschema.validate(
            {**DASHBOARDS["llm-gpu"], "annotations": {}, **broken}, schema("dashboard")
        )
