"""What changes of the configuration did, as families: of each rule, and of each other source of
changes (configure, preset, weights, rollback, import, file), the last one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.control.effects import Effect, Verdict

VERDICTS: Final[Sequence[Verdict]] = get_args(Verdict)


@dataclass(frozen=True)
class Outcome:
    """`id`: of the rule, or the source. `at`: of the last change, in Unix seconds. `verdict` and
    `effect` are None until there is one. `verdicts`: how many changes ended with which."""

    id: str
    metric: str
    at: float
    verdict: str | None = None
    effect: Effect | None = None
    verdicts: Mapping[str, int] = field(default_factory=dict)

    def judged(self, verdict: str, effect: Effect | None) -> Outcome:
        return replace(self, verdict=verdict, effect=effect)

    def counted(self, verdict: str) -> Outcome:
        count = self.verdicts.get(verdict, 0) + 1
        return replace(self, verdicts={**self.verdicts, verdict: count})

    def again(self, metric: str, at: float) -> Outcome:
        """The next change of the same source."""
        return Outcome(self.id, metric, at, verdicts=self.verdicts)


class Verdicts(Collector):
    """`read` is called on the thread that renders, and gives values that do not change."""

    def __init__(self, read: Callable[[], Sequence[Outcome]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        outcomes = self._read()
        counts = CounterMetricFamily(
            "llm_optimization_applied_total",
            "Changes of the configuration whose window is closed, by whose they were and what came of them.",
            labels=("id", "verdict"),
        )
        verdict = GaugeMetricFamily(
            "llm_optimization_change_verdict",
            "1 for what the last change of this rule or source is known to have done, so far.",
            labels=("id", "verdict"),
        )
        changed = GaugeMetricFamily(
            "llm_optimization_change_timestamp_seconds",
            "When it was made, in Unix seconds.",
            labels=("id",),
        )
        ratios = {
            "ratio": "After/before of the medians of the metric that it was to change.",
            "low_ratio": "The lower end of the 90 % interval of that.",
            "high_ratio": "The upper end of the 90 % interval of that.",
        }
        effects = {
            name: GaugeMetricFamily(
                f"llm_optimization_effect_{name}", help, labels=("id", "metric")
            )
            for name, help in ratios.items()
        }
        for outcome in outcomes:
            changed.add_metric((outcome.id,), outcome.at)
            for word in VERDICTS:
                counts.add_metric((outcome.id, word), outcome.verdicts.get(word, 0))
                if outcome.verdict is not None:
                    verdict.add_metric((outcome.id, word), float(word == outcome.verdict))
            if (effect := outcome.effect) is not None:
                labels = (outcome.id, outcome.metric)
                effects["ratio"].add_metric(labels, effect.ratio)
                effects["low_ratio"].add_metric(labels, effect.low)
                effects["high_ratio"].add_metric(labels, effect.high)
        yield from (counts, verdict, changed, *effects.values())
