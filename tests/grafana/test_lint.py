"""What Grafana Labs' dashboard-linter asks of dashboards, and what we ask beyond."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from grafana.queries import FIXED_RANGES
from tests.grafana.asking import choose, everything, label_values, put_in
from tests.grafana.catalogue import RULES
from tests.grafana.reading import DASHBOARDS, asked, every_panel, panels, variables
from tests.programs import promtool

EVERY_QUERY: Final = [query for uid in DASHBOARDS for query in asked(uid)]
OF_PANELS: Final = [query for query in EVERY_QUERY if not query.of.startswith("annotation")]
SELECTOR: Final = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
# What is not any one service's.
OF_PROMETHEUS: Final = {"up", "ALERTS"}


def without_fields(panel: dict[str, Any]) -> bool:
    return bool(panel["type"] == "text")


# ---- the linter's


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_data_source_is_chosen_first_then_job_and_instance(uid: str) -> None:
    first, *rest = variables(uid)

    assert (first["name"], first["type"], first["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    assert first["label"] == "Data source"
    assert [variable["name"] for variable in rest[:2]] == ["job", "instance"]


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_each_variable_may_be_one_several_or_all(uid: str) -> None:
    for variable in variables(uid)[1:]:
        assert variable["type"] == "query"
        assert variable["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (
            True,
            True,
            ".+",
        )
        assert variable["refresh"] == 2, "on change of the time range"
        assert variable["label"]
        assert label_values(variable["query"]["query"])


def test_each_panel_has_a_title_and_says_what_it_shows() -> None:
    for uid, panel in every_panel():
        assert panel["title"], uid
        assert len(panel["description"].split()) > 2, (uid, panel["title"])


def test_each_panel_has_a_unit_and_what_to_say_without_data() -> None:
    for uid, panel in every_panel():
        if not without_fields(panel):
            defaults = panel["fieldConfig"]["defaults"]
            assert defaults["unit"], (uid, panel["title"])
            assert defaults["noValue"], (uid, panel["title"])


def test_each_panel_asks_something_of_the_data_source_that_is_chosen() -> None:
    for uid, panel in every_panel():
        if without_fields(panel):
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"], (uid, panel["title"])
        assert all("datasource" not in target for target in panel["targets"])
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)


def test_each_query_is_promql(tmp_path: Path) -> None:
    """In the view of Prometheus' own parser: as if each were recorded."""
    rules = [
        {"record": f"query:{number}", "expr": put_in(query.expr, names(query.page))}
        for number, query in enumerate(EVERY_QUERY)
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))

    assert f"{len(EVERY_QUERY)} rules found" in promtool("check", "rules", file)


def names(uid: str) -> dict[str, str]:
    return choose(variables(uid), lambda series, label: [], everything)


def test_each_selector_is_narrowed_to_what_is_chosen() -> None:
    for query in OF_PANELS:
        selectors = SELECTOR.findall(query.expr)
        assert selectors, query
        for family, matchers in selectors:
            narrowed = 'job=~"$job",instance=~"$instance"' in matchers
            of_machine = 'instance=~"$gpu_instance"' in matchers
            assert narrowed or of_machine or family in OF_PROMETHEUS, query
            if family.startswith(("llm_gpu_", "llm_host_")):
                assert of_machine, query


def test_rates_are_of_grafanas_choice_but_where_a_range_is_meant() -> None:
    ranges = Counter(
        found
        for query in OF_PANELS
        for found in re.findall(r"\[([^\]]+)\]", query.expr)
        if found != "$__rate_interval"
    )

    assert ranges.keys() == FIXED_RANGES.keys()
    assert all(len(reason.split()) > 3 for reason in FIXED_RANGES.values())


def test_a_counter_is_shown_as_its_rate_or_increase() -> None:
    # Their totals are what is asked about a card, a change, or a model's history of faults.
    totals = {
        "llm_gpu_xid_errors_total", "llm_gpu_ecc_errors_total", "llm_gpu_remapped_rows_total",
        "llm_gpu_retired_pages_total", "llm_optimization_applied_total",
    }  # fmt: skip
    for query in OF_PANELS:
        for found in re.finditer(r"(\w+\()?(llm_\w+_(?:total|bucket|sum|count))\{", query.expr):
            if found[2] not in totals:
                assert found[1] in ("rate(", "increase("), str(query)


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_nobody_edits_what_the_next_start_would_undo(uid: str) -> None:
    dashboard = DASHBOARDS[uid]

    assert dashboard["editable"] is False
    assert "id" not in dashboard
    assert (dashboard["refresh"], dashboard["time"]["from"], dashboard["graphTooltip"]) == (
        "15s",
        "now-1h",
        1,
    )
    assert dashboard["tags"] == ["llm"]


# ---- ours


def test_uids_are_short_and_no_two_are_the_same() -> None:
    uids = [dashboard["uid"] for dashboard in DASHBOARDS.values()]

    assert len(set(uids)) == len(uids) == 6
    assert all(re.fullmatch(r"[a-z-]{1,40}", uid) for uid in uids)


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_no_panel_lies_on_another_or_beyond_the_edge(uid: str) -> None:
    dashboard = DASHBOARDS[uid]
    groups = [[p for p in dashboard["panels"] if p["type"] != "row" or not p["panels"]]]
    groups += [row["panels"] for row in dashboard["panels"] if row["type"] == "row"]
    for group in groups:
        places = [panel["gridPos"] for panel in group]
        assert all(p["x"] + p["w"] <= 24 and p["x"] >= 0 and p["h"] > 0 for p in places)
        for a, b in combinations(places, 2):
            beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
            below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
            assert beside or below, (uid, a, b)
    rows = [panel for panel in dashboard["panels"] if panel["type"] == "row"]
    ids = [panel["id"] for panel in (*rows, *panels(dashboard))]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_dashboard_is_read_without_getting_lost(uid: str) -> None:
    open_panels = [panel for panel in DASHBOARDS[uid]["panels"] if panel["type"] != "row"]

    assert len(open_panels) <= 25


def test_the_families_behind_a_panel_are_named_in_its_description() -> None:
    for uid, panel in every_panel():
        for target in panel.get("targets", []):
            for family, _ in SELECTOR.findall(target["expr"]):
                assert f"`{family}`" in panel["description"], (uid, panel["title"], family)


def test_nothing_that_a_client_may_name_is_shown_as_markup() -> None:
    """Labels hold names of models: whoever adds a model chooses them."""
    for uid, panel in every_panel():
        if panel["type"] == "text":
            assert panel["options"]["mode"] == "markdown"
            assert "$" not in panel["options"]["content"], (uid, panel["title"])
            assert "<" not in panel["options"]["content"], (uid, panel["title"])
            assert "repeat" not in panel
        cells = [panel["fieldConfig"]["defaults"].get("custom", {}).get("cellOptions", {})]
        for override in panel["fieldConfig"]["overrides"]:
            cells += [p["value"] for p in override["properties"] if p["id"] == "custom.cellOptions"]
        assert {cell.get("type", "auto") for cell in cells} <= {"auto", "gauge", "color-text"}


def test_links_stay_in_grafana_and_encode_what_they_are_given() -> None:
    def addresses(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["url"]] if "url" in value else []
            return own + [url for v in value.values() for url in addresses(v)]
        return [url for v in value for url in addresses(v)] if isinstance(value, list) else []

    found = set(addresses(list(DASHBOARDS.values())))
    assert len(found) > 5
    for url in found:
        page = re.match(
            r"/d/([\w-]+)\?\$\{__url_time_range\}&var-(\w+)=\$\{[^}]+:percentencode\}$", url
        )
        assert page is not None, url
        assert page[2] in {variable["name"] for variable in variables(page[1])}


def test_the_dashboards_lead_to_each_other_with_what_was_chosen() -> None:
    for dashboard in DASHBOARDS.values():
        (link,) = dashboard["links"]
        assert (link["type"], link["tags"], link["asDropdown"]) == ("dashboards", ["llm"], True)
        assert link["includeVars"]
        assert link["keepTime"]


def test_points_of_latency_lead_to_single_requests() -> None:
    exemplars = [
        target["expr"]
        for _, panel in every_panel()
        for target in panel.get("targets", [])
        if target.get("exemplar")
    ]

    for family in ("llm_time_to_first_token_seconds", "llm_request_duration_seconds"):
        assert any(family in expr for expr in exemplars)


def test_alerts_lead_to_dashboards_that_have_what_they_choose() -> None:
    rules = [
        rule
        for path in RULES.glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    addresses = {rule["annotations"]["dashboard_url"] for rule in rules if "annotations" in rule}

    assert len(addresses) > 5
    for address in addresses:
        page, _, choices = address.removeprefix("/d/").partition("?")
        there = {variable["name"] for variable in variables(page)}
        assert {choice.partition("=")[0] for choice in choices.split("&") if choice} <= {
            f"var-{name}" for name in there
        }, address
