"""Writes prometheus/rules/slo.yml: what is promised, and how fast what may be missed of it is used up.

    python -m tools.slo_rules > prometheus/rules/slo.yml

Windows and burn rates are those of "Alerting on SLOs" in Google's Site Reliability Workbook: a long
window says that it matters, a short one that it goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import yaml

# A ratio of a handful of requests is an accident: what alerts has at least so many in its long window.
MINIMUM_REQUESTS: Final = 20


@dataclass(frozen=True)
class Objective:
    """`missed` is the part of `events` that missed it, over the window `%s`."""

    name: str
    ratio: str
    missed: str
    events: str
    budget: float
    alert: str
    summary: str
    missing: str


@dataclass(frozen=True)
class Burn:
    rate: float
    long: str
    short: str
    hold: str
    severity: str


def slower(family: str, seconds: str) -> str:
    """A bound of the family's buckets, as what is slower can be counted only there."""
    return (
        f'1 - sum by (job) (rate({family}_bucket{{le="{seconds}"}}[%s]))\n'
        f"/ (sum by (job) (rate({family}_count[%s])) > 0)"
    )


OBJECTIVES: Final = (
    Objective(
        "errors",
        "job:llm_request_errors:ratio_rate",
        # What the client caused counts neither way, or refusals would hide failures.
        '(sum by (job) (rate(llm_requests_total{code=~"5.."}[%s]))\n'
        "  or 0 * sum by (job) (rate(llm_requests_total[%s])))\n"
        '/ (sum by (job) (rate(llm_requests_total{code!~"4.."}[%s])) > 0)',
        'llm_requests_total{code!~"4.."}',
        0.01,
        "LLMErrorBudgetBurn",
        "Requests fail faster than the objective allows.",
        "requests failed",
    ),
    Objective(
        "ttft",
        "job:llm_ttft_slow:ratio_rate",
        slower("llm_time_to_first_token_seconds", "2.5"),
        "llm_time_to_first_token_seconds_count",
        0.05,
        "LLMTtftBudgetBurn",
        "First tokens come later than the objective allows.",
        "first tokens took longer than 2.5 s",
    ),
    Objective(
        "tpot",
        "job:llm_tpot_slow:ratio_rate",
        slower("llm_time_per_output_token_seconds", "0.2"),
        "llm_time_per_output_token_seconds_count",
        0.05,
        "LLMTpotBudgetBurn",
        "Answers are written more slowly than the objective allows.",
        "answers took longer than 0.2 s for each token",
    ),
)
BURNS: Final = (
    Burn(14.4, "1h", "5m", "2m", "critical"),
    Burn(6, "6h", "30m", "15m", "critical"),
    Burn(3, "1d", "2h", "1h", "warning"),
    Burn(1, "3d", "6h", "3h", "warning"),
)
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")

HEADER: Final = """\
# Made by tools/slo_rules.py, which says what is promised; not to be edited.
"""


def recording(objective: Objective, window: str) -> dict[str, Any]:
    return {
        "record": objective.ratio + window,
        "expr": objective.missed.replace("%s", window) + "\n",
    }


def alert(objective: Objective, burn: Burn) -> dict[str, Any]:
    threshold = f"{burn.rate * objective.budget:g}"
    enough = f"sum by (job) (increase({objective.events}[{burn.long}])) >= {MINIMUM_REQUESTS}"
    return {
        "alert": objective.alert,
        "expr": f"{objective.ratio}{burn.long} > {threshold}\n"
        f"and on (job) {objective.ratio}{burn.short} > {threshold}\n"
        f"and on (job) {enough}\n",
        "for": burn.hold,
        "labels": {
            "severity": burn.severity,
            "slo": objective.name,
            "long": burn.long,
            "short": burn.short,
        },
        "annotations": {
            "summary": objective.summary,
            "description": f"{{{{ $value | humanizePercentage }}}} of {objective.missing} over "
            f"{burn.long} ({objective.budget:.0%} may; {burn.rate:g} times the pace that would "
            "last 30 days).",
            "runbook_url": f"docs/runbooks.md#{objective.alert.lower()}",
            "dashboard_url": "/d/llm-apis",
        },
    }


class Dumper(yaml.SafeDumper):
    """Expressions of several lines are written as such."""


def text(dumper: Dumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


Dumper.add_representer(str, text)


def rules() -> str:
    groups = [
        {
            "name": "llm-slo-ratios",
            "interval": "1m",
            "rules": [recording(slo, window) for window in WINDOWS for slo in OBJECTIVES],
        },
        {
            "name": "llm-slo-burn",
            "rules": [alert(slo, burn) for slo in OBJECTIVES for burn in BURNS],
        },
    ]
    body = yaml.dump({"groups": groups}, Dumper=Dumper, sort_keys=False, width=200)
    return HEADER + body


if __name__ == "__main__":
    print(rules(), end="")
