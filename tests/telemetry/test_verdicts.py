from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from service.control.effects import Effect
from service.telemetry.verdicts import Outcome, Verdicts

METRIC = "llm_time_per_output_token_seconds"


def text(*outcomes: Outcome) -> list[str]:
    registry = CollectorRegistry()
    registry.register(Verdicts(lambda: outcomes))
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_a_change_without_a_verdict_has_its_time_and_counters_at_zero() -> None:
    assert text(Outcome("configure", METRIC, 100.0)) == [
        'llm_optimization_applied_total{id="configure",verdict="improved"} 0.0',
        'llm_optimization_applied_total{id="configure",verdict="neutral"} 0.0',
        'llm_optimization_applied_total{id="configure",verdict="regressed"} 0.0',
        'llm_optimization_applied_total{id="configure",verdict="insufficient_data"} 0.0',
        'llm_optimization_change_timestamp_seconds{id="configure"} 100.0',
    ]


def test_a_verdict_has_its_ratio_and_the_interval_and_counts_once_it_is_final() -> None:
    effect = Effect(0.8, 0.7, 0.9, 40, 40, 1)
    outcome = Outcome("threads-physical", METRIC, 100.0).judged("improved", effect)
    of = f'{{id="threads-physical",metric="{METRIC}"}}'

    lines = text(outcome.counted("improved"))

    assert f"llm_optimization_effect_ratio{of} 0.8" in lines
    assert f"llm_optimization_effect_low_ratio{of} 0.7" in lines
    assert f"llm_optimization_effect_high_ratio{of} 0.9" in lines
    verdict = '{id="threads-physical",verdict="improved"} 1.0'
    assert f"llm_optimization_change_verdict{verdict}" in lines
    assert f"llm_optimization_applied_total{verdict}" in lines
    assert f"llm_optimization_applied_total{verdict}" not in text(outcome)


def test_the_next_change_of_a_rule_begins_without_a_verdict_and_keeps_the_counts() -> None:
    effect = Effect(0.8, 0.7, 0.9, 40, 40, 1)
    first = Outcome("configure", METRIC, 1.0).judged("improved", effect).counted("improved")

    again = first.again(METRIC, 2.0)

    assert (again.verdict, again.effect, again.at) == (None, None, 2.0)
    assert again.verdicts == {"improved": 1}
