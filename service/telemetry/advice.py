"""The last analysis as families. What was not measured has no series."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.control.advice import Recommendation
from service.control.analysis import Analysis, Component, Group, GroupName


class Advice(Collector):
    """`latest` may be called on any thread."""

    def __init__(self, latest: Callable[[], Analysis | None]) -> None:
        self._latest = latest

    def collect(self) -> Iterator[Metric]:
        analysis = self._latest()
        yield from whole(analysis)
        yield from components(() if analysis is None else analysis.components)
        yield groups({} if analysis is None else analysis.groups)
        yield predicted({} if analysis is None else analysis.predicted)
        yield from recommendations(() if analysis is None else analysis.recommendations)


def whole(analysis: Analysis | None) -> Iterator[Metric]:
    score = GaugeMetricFamily(
        "llm_optimization_score",
        "The part of the service that this machine could give that is given, of 100.",
    )
    coverage = GaugeMetricFamily(
        "llm_optimization_coverage_ratio",
        "The part of what could be lost that was measured; below 0.3 there is no score.",
    )
    made = GaugeMetricFamily(
        "llm_optimization_last_analysis_timestamp_seconds",
        "When the last analysis was made, in Unix seconds.",
    )
    if analysis is not None:
        coverage.add_metric((), analysis.coverage)
        made.add_metric((), analysis.made_at)
        if analysis.score is not None:
            score.add_metric((), analysis.score)
    yield from (score, coverage, made)


def components(parts: Sequence[Component]) -> Iterator[Metric]:
    labels = ("component", "group")
    health = GaugeMetricFamily(
        "llm_optimization_component_score", "Its health, of 100.", labels=labels
    )
    loss = GaugeMetricFamily(
        "llm_optimization_component_max_loss_ratio",
        "The part of the service that is lost where it is at its worst.",
        labels=labels,
    )
    for part in parts:
        loss.add_metric((part.id, part.group), part.max_loss)
        if part.health is not None:
            health.add_metric((part.id, part.group), 100 * part.health)
    yield from (health, loss)


def groups(found: Mapping[GroupName, Group]) -> Metric:
    family = GaugeMetricFamily(
        "llm_optimization_group_score", "The same score, of one group alone.", labels=("group",)
    )
    for name, group in found.items():
        if group.score is not None:
            family.add_metric((name,), group.score)
    return family


def predicted(sizes: Mapping[int, int]) -> Metric:
    family = GaugeMetricFamily(
        "llm_config_predicted_vram_bytes",
        "Memory of each GPU that the models that are loaded should take, by the estimate that loads "
        "are placed by.",
        labels=("gpu",),
    )
    for index, size in sizes.items():
        family.add_metric((str(index),), size)
    return family


def recommendations(advice: Sequence[Recommendation]) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "llm_optimization_recommendation_info",
        "1 for each piece of advice; applicable: whether this service can do it itself.",
        labels=("id", "category", "priority", "difficulty", "title", "applicable"),
    )
    gain = GaugeMetricFamily(
        "llm_optimization_recommendation_gain_points",
        "Points of the score, if what it is about were repaired.",
        labels=("id",),
    )
    for piece in advice:
        applicable = str(piece.patch is not None).lower()
        labels = (
            piece.id,
            piece.category,
            piece.priority,
            piece.difficulty,
            piece.title,
            applicable,
        )
        info.add_metric(labels, 1)
        if piece.gain_points is not None:
            gain.add_metric((piece.id,), piece.gain_points)
    yield from (info, gain)
