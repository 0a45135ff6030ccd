"""The score: which part of the service that this machine could give is given. Pure.

    score = 100 * product over components of (1 - L * (1 - h))

L is what is lost where a component is at its worst, h its health of 0 to 1. A product, so that one
fire is a low score and small losses add up; what a component's repair would be worth is the score
without its factor. What is not measured is left out, and lowers the coverage alone: the share of
the losses that could have been seen. Below LEAST_COVERAGE there is no score.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from service.control.analysis import Component
from service.control.analysis import Group as GroupScore
from service.control.components import GROUPS, PARTS, Group, Part
from service.control.evidence import Evidence

LEAST_COVERAGE: Final = 0.3
GOOD: Final = 85.0
WARNING: Final = 60.0


@dataclass(frozen=True)
class Score:
    value: float | None
    coverage: float
    components: tuple[Component, ...]
    groups: Mapping[Group, GroupScore]

    def gain(self, component: str | None) -> float | None:
        """Points, if it were repaired; None where it cannot be told."""
        return next((c.gain for c in self.components if c.id == component), None)


def score(evidence: Evidence) -> Score:
    chosen = evidence.settings.optimization_losses
    losses = {str(id): loss for id, loss in chosen.items()}
    parts = [part for part in PARTS if part.applies(evidence)]
    factors = {
        part: (loss_of(part, evidence, losses.get(part.id)), part.healthy(evidence))
        for part in parts
    }
    possible = sum(loss for loss, _ in factors.values())
    known = {part: (loss, h) for part, (loss, h) in factors.items() if h is not None}
    coverage = sum(loss for loss, _ in known.values()) / possible if possible else 0.0
    kept = {part: 1 - loss * (1 - h) for part, (loss, h) in known.items()}
    value = 100 * math.prod(kept.values()) if coverage >= LEAST_COVERAGE else None
    components = tuple(
        Component(
            part.id,
            part.group,
            health,
            loss,
            gain(part, kept) if value is not None and part in kept else None,
            part.value(evidence),
            {"unit": part.unit, "good": part.good, "bad": part.bad},
        )
        for part, (loss, health) in factors.items()
    )
    return Score(value, coverage, components, {g: group(g, components) for g in GROUPS})


def loss_of(part: Part, evidence: Evidence, chosen: float | None) -> float:
    return (part.max_loss if chosen is None else chosen) * part.weight(evidence)


def gain(part: Part, kept: Mapping[Part, float]) -> float:
    """Without its own factor, which may be 0."""
    others = 100 * math.prod(factor for other, factor in kept.items() if other is not part)
    return others * (1 - kept[part])


def group(name: Group, components: Iterable[Component]) -> GroupScore:
    of = [c for c in components if c.group == name]
    if not of:
        return GroupScore(None, "not_applicable")
    known = [c for c in of if c.health is not None]
    if not known:
        return GroupScore(None, "unknown")
    value = 100 * math.prod(1 - c.max_loss * (1 - (c.health or 0.0)) for c in known)
    if value >= GOOD:
        return GroupScore(value, "good")
    return GroupScore(value, "warning" if value >= WARNING else "critical")
