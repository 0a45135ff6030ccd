"""Whether a model would be served within its constraints, on paper. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from service.fleet.constraints import Constraints, PlacementError, chosen_layers
from service.fleet.memory import ModelMemory
from service.fleet.placed import Gpu
from service.fleet.placement import LEAST_CONTEXT, place


def refusal(
    model: ModelMemory,
    gpus: Sequence[Gpu],
    host_memory: int | None,
    constraints: Constraints,
    ratio: float = 1.0,
) -> str | None:
    """Why not, in words. `ratio`: as `place` has it. A context for whose sake layers leave the GPUs is too long a one: each
    token would be waited for longer, whether or not the context is used."""
    try:
        placement = place(model, gpus, host_memory, constraints, ratio)
        if constraints.context is None or chosen_layers(model, constraints) is not None:
            return None
        short = dataclasses.replace(constraints, context=min(constraints.context, LEAST_CONTEXT))
        most = place(model, gpus, host_memory, short, ratio).gpu_layers
    except PlacementError as error:
        return str(error)
    if placement.gpu_layers >= most:
        return None
    return f"{placement.gpu_layers} layers on GPUs, of {most} that there is room for without it"
