"""Who is told what, and what nobody is sent: alerting/alertmanager.yml, asked by amtool."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.programs import amtool
from tests.prometheus.rules import ROOT, rules

FILE = ROOT / "alerting/alertmanager.yml"
ROUTING = yaml.safe_load(FILE.read_text())
RECEIVERS = {"critical": "pager", "warning": "team", "info": "dashboards", "none": "deadman"}


def test_amtool_takes_the_configuration_and_its_templates() -> None:
    said = amtool("check-config", FILE)

    assert "1 templates" in said


@pytest.mark.parametrize(
    ("alert", "severity"),
    sorted({(rule["alert"], rule["labels"]["severity"]) for rule in rules("alert")}),
)
def test_each_alert_is_routed_by_its_severity(alert: str, severity: str) -> None:
    labels = (f"alertname={alert}", f"severity={severity}")

    amtool(
        "config", "routes", "test", f"--config.file={FILE}",
        f"--verify.receivers={RECEIVERS[severity]}", *labels,
    )  # fmt: skip


def test_as_delivered_nobody_is_sent_anything_and_no_secret_is_needed() -> None:
    assert [list(receiver) for receiver in ROUTING["receivers"]] == [["name"]] * 4
    assert "/run/secrets/" not in yaml.safe_dump(ROUTING)


def test_every_way_out_that_is_in_comments_is_right_when_it_is_taken(tmp_path: Path) -> None:
    text = re.sub(r"^  # ", "  ", FILE.read_text(), flags=re.M)
    (tmp_path / "templates").symlink_to(ROOT / "alerting/templates")
    # Where those are read that every receiver's defaults are about.
    whole = tmp_path / "alertmanager.yml"
    whole.write_text(re.sub(r"^  (It fires|about)", r"  # \1", text, flags=re.M))

    ways = {key for receiver in yaml.safe_load(whole.read_text())["receivers"] for key in receiver}
    assert ways == {
        "name",
        "webhook_configs",
        "slack_configs",
        "email_configs",
        "pagerduty_configs",
    }
    amtool("check-config", whole)


SECRETS = re.compile(r"\b(\w*(?:url|key|password|token|secret)\w*):")


def test_secrets_are_read_from_files() -> None:
    named = set(SECRETS.findall(FILE.read_text()))

    assert named == {"url", "api_url_file", "auth_password_file", "routing_key_file"}


def message(template: str, tmp_path: Path) -> str:
    data = tmp_path / "data.json"
    data.write_text(
        """{"receiver": "team", "status": "firing", "alerts": [
            {"status": "firing", "labels": {"severity": "warning"},
             "annotations": {"description": "GPU 1 is at 82 °C.", "runbook_url": "docs/runbooks.md#hot",
                             "dashboard_url": "/d/llm-gpu"}},
            {"status": "resolved", "labels": {"severity": "warning"},
             "annotations": {"description": "GPU 2 is at 81 °C.", "runbook_url": "docs/runbooks.md#hot",
                             "dashboard_url": "/d/llm-gpu"}}],
            "groupLabels": {"alertname": "Hot", "instance": "a"},
            "commonLabels": {"severity": "warning"}, "commonAnnotations": {}, "externalURL": ""}"""
    )
    return amtool(
        "template", "render", f"--template.glob={ROOT}/alerting/templates/*.tmpl",
        f"--template.data={data}", "--template.text", f'{{{{ template "{template}" . }}}}',
    )  # fmt: skip


def test_a_message_says_what_is_wrong_what_to_do_and_where_to_look(tmp_path: Path) -> None:
    assert message("llm.title", tmp_path).strip() == "[FIRING: 1] warning Hot at a"
    assert message("llm.text", tmp_path).strip().splitlines() == [
        "GPU 1 is at 82 °C.",
        "What to do: docs/runbooks.md#hot",
        "http://localhost:3000/d/llm-gpu",
        "Over: GPU 2 is at 81 °C.",
        "What to do: docs/runbooks.md#hot",
        "http://localhost:3000/d/llm-gpu",
    ]


# ---- what explains what: read as Alertmanager reads it; tests/stack has it for real


def silent(explained: dict[str, str], cause: dict[str, str]) -> bool:
    return any(
        matches(cause, rule["source_matchers"])
        and matches(explained, rule["target_matchers"])
        and all(cause.get(label, "") == explained.get(label, "") for label in rule["equal"])
        for rule in ROUTING["inhibit_rules"]
    )


def matches(labels: dict[str, str], matchers: list[str]) -> bool:
    return all(holds(labels, *re.split(r" (=~|!~|!=|=) ", matcher)) for matcher in matchers)


def holds(labels: dict[str, str], name: str, operator: str, value: str) -> bool:
    has, value = labels.get(name, ""), value.strip('"')
    found = bool(re.fullmatch(value, has)) if "~" in operator else has == value
    return found is not operator.startswith("!")


def alert(name: str, severity: str = "warning", **labels: str) -> dict[str, Any]:
    return {"alertname": name, "severity": severity, **labels}


CARD = {"job": "llm-exporters", "instance": "a", "gpu": "1"}
MODEL = {"job": "llm-service", "instance": "a", "model": "m"}


@pytest.mark.parametrize(
    ("explained", "cause"),
    [
        (alert("LLMGpuTemperatureHigh", **CARD), alert("LLMGpuTemperatureHigh", "critical", **CARD)),
        (alert("LLMGpuThrottling", **CARD), alert("LLMGpuTemperatureHigh", **CARD)),
        (alert("LLMGpuNearSlowdown", **CARD), alert("LLMGpuTemperatureHigh", "critical", **CARD)),
        (alert("LLMGpuXid", "critical", **CARD), alert("LLMGpuLost", "critical", **CARD)),
        (
            alert("LLMEngineStalled", "critical", **MODEL),
            alert("LLMTargetDown", "critical", job="llm-service", instance="a"),
        ),
        (alert("LLMEngineCrashing", "critical", **MODEL), alert("LLMEngineDown", "critical", **MODEL)),
        (
            alert("LLMErrorBudgetBurn", job="llm-service", slo="errors", long="1d"),
            alert("LLMErrorBudgetBurn", "critical", job="llm-service", slo="errors", long="1h"),
        ),
    ],
)  # fmt: skip
def test_what_is_explained_by_another_is_silent(
    explained: dict[str, str], cause: dict[str, str]
) -> None:
    assert silent(explained, cause)


@pytest.mark.parametrize(
    ("alert_", "other"),
    [
        (alert("LLMGpuTemperatureHigh", **CARD),
         alert("LLMGpuTemperatureHigh", "critical", **{**CARD, "gpu": "2"})),
        (alert("LLMGpuThrottling", **CARD), alert("LLMGpuTemperatureHigh", **{**CARD, "gpu": "2"})),
        (alert("LLMGpuLost", "critical", **CARD),
         alert("LLMTargetDown", "critical", job="llm-service", instance="a")),
        (alert("LLMGpuLost", "critical", **CARD), alert("LLMGpuLost", "critical", **CARD)),
        (alert("LLMTargetDown", "critical", **CARD), alert("LLMTargetDown", "critical", **CARD)),
        (alert("LLMEngineCrashing", **MODEL), alert("LLMEngineDown", "critical", **{**MODEL, "model": "n"})),
        (alert("LLMModelStoreDiskFull", **CARD, path="/a"),
         alert("LLMModelStoreDiskFull", "critical", **CARD, path="/b")),
        (alert("LLMWatchdog", "none"), alert("LLMTargetDown", "critical")),
    ],
)  # fmt: skip
def test_what_is_not_explained_is_told(alert_: dict[str, str], other: dict[str, str]) -> None:
    assert not silent(alert_, other)
