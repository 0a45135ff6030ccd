"""Recommendations: what could be changed, with the numbers that say so."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

Category = Literal["performance", "memory", "stability", "cost"]
Priority = Literal["high", "medium", "low"]
Difficulty = Literal["easy", "moderate", "difficult"]
Needs = Literal["nothing", "model_reload", "restart", "hardware"]


class Verify(Struct, frozen=True):
    """How to see whether it helped: a metric family, where it should go, requests on each side."""

    metric: str
    direction: Literal["up", "down"]
    minimum_samples: int = 20


class Learned(Struct, frozen=True):
    """What a rule's applications did on this machine: the median of after/before of `metric`."""

    metric: str
    ratio: float
    applications: int


class Recommendation(Struct, frozen=True):
    """gain_points: of the score, if its component were repaired; None while there is no score.
    patch: keys of Settings; None where nobody but the operator can do it."""

    id: str
    category: Category
    component: str | None
    priority: Priority
    difficulty: Difficulty
    title: str
    description: str
    action: str
    impact: str
    risk: str
    gain_points: float | None
    needs: Needs
    patch: dict[str, Any] | None
    verify: Verify | None
    evidence: dict[str, Any]
    links: dict[str, str]
    learned: Learned | None = None
