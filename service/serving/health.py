"""Whether the service is well, in the words that its first clients read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from service.serving.model_status import ModelStatus


def health_body(draining: bool, models: Sequence[ModelStatus]) -> dict[str, Any]:
    usable = [model for model in models if model.card.problem is None]
    return {
        "status": health_of(draining, usable),
        "timestamp": datetime.now(UTC).isoformat(),
        "components": {
            "executor": "draining" if draining else executor_of(usable),
            "models": f"{len(usable)} available",
            "active_requests": sum(model.running + model.waiting for model in models),
        },
    }


def health_of(draining: bool, usable: Sequence[ModelStatus]) -> str:
    if draining or (usable and all(model.state == "failed" for model in usable)):
        return "unhealthy"
    if not usable or any(model.state in ("failed", "restarting") for model in usable):
        return "degraded"
    return "healthy"


def executor_of(usable: Sequence[ModelStatus]) -> str:
    """The gravest state of an engine that there is."""
    states = {model.state for model in usable}
    return next((s for s in ("failed", "restarting", "loading") if s in states), "healthy")
