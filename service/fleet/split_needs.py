"""What a model would take on each GPU within its constraints, also where there is no room. Pure.

`placement` refuses what does not fit. Whoever has to say by how much asks here: the context is
what it would be, or where not even that fits, the least that a model is given of itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from service.context import padded
from service.fleet.constraints import Constraints, PlacementError
from service.fleet.memory import ModelMemory
from service.fleet.placed import AMPLE, Gpu
from service.fleet.placement import LEAST_CONTEXT, place


def needs_of(
    model: ModelMemory, gpus: Sequence[Gpu], constraints: Constraints, ratio: float = 1.0
) -> tuple[int, ...]:
    """Bytes on each GPU. `ratio`: as `place` has it. Raises PlacementError for what no memory could make right."""
    try:
        placement = place(model, gpus, None, constraints, ratio)
    except PlacementError:
        least = constraints.context or min(LEAST_CONTEXT, padded(model.n_ctx_train))
        ample = [dataclasses.replace(gpu, free=AMPLE, reserve=0) for gpu in gpus]
        constraints = dataclasses.replace(constraints, context=least)
        placement = place(model, ample, None, constraints, ratio)
    return tuple(share.total for share in placement.shares)
