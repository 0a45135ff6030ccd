"""What the machine's share of attainable service is, and what could be done about the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from service.control.advice import Recommendation

GroupName = Literal["cpu", "memory", "gpu", "models"]


class Component(Struct, frozen=True):
    """health: of 0 to 1; None where it was not measured. max_loss: the share of service that is
    lost at health 0. gain: points of the score, if it were repaired alone. value: what was measured."""

    id: str
    group: GroupName
    health: float | None
    max_loss: float
    gain: float | None
    value: float | None
    evidence: Mapping[str, Any]


class Group(Struct, frozen=True):
    """score: None where nothing of it was measured."""

    score: float | None
    status: Literal["good", "warning", "critical", "unknown", "not_applicable"]


class Analysis(Struct, frozen=True):
    """made_at, and measured_at (the end of the last traffic that is in it): Unix seconds. predicted:
    bytes of each GPU, by its index, that the models that are loaded should take."""

    made_at: float
    measured_at: float | None
    window_seconds: float
    score: float | None
    coverage: float
    groups: Mapping[GroupName, Group]
    components: tuple[Component, ...]
    recommendations: tuple[Recommendation, ...]
    predicted: Mapping[int, int] = {}
