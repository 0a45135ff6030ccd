"""Answers the analysis's questions with the placement that loads go by."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from msgspec.structs import replace as with_fields
from prometheus_client.registry import Collector

from exporters.readings import GpuReading, Latest, StoreReading
from service.catalog.card import ModelCard
from service.context import output_rows
from service.control.analyst import Analyst
from service.control.estimate import Candidate, Estimate, Estimates
from service.control.gathering import Status
from service.control.hardware import Hardware
from service.control.intervals import Intervals, buckets_of
from service.control.workload import Workload
from service.facts import ModelFacts
from service.fleet.calibration import Learnt
from service.fleet.constraints import Constraints, PlacementError
from service.fleet.devices import RESERVE, built_for_gpus
from service.fleet.memory import ModelMemory
from service.fleet.model_layers import memory_of
from service.fleet.parameters import engine_params
from service.fleet.placed import Gpu, Placement
from service.fleet.placement import place
from service.fleet.placer import calibrated, constraints_of, shares_of
from service.settings import Settings

logger = logging.getLogger(__name__)

# Larger models that are tried, and the fewest times the weights of the one in use.
CANDIDATES: Final = 4
LARGER: Final = 1.2


class Monitors(Latest, Protocol):
    @property
    def expected_gpus(self) -> int | None: ...
    @property
    def stores(self) -> tuple[StoreReading, ...]: ...


def analyst_of(
    workload: Workload,
    monitors: Monitors,
    loop_lag: Collector,
    models: Callable[[], Sequence[Status]],
    settings: Callable[[], Settings],
    learnt: Learnt,
) -> Analyst:
    """`learnt`: what loads go by."""
    gpu_engine = built_for_gpus()
    lag = partial(buckets_of, loop_lag)
    return Analyst(
        workload,
        Intervals(monitors, workload, lag, time.monotonic, time.time),
        monitors,
        models,
        settings,
        time.time,
        estimate=Estimation(learnt, gpu_engine=gpu_engine),
        stores=lambda: monitors.stores,
        expected_gpus=lambda: monitors.expected_gpus,
        gpu_engine=gpu_engine,
    )


@dataclass(frozen=True)
class _Room:
    """What there would be if the model in use were not loaded. usable: to an engine as it is built."""

    gpus: tuple[Gpu, ...]
    host: int
    usable: tuple[Gpu, ...]


class Estimation:
    """Keeps headers that it has read. Any thread may call it."""

    def __init__(self, learnt: Learnt, *, gpu_engine: bool) -> None:
        self._learnt = learnt
        self._gpu_engine = gpu_engine
        self._headers: dict[tuple[str, float], ModelMemory | None] = {}
        self._lock = threading.Lock()

    def __call__(
        self, settings: Settings, hardware: Hardware, models: Sequence[Status]
    ) -> Estimates:
        predicted = self._predicted(hardware, models)
        used = next((s for s in models if s.state == "ready" and s.facts is not None), None)
        if used is None or used.facts is None or (memory := self._header(used.card)) is None:
            return Estimates(predicted=predicted)
        room, card = self._room(hardware, used), used.card

        def estimator(settings: Settings) -> Estimate | None:
            wanted = constraints_of(engine_params(card, settings))
            return self._estimate(card, memory, room.usable, room.host, wanted)

        constraints = constraints_of(engine_params(card, settings))
        alone = Constraints(
            context=used.facts.n_ctx,
            slots=constraints.slots,
            kv_layout=constraints.kv_layout,
            type_k=constraints.type_k,
            type_v=constraints.type_v,
            flash_attention=constraints.flash_attention,
            n_ubatch=constraints.n_ubatch,
            n_outputs=constraints.n_outputs,
            prefix_cache=constraints.prefix_cache,
        )
        automatic = None
        if room.gpus:
            automatic = self._estimate(card, memory, room.gpus, room.host, alone)
        candidates = self._candidates(settings, room, card, models)
        return Estimates(estimator, automatic, candidates, predicted)

    def _predicted(self, hardware: Hardware, models: Sequence[Status]) -> dict[int, int]:
        """Bytes of each GPU, by its index, that all loaded models together should take as they are
        loaded. Empty where that is not known of one: of a sum each part counts."""
        sums: dict[int, int] = {}
        gpus = hardware.gpus
        for status in models if gpus else ():
            facts = status.facts
            if status.state != "ready" or facts is None or not facts.gpu_layers:
                continue
            constraints = as_loaded(facts)
            ratio = self._learnt.ratio(calibrated(status.card, constraints))
            split = len(gpus) > 1 and constraints.split_mode != "none"
            if split and not facts.tensor_split:
                # How the engine has done that by itself is not told.
                return {}
            if (memory := self._header(status.card)) is None:
                return {}
            try:
                taken = shares_of(memory, constraints, len(gpus), ratio)
            except PlacementError as error:
                logger.debug("%s is not loaded as a placement would: %s", status.card.name, error)
                return {}
            for gpu, size in zip(gpus, taken, strict=True):
                sums[gpu.index] = sums.get(gpu.index, 0) + size
        return sums

    def _estimate(
        self,
        card: ModelCard,
        memory: ModelMemory,
        gpus: Sequence[Gpu],
        host: int,
        constraints: Constraints,
    ) -> Estimate:
        ratio = self._learnt.ratio(calibrated(card, constraints))
        return estimate(memory, gpus, host, constraints, ratio)

    def _candidates(
        self, settings: Settings, room: _Room, used: ModelCard, models: Sequence[Status]
    ) -> list[Candidate]:
        if not room.usable:
            return []
        larger = [
            status.card
            for status in models
            if status.card.problem is None and status.card.size_bytes > LARGER * used.size_bytes
        ]
        found = []
        for card in sorted(larger, key=lambda card: card.size_bytes)[-CANDIDATES:]:
            if (memory := self._header(card)) is not None:
                constraints = constraints_of(engine_params(card, settings))
                answer = self._estimate(card, memory, room.usable, room.host, constraints)
                found.append(Candidate(card.name, card.size_bytes, answer))
        return found

    def _room(self, hardware: Hardware, used: Status) -> _Room:
        gpus = tuple(
            Gpu(gpu.index, gpu.uuid, gpu.name or "GPU", memory.total, memory.free + own, RESERVE)
            for place, gpu in enumerate(hardware.gpus)
            if (memory := gpu.memory) is not None and (own := owned(gpu, place, used)) is not None
        )
        buffers = used.facts.buffers if used.facts else ()
        taken = sum(b.bytes for b in buffers if b.device.startswith("CPU") and b.kind != "weights")
        return _Room(gpus, hardware.memory_available + taken, gpus if self._gpu_engine else ())

    def _header(self, card: ModelCard) -> ModelMemory | None:
        key = (card.path, card.modified)
        with self._lock:
            if key not in self._headers:
                self._headers[key] = memory_of(card)
            return self._headers[key]


def as_loaded(facts: ModelFacts) -> Constraints:
    """What leaves a placement no choice."""
    whole = facts.split_mode == "none"
    return Constraints(
        context=facts.n_ctx,
        slots=facts.n_seq,
        kv_layout=facts.kv_layout,
        gpu_layers=facts.gpu_layers,
        tensor_split=() if whole else facts.tensor_split,
        main_gpu=facts.main_gpu,
        split_mode=facts.split_mode,
        type_k=facts.cache_type_k,
        type_v=facts.cache_type_v,
        flash_attention=facts.flash_attention is not False,
        n_ubatch=facts.n_ubatch,
        n_outputs=output_rows(facts.n_seq),
    )


def owned(gpu: GpuReading, place: int, used: Status) -> int:
    """Bytes of the card that the model's engine has: by the driver, else by its own word."""
    for process in gpu.processes or ():
        if process.pid == used.pid and process.bytes is not None:
            return process.bytes
    buffers = used.facts.buffers if used.facts else ()
    return sum(b.bytes for b in buffers if b.device == f"CUDA{place}")


def estimate(
    memory: ModelMemory, gpus: Sequence[Gpu], host: int, constraints: Constraints, ratio: float
) -> Estimate:
    layers = len(memory.layers) + 1
    try:
        return of_placement(place(memory, gpus, host, constraints, ratio), layers)
    except PlacementError as error:
        nothing = (0,) * len(gpus)
        refused = Estimate(
            gpu_layers=0, layers=layers, shares=(), needed=nothing, free_after=nothing,
            host_free=None, context=0,
        )  # fmt: skip
        return with_fields(refused, refused=str(error))


def of_placement(placement: Placement, layers: int) -> Estimate:
    split = placement.tensor_split if placement.split_mode != "none" else ()
    total = sum(split)
    used = sum(1 for share in split if share)
    return Estimate(
        gpu_layers=placement.gpu_layers,
        layers=layers,
        shares=tuple(share / total for share in split) if used > 1 else (),
        needed=tuple(share.total for share in placement.shares),
        free_after=placement.free_after,
        host_free=placement.host_free_after,
        context=placement.context,
    )
