"""Which rules apply to what is known, in the order of what they are worth. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from pydantic import ValidationError

from service.control import (
    rules_cpu,
    rules_gpu,
    rules_memory,
    rules_models,
    rules_placement,
    rules_serving,
)
from service.control.advice import Difficulty, Learned, Needs, Priority, Recommendation
from service.control.estimate import Estimator
from service.control.evidence import Evidence
from service.control.history import measured_here
from service.control.rule import Finding, Rule
from service.control.scoring import Score
from service.control.simulation import PLACING, with_patch
from service.settings import Settings
from service.settings_needs import need

logger = logging.getLogger(__name__)

RULES: Final[tuple[Rule, ...]] = (
    *rules_cpu.RULES,
    *rules_memory.RULES,
    *rules_gpu.RULES,
    *rules_placement.RULES,
    *rules_serving.RULES,
    *rules_models.RULES,
)
HIGH: Final = 15.0
MEDIUM: Final = 5.0
DIFFICULTIES: Final[Mapping[Needs, Difficulty]] = {
    "nothing": "easy",
    "model_reload": "moderate",
    "restart": "moderate",
    "hardware": "difficult",
}
ORDER: Final[Mapping[Priority, int]] = {"high": 0, "medium": 1, "low": 2}

LearnedEffect = Callable[[str], Learned | None]


def recommend(
    evidence: Evidence,
    score: Score,
    *,
    estimator: Estimator | None = None,
    learned: LearnedEffect = lambda rule: None,
    dismissed: Collection[str] = (),
) -> tuple[Recommendation, ...]:
    """What is most urgent first, then what the score would gain most by."""
    found = []
    for rule in RULES:
        if rule.id in dismissed or (finding := rule.find(evidence)) is None:
            continue
        if finding.patch is None or possible(rule, evidence.settings, finding.patch, estimator):
            found.append(made(rule, finding, score, learned(rule.id)))
    return tuple(sorted(found, key=lambda r: (ORDER[r.priority], -(r.gain_points or 0.0))))


def possible(
    rule: Rule, settings: Settings, patch: Mapping[str, Any], estimator: Estimator | None
) -> bool:
    """Whether the settings would be valid, and the model have its place."""
    try:
        patched = with_patch(settings, patch)
    except ValidationError as error:
        logger.debug("%s advises what is not valid: %s", rule.id, error)
        return False
    if estimator is None or PLACING.isdisjoint(patch):
        return True
    estimate = estimator(patched)
    return estimate is None or estimate.refused is None


def made(rule: Rule, finding: Finding, score: Score, learned: Learned | None) -> Recommendation:
    gain = 0.0 if rule.opportunity else score.gain(rule.component)
    if rule.component is None and not rule.opportunity:
        gain = None
    needs = needed(rule, finding.patch)
    return Recommendation(
        id=rule.id,
        category=rule.category,
        component=rule.component,
        priority=priority_of(rule, gain),
        difficulty=DIFFICULTIES[needs],
        title=rule.title,
        description=finding.description,
        action=finding.action,
        impact=rule.impact,
        risk=rule.risk,
        gain_points=gain,
        needs=needs,
        patch=None if finding.patch is None else dict(finding.patch),
        verify=rule.verify,
        evidence={**finding.evidence, "promql": rule.query},
        links=links(rule, finding),
        learned=learned,
    )


def links(rule: Rule, finding: Finding) -> dict[str, str]:
    found = {"docs": f"docs/optimization.md#{rule.id}"}
    return found if finding.patch is None else {**found, "apply": "/api/optimization/apply"}


def needed(rule: Rule, patch: Mapping[str, Any] | None) -> Needs:
    if patch is None:
        return rule.needs
    kinds = {need(key) for key in patch}
    return "restart" if "restart" in kinds else "model_reload" if "reload" in kinds else "nothing"


def priority_of(rule: Rule, gain: float | None) -> Priority:
    if rule.opportunity:
        return "low"
    if rule.safety or (gain is not None and gain >= HIGH):
        return "high"
    return "medium" if gain is not None and gain >= MEDIUM else "low"


def estimated_improvement(recommendation: Recommendation) -> str:
    """For people: what it did here, or that nobody knows; and the points, which are no per cents."""
    text = measured_here(recommendation.learned)
    if recommendation.gain_points:
        text += f"; up to {recommendation.gain_points:.1f} points of the score"
    return text
