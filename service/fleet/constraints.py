"""What a placement is held to, and what no placement could meet. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from service.facts import KVLayout, SplitMode
from service.fleet.memory import ModelMemory, quantized


@dataclass(frozen=True, slots=True)
class Constraints:
    """None or empty: ours to choose. main_gpu and tensor_split count GPUs as they are given."""

    context: int | None = None
    slots: int = 1
    kv_layout: KVLayout = "auto"
    gpu_layers: int | None = None
    tensor_split: tuple[float, ...] = ()
    main_gpu: int | None = None
    split_mode: SplitMode | None = None
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attention: bool = True
    n_ubatch: int = 512
    n_outputs: int = 33
    prefix_cache: bool = True


class PlacementError(ValueError):
    """`field` is the constraint that cannot be honoured."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


def check(constraints: Constraints, gpus: int) -> None:
    """What no memory could make right."""
    split = constraints.tensor_split
    if len(split) > gpus > 0:
        raise PlacementError("tensor_split", f"{len(split)} shares for {gpus} GPUs")
    if any(share < 0 for share in split):
        raise PlacementError("tensor_split", "a share cannot be negative")
    if split and not sum(split) > 0:
        raise PlacementError("tensor_split", "at least one share must be above 0")
    if constraints.main_gpu is not None and not 0 <= constraints.main_gpu < max(gpus, 1):
        raise PlacementError("main_gpu", f"{constraints.main_gpu}, and there are {gpus} GPUs")
    if constraints.gpu_layers is not None and constraints.gpu_layers < 0:
        raise PlacementError("gpu_layers", "cannot be negative")
    if constraints.context is not None and constraints.context < 1:
        raise PlacementError("context_size", "must be above 0")
    if split and constraints.split_mode == "none":
        raise PlacementError("tensor_split", "split_mode none splits nothing")


def check_cache(constraints: Constraints, model: ModelMemory) -> None:
    """What llama_init_from_model refuses."""
    if quantized(constraints.type_v) and not constraints.flash_attention and not model.latent:
        raise PlacementError("cache_type_v", f"{constraints.type_v} needs flash attention")
    if model.latent and constraints.type_k != constraints.type_v:
        raise PlacementError("cache_type_v", f"{model.architecture} keeps both in one type")
    types = (("cache_type_k", constraints.type_k), ("cache_type_v", constraints.type_v))
    for (field, kind), length in zip(types, model.head_lengths, strict=True):
        block = quantized(kind)
        if block and constraints.flash_attention and length % block:
            raise PlacementError(
                field, f"{kind} has blocks of {block}, and a head is {length} long"
            )


def chosen_layers(model: ModelMemory, constraints: Constraints) -> int | None:
    """None where it is left to the placement. Of a split, all of them at most."""
    chosen, everything = constraints.gpu_layers, len(model.layers) + 1
    if chosen is None or chosen <= everything:
        return chosen
    return everything if constraints.tensor_split or constraints.split_mode == "row" else None
