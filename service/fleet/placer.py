"""From an engine's parameters to constraints, and from a placement back to parameters."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from msgspec.structs import replace

from service.catalog.card import ModelCard
from service.context import output_rows
from service.engine.wire import EngineParams
from service.facts import ModelFacts
from service.fleet.calibration import Learnt, key_of
from service.fleet.constraints import Constraints, PlacementError
from service.fleet.memory import ModelMemory, cell_bytes
from service.fleet.model_layers import memory_of
from service.fleet.placed import AMPLE, Gpu, Placement, readable
from service.fleet.placement import place
from service.fleet.vetting import Unloadable
from service.host_memory import HostMemory, host_memory

logger = logging.getLogger(__name__)

# A driver may hang. The thread that asks it is lost then, the model is not.
DRIVER_SECONDS: Final = 30.0

Devices = Callable[[], Sequence[Gpu]]


def constraints_of(params: EngineParams) -> Constraints:
    """`auto` flash attention counts as on: where a backend lacks it, more is needed."""
    return Constraints(
        context=params.n_ctx,
        slots=params.n_seq,
        kv_layout=params.kv_layout,
        gpu_layers=params.gpu_layers,
        tensor_split=params.tensor_split,
        main_gpu=params.main_gpu,
        split_mode=params.split_mode,
        type_k=params.cache_type_k,
        type_v=params.cache_type_v,
        flash_attention=params.flash_attention != "off",
        n_ubatch=min(params.n_batch, params.n_ubatch),
        n_outputs=output_rows(params.n_seq),
        prefix_cache=params.prefix_cache,
    )


def placed(params: EngineParams, placement: Placement, model: ModelMemory) -> EngineParams:
    """Without GPUs, what nobody chose is left to the engine."""
    params = replace(params, cell_bytes=cell_bytes(model, params.cache_type_k, params.cache_type_v))
    if not placement.gpus:
        return params
    return replace(
        params,
        n_ctx=placement.shape.n_ctx,
        gpu_layers=placement.gpu_layers,
        tensor_split=placement.tensor_split,
        main_gpu=placement.main_gpu,
        split_mode=placement.split_mode,
    )


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of it; `cramped` where more of the model would have its place, or all of it one at
    all, if others were gone."""

    answer: EngineParams | Unloadable
    cramped: bool = False


class PlaceModel(Protocol):
    def __call__(self, card: ModelCard, params: EngineParams, /) -> Awaitable[Attempt]: ...

    def learn(self, card: ModelCard, params: EngineParams, facts: ModelFacts) -> None: ...


class Placer:
    """`devices` and `memory` are asked before each load: what is free has changed since the last.
    `learnt`: what loads took on GPUs, of what was predicted."""

    def __init__(
        self,
        devices: Devices,
        learnt: Learnt | None = None,
        memory: Callable[[], HostMemory] = host_memory,
    ) -> None:
        self._devices = devices
        self._memory = memory
        self._learnt = learnt or Learnt()

    async def __call__(self, card: ModelCard, params: EngineParams) -> Attempt:
        """A model whose header says too little is loaded as the settings say."""
        try:
            # Not `wait_for`: before Python 3.12 it answers who is cancelled as the answer comes.
            async with asyncio.timeout(DRIVER_SECONDS):
                return await asyncio.to_thread(self._place, card, params)
        except TimeoutError:
            message = f"the GPUs' driver did not answer within {DRIVER_SECONDS:g} s"
            return Attempt(Unloadable("timeout", message))

    def _place(self, card: ModelCard, params: EngineParams) -> Attempt:
        if (model := memory_of(card)) is None:
            return Attempt(params)
        gpus, memory, constraints = self._devices(), self._memory(), constraints_of(params)
        ratio = self._learnt.ratio(calibrated(card, constraints))
        # What it would get if it were alone, as far as can be known from here.
        empty = [dataclasses.replace(gpu, free=gpu.total) for gpu in gpus]
        alone = _attempted(model, empty, memory.total, constraints, ratio)
        try:
            placement = place(model, gpus, memory.available, constraints, ratio)
        except PlacementError as error:
            return Attempt(Unloadable("out_of_memory", str(error)), cramped=alone is not None)
        _tell(card.name, placement)
        cramped = alone is not None and alone.gpu_layers > placement.gpu_layers
        return Attempt(placed(params, placement, model), cramped)

    def learn(self, card: ModelCard, params: EngineParams, facts: ModelFacts) -> None:
        """From a load with `params` that is over. On a CPU there is nothing to learn: what it lacks
        is pages, which the kernel finds. Blocks."""
        taken = sum(buffer.bytes for buffer in facts.buffers if on_gpu(buffer.device))
        if not taken or (model := memory_of(card)) is None:
            return
        try:
            predicted = taken_by(model, params)
        except PlacementError as error:
            logger.debug("nothing is learnt from %s: %s", card.name, error)
            return
        self._learnt.observe(calibrated(card, constraints_of(params)), predicted, taken)


def on_gpu(device: str) -> bool:
    """By llama.cpp's name of a buffer: "CUDA0" is one, "CUDA_Host" and "CPU_Mapped" are not."""
    return not device.startswith("CPU") and not device.endswith("_Host")


def calibrated(card: ModelCard, constraints: Constraints) -> str:
    kept = constraints.type_k, constraints.type_v
    return key_of(str(card.path), *kept, flash_attention=constraints.flash_attention, device="gpu")


def taken_by(model: ModelMemory, params: EngineParams) -> int:
    """What a load with these is estimated to take of all GPUs together, in bytes."""
    gpus = max(len(params.tensor_split), (params.main_gpu or 0) + 1)
    return sum(shares_of(model, constraints_of(params), gpus))


def shares_of(
    model: ModelMemory, constraints: Constraints, gpus: int, ratio: float = 1.0
) -> tuple[int, ...]:
    """Of each GPU, where there is room for all of it. Raises PlacementError."""
    roomy = [Gpu(index, str(index), "", AMPLE, AMPLE) for index in range(gpus)]
    return tuple(share.total for share in place(model, roomy, None, constraints, ratio).shares)


def _attempted(
    model: ModelMemory,
    gpus: Sequence[Gpu],
    host_memory: int,
    constraints: Constraints,
    ratio: float,
) -> Placement | None:
    try:
        return place(model, gpus, host_memory, constraints, ratio)
    except PlacementError:
        return None


def _tell(name: str, placement: Placement) -> None:
    for gpu, share in zip(placement.gpus, placement.shares, strict=True):
        if share.total:
            logger.info(
                "%s: %d layers on GPU %d, %s of %s free",
                name,
                len(share.layers) + share.output,
                gpu.index,
                readable(share.total),
                readable(gpu.free),
            )
