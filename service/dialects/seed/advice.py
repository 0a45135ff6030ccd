"""An analysis as JSON. Keys of the service that these routes come from, and beside them our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from service.control.advice import Recommendation
from service.control.analysis import Analysis, Component
from service.control.analyst import Hypothesis
from service.control.estimate import Estimate
from service.control.recommending import estimated_improvement
from service.dialects.framing import iso

SCHEMA_VERSION: Final = 2


def encode_analysis(
    judged: Analysis | Hypothesis | None, latest: Analysis | None
) -> dict[str, Any]:
    """`latest` tells when what it is made of was measured."""
    components = judged.components if judged else ()
    measured = latest.measured_at if latest else None
    return {
        "recommendations": [encode_advice(r) for r in judged.recommendations] if judged else [],
        "overall_score": rounded(judged.score) if judged else None,
        "coverage": rounded(judged.coverage, 4) if judged else 0.0,
        "made_at": iso(latest.made_at) if latest else None,
        "measured_at": None if measured is None else iso(measured),
        "window_seconds": rounded(latest.window_seconds) if latest else 0.0,
        "components": [encode_component(component) for component in components],
        "groups": {
            name: {"score": rounded(group.score), "status": group.status}
            for name, group in (judged.groups.items() if judged else ())
        },
        "schema_version": SCHEMA_VERSION,
    }


def encode_component(component: Component) -> dict[str, Any]:
    return {
        "id": component.id,
        "group": component.group,
        "health": rounded(component.health, 4),
        "max_loss": rounded(component.max_loss, 4),
        "gain": rounded(component.gain),
        "value": component.value,
        "evidence": dict(component.evidence),
    }


def encode_advice(advice: Recommendation) -> dict[str, Any]:
    verify = advice.verify
    return {
        "id": advice.id,
        "category": advice.category,
        "component": advice.component,
        "priority": advice.priority,
        "title": advice.title,
        "description": advice.description,
        "action": advice.action,
        "impact": advice.impact,
        "implementation_difficulty": advice.difficulty,
        "estimated_improvement": estimated_improvement(advice),
        "gain_points": rounded(advice.gain_points),
        "patch": advice.patch,
        "needs": advice.needs,
        "risk": advice.risk,
        "verify": None
        if verify is None
        else {
            "metric": verify.metric,
            "direction": verify.direction,
            "minimum_samples": verify.minimum_samples,
        },
        "evidence": advice.evidence,
        "links": advice.links,
    }


def encode_hypothesis(asked: Mapping[str, Any], imagined: Hypothesis | None) -> dict[str, Any]:
    """fits: null where the model in use has no header that says enough, or there is none in use."""
    estimate = imagined.estimate if imagined else None
    return {
        "settings": dict(asked),
        "fits": None if estimate is None else estimate.refused is None,
        "reason": None if estimate is None else estimate.refused,
        "placement": None if estimate is None or estimate.refused else placement(estimate),
    }


def placement(estimate: Estimate) -> dict[str, Any]:
    return {
        "gpu_layers": estimate.gpu_layers,
        "layers": estimate.layers,
        "tensor_split": list(estimate.shares),
        "context_tokens": estimate.context,
        "needed_bytes": list(estimate.needed),
        "free_after_bytes": list(estimate.free_after),
        "host_free_bytes": estimate.host_free,
    }


def rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)
