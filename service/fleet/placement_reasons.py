"""What a placement was limited by, and why it is as it is, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from service.context import padded
from service.fleet.constraints import Constraints, chosen_layers
from service.fleet.memory import ContextShape, ModelMemory
from service.fleet.placed import Gpu, Limit, readable
from service.fleet.sums import Need


def limit_of(
    model: ModelMemory,
    constraints: Constraints,
    gpus: Sequence[Gpu],
    shape: ContextShape,
    layers: int,
) -> Limit:
    if gpus and layers <= len(model.layers):
        return "gpu_memory" if chosen_layers(model, constraints) is None else "wishes"
    if constraints.context is not None:
        return "nothing" if shape.n_ctx >= model.n_ctx_train else "wishes"
    if shape.n_ctx >= padded(model.n_ctx_train):
        return "nothing"
    return "gpu_memory" if layers else "host_memory"


def reasons_of(
    model: ModelMemory,
    constraints: Constraints,
    gpus: Sequence[Gpu],
    shape: ContextShape,
    counts: Sequence[int],
    host_memory: int | None,
    host: Need,
) -> Iterator[str]:
    """`counts`: layers on each GPU. `host`: what stays of the host's memory, if that is known."""
    yield from model.unknown
    yield from _of_layers(model, constraints, gpus, counts)
    if constraints.context is None and shape.n_ctx < padded(model.n_ctx_train):
        yield (
            f"{shape.n_ctx} tokens of context of the {model.n_ctx_train} that it was trained "
            "for: the rest does not fit into the memory set aside for it"
        )
    if host_memory is not None and host.total > host_memory:
        yield (
            f"the host would need {readable(host.total)} and has {readable(host_memory)}: weights "
            "are read from the disk again and again"
        )


def _of_layers(
    model: ModelMemory, constraints: Constraints, gpus: Sequence[Gpu], counts: Sequence[int]
) -> Iterator[str]:
    layers, everything = sum(counts), len(model.layers) + 1
    if not gpus and (constraints.tensor_split or constraints.gpu_layers):
        yield "there is no GPU to place layers on"
    used = [gpu.index for gpu, count in zip(gpus, counts, strict=True) if count]
    if layers == everything and len(used) == 1:
        yield f"the whole model fits on GPU {used[0]}"
    elif layers == everything:
        yield "no GPU holds it alone: " + ", ".join(f"GPU {i}" for i in used) + " share it"
    elif gpus and chosen_layers(model, constraints) is None:
        yield f"{layers} of {everything} layers fit on GPUs, the rest on the host"
