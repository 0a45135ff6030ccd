from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.telemetry.recorder import REJECTIONS
from tests.exporters.catalogue import CATALOGUE
from tests.programs import program, promtool
from tests.prometheus.rules import FOLDER, ROOT, names, rules
from tests.telemetry.test_catalogue import PRESENT, catalogue
from tools.mutate_rules import main, mutants
from tools.slo_rules import rules as slo_rules

# Of Prometheus and Alertmanager themselves, in which tests/stack finds them, and of every process.
OF_OTHERS = {
    "up",
    "ALERTS",
    "scrape_samples_post_metric_relabeling",
    "prometheus_notifications_alertmanagers_discovered",
    "prometheus_notifications_errors_total",
    "alertmanager_notifications_failed_total",
    "process_start_time_seconds",
}
# Of HAProxy; tests/stack finds them in it.
OF_THE_BALANCER = {"haproxy_server_status", "haproxy_backend_active_servers"}
ALERTS = rules("alert")
DASHBOARDS = {"overview", "gpu", "models", "apis", "config", "optimization"}


def test_promtool_takes_the_rules() -> None:
    promtool("check", "rules", *sorted(FOLDER.glob("rules/*.yml")))


def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    given = (FOLDER / "prometheus.yml").read_text()
    token = tmp_path / "token"
    token.touch()
    (tmp_path / "rules").symlink_to(FOLDER / "rules")
    ours = tmp_path / "prometheus.yml"
    ours.write_text(given.replace("/run/secrets/metrics_token", str(token)))

    assert str(token) in ours.read_text()
    promtool("check", "config", ours)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("tests/*.yml")), ids=lambda path: path.stem)
def test_rules_fire_and_keep_silent_as_their_tests_say(path: Path) -> None:
    promtool("test", "rules", path)


@pytest.mark.parametrize("alert", sorted({rule["alert"] for rule in ALERTS}))
def test_each_alert_is_seen_to_fire_and_to_keep_silent(alert: str) -> None:
    cases = [case for case in questions() if re.fullmatch(asked(case["expr"]), alert)]
    fired = [fires(case, alert) for case in cases]

    assert True in fired
    # The watchdog has no silence.
    assert False in fired or alert == "LLMWatchdog"


def questions() -> list[dict[str, Any]]:
    tests = [yaml.safe_load(path.read_text())["tests"] for path in FOLDER.glob("tests/*.yml")]
    return [case for some in tests for test in some for case in test["promql_expr_test"]]


def asked(expression: str) -> str:
    """Which alerts a question is about, as a pattern."""
    name = re.search(r'ALERTS{[^}]*alertname=~?"([^"]+)"', expression)
    return name[1] if name else ".*" if "ALERTS" in expression else ""


def fires(case: dict[str, Any], alert: str) -> bool:
    samples = case.get("exp_samples", [])
    return any(asked(case["expr"]) == alert or f'"{alert}"' in s["labels"] for s in samples)


def test_the_rules_of_the_objectives_are_those_that_the_tool_makes() -> None:
    assert (FOLDER / "rules/slo.yml").read_text() == slo_rules()


def test_every_metric_of_a_rule_exists() -> None:
    ours = {name for name, state in catalogue().items() if state == PRESENT}
    ours |= {
        name + "_total" if kind == "counter" else name for name, (kind, *_) in CATALOGUE.items()
    }
    recorded = {rule["record"] for rule in rules("record")}

    for rule in ALERTS + rules("record"):
        for name in names(rule["expr"]):
            family = re.sub(r"(?<=_seconds)_(bucket|count|sum)$", "", name)
            known = family in ours or name in recorded | OF_OTHERS | OF_THE_BALANCER
            assert known, f"{rule.get('alert', rule.get('record'))} has {name}"


def test_refusals_that_an_alert_is_about_are_among_those_that_are_counted() -> None:
    expressions = [rule["expr"] for rule in ALERTS if "llm_requests_rejected_total" in rule["expr"]]
    asked = [reason for text in expressions for reason in re.findall(r'reason=~"([^"]+)"', text)]

    assert asked
    assert {word for reasons in asked for word in reasons.split("|")} <= set(REJECTIONS.values())


def test_names_of_an_expression_are_its_metrics_alone() -> None:
    expression = 'sum by (job) (rate(a_total{b=~"c|d"}[5m])) / on (job) x:y:z > 2 and ignoring (e) up offset 9m'

    assert names(expression) == {"a_total", "x:y:z", "up"}


def test_each_alert_says_what_is_wrong_and_where_to_go_on() -> None:
    for rule in ALERTS:
        said = rule["annotations"]
        assert set(said) == {"summary", "description", "runbook_url", "dashboard_url"}
        assert said["runbook_url"] == "docs/runbooks.md#" + rule["alert"].lower()
        page = re.match(r"/d/llm-(\w+)(?:\?|$)", said["dashboard_url"])
        assert page is not None
        assert page[1] in DASHBOARDS
        assert rule["labels"]["severity"] in {"critical", "warning", "info", "none"}
        assert "{{" not in said["summary"]
        # What two tiers may say of the same thing differs, or it could not be told which it was.
        assert (
            "$value" in said["description"] or "$labels" in said["description"] or "for" not in rule
        )


def test_what_alerts_say_is_whole(tmp_path: Path) -> None:
    """promtool shows what it got where something else was expected; here it expects nothing."""
    said = ""
    for path in sorted(FOLDER.glob("tests/*.yml")):
        document = yaml.safe_load(path.read_text())
        document["rule_files"] = [str(FOLDER / "tests" / file) for file in document["rule_files"]]
        document["tests"] = [asking(test) for test in document["tests"]]
        asked_anew = tmp_path / path.name
        asked_anew.write_text(yaml.safe_dump(document))
        command = [program("promtool", "prometheus"), "test", "rules", str(asked_anew)]
        result = subprocess.run(command, capture_output=True, text=True)
        said += result.stdout + result.stderr

    for rule in ALERTS:
        assert f'alertname="{rule["alert"]}"' in said
    words = re.findall(r"Annotations:{(.*)}", said)
    assert len(words) >= len(ALERTS)
    for one in words:
        assert not re.search(r"error expanding|no value|%!|{{|\(\)| of ,|  ", one), one


def asking(test: dict[str, Any]) -> dict[str, Any]:
    """The same series; what every alert that fires says, at the first moment that one does."""
    moments = {
        rule["alert"]: case["eval_time"]
        for rule in ALERTS
        for case in reversed(test["promql_expr_test"])
        if fires(case, rule["alert"])
    }
    told = [{"eval_time": when, "alertname": alert} for alert, when in moments.items()]
    series = test.get("input_series", [])
    interval = test.get("interval", "1m")
    return {"interval": interval, "input_series": series, "alert_rule_test": told}


def test_runbooks_have_a_section_for_each_alert_and_for_nothing_else() -> None:
    text = (ROOT / "docs/runbooks.md").read_text()
    sections = re.findall(r"^### (LLM\w+)$", text, re.M)

    assert sorted(sections) == sorted({rule["alert"] for rule in ALERTS})


@pytest.mark.timeout(400)
def test_some_breaks_of_the_rules_are_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """`make mutate-rules` tries them all."""
    program("promtool", "prometheus")
    document = {"groups": [{"rules": [{"alert": "LLMEngineDown", "expr": "llm_engine_up == 0"}]}]}
    (broken,) = (m for m in mutants("alerts.yml", document) if m.value == "llm_engine_up == 1")
    assert broken.what == "llm_engine_up == [0 → 1]"

    assert main(["--sample", "2", "--file", "alerts.yml"]) == 0
    assert "2 of 2 breaks were seen" in capsys.readouterr().out
