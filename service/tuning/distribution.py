"""How models are shared out over GPUs: as settings have it, as engines say and as the driver sees it;
and what another way would take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from exporters.readings import GpuReading
from service.catalog.card import ModelCard
from service.control import weights
from service.control.weights import Card
from service.errors import ServiceError
from service.facts import ModelFacts
from service.fleet.calibration import Learnt
from service.fleet.devices import RESERVE
from service.fleet.model_layers import memory_of
from service.fleet.parameters import engine_params
from service.fleet.placed import Gpu
from service.fleet.placer import calibrated, constraints_of
from service.fleet.split_needs import needs_of
from service.fleet.sums import counts_of
from service.serving.model_status import ModelStatus
from service.serving.runtime import Runtime
from service.settings import Settings

Source = Literal["configured", "engine", "free_memory"]


@dataclass(frozen=True)
class Shares:
    """Of 1, one for each card. `source`: settings, a loaded model's own report, or neither; then
    they are those that free memory would give, and each load decides for itself."""

    shares: tuple[float, ...]
    source: Source
    basis: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Held:
    """What a loaded model has on one card: layers as llama.cpp counts them, bytes by the driver, or
    where it does not tell by llama.cpp. None: neither tells."""

    model: str
    layers: int | None
    bytes: int | None
    told_by: Literal["driver", "engine"] | None


@dataclass(frozen=True)
class Estimate:
    """Bytes on each card of these models together; empty where no header says enough."""

    needs: tuple[int, ...] = ()
    models: tuple[str, ...] = ()


def concerned(runtime: Runtime, name: str | None) -> list[ModelStatus]:
    """The model of that name; without one those that are loaded, else the one that a request
    without a name gets. Raises ModelNotFound for a name."""
    if name is None:
        loaded = [status for status in runtime.models() if status.facts is not None]
        if loaded:
            return loaded
    try:
        return [runtime.status(name)]
    except ServiceError:
        if name is not None:
            raise
        return []


def pids(statuses: Sequence[ModelStatus]) -> frozenset[int]:
    return frozenset(status.pid for status in statuses if status.pid is not None)


def present(settings: Settings, card: ModelCard | None, loaded: Sequence[ModelStatus],
            cards: Sequence[Card]) -> Shares:  # fmt: skip
    """`card`: the one model that is asked about."""
    names = () if card is None else (card.name, *card.aliases)
    split = settings.for_model(names).tensor_split or ()
    if split:
        problems: tuple[str, ...] = ()
        if len(split) > len(cards):
            problems = (f"tensor_split has {len(split)} shares for {len(cards)} GPUs",)
        kept = [*split, *[0.0] * len(cards)][: len(cards)]
        shares = weights.in_parts(kept) if sum(kept) else tuple(kept)
        return Shares(shares, "configured", "as the settings say", problems)
    for status in loaded:
        facts = status.facts
        layers = None if facts is None else layers_of(facts, len(cards))
        if layers is not None and any(layers):
            basis = f"by the layers of {status.card.name}, as its engine says"
            return Shares(weights.in_parts(layers), "engine", basis)
    found = weights.distribute("memory_proportional", cards)
    return Shares(found.shares, "free_memory", f"{found.basis}; each load decides for itself")


def layers_of(facts: ModelFacts, cards: int) -> tuple[int, ...] | None:
    """On each card, the output counted as one; None where llama.cpp decided for itself."""
    counts = [0] * cards
    if facts.gpu_layers and (facts.split_mode == "none" or cards == 1):
        if facts.main_gpu >= cards:
            return None
        counts[facts.main_gpu] = facts.gpu_layers
    elif facts.gpu_layers:
        if not sum(facts.tensor_split) or len(facts.tensor_split) > cards:
            return None
        counts[: len(facts.tensor_split)] = counts_of(facts.tensor_split, facts.gpu_layers)
    return tuple(counts)


def held(loaded: Sequence[ModelStatus], gpus: Sequence[GpuReading]) -> list[list[Held]]:
    """Of each GPU, in the order in which engines count them."""
    on_each: list[list[Held]] = [[] for _ in gpus]
    for status in loaded:
        if status.facts is None:
            continue
        layers = layers_of(status.facts, len(gpus))
        for place, (size, told_by) in enumerate(_sizes(status, status.facts, gpus)):
            count = None if layers is None else layers[place]
            on_each[place].append(Held(status.card.name, count, size, told_by))
    return on_each


def _sizes(
    status: ModelStatus, facts: ModelFacts, gpus: Sequence[GpuReading]
) -> Iterator[tuple[int | None, Literal["driver", "engine"] | None]]:
    """In another container the driver knows a process by another id, and so by none."""
    told: list[Mapping[int, int | None]] = [
        {process.pid: process.bytes for process in gpu.processes or ()} for gpu in gpus
    ]
    known = any(status.pid in found for found in told)
    for place, found in enumerate(told):
        if known:
            yield found.get(status.pid or -1, 0), "driver"
        elif facts.buffers:
            device = f"CUDA{place}"
            yield sum(b.bytes for b in facts.buffers if b.device == device), "engine"
        else:
            yield None, None


async def estimate(
    settings: Settings, statuses: Sequence[ModelStatus], cards: Sequence[Card], learnt: Learnt
) -> Estimate:
    """`learnt`: what loads go by. Raises PlacementError for what no memory could make right."""
    return await asyncio.to_thread(_estimate, settings, [s.card for s in statuses], cards, learnt)


def _estimate(
    settings: Settings, found: Sequence[ModelCard], cards: Sequence[Card], learnt: Learnt
) -> Estimate:
    gpus = gpus_of(cards)
    sums, names = [0] * len(cards), list[str]()
    for card in found:
        if (model := memory_of(card)) is None:
            continue
        constraints = constraints_of(engine_params(card, settings))
        ratio = learnt.ratio(calibrated(card, constraints))
        needs = needs_of(model, gpus, constraints, ratio)
        sums = [total + need for total, need in zip(sums, needs, strict=True)]
        names.append(card.name)
    return Estimate(tuple(sums), tuple(names)) if names else Estimate()


def gpus_of(cards: Sequence[Card]) -> tuple[Gpu, ...]:
    """As placements know them: with all the room that there could be for a model."""
    return tuple(
        Gpu(place, card.uuid, card.name or "", card.total, card.room, RESERVE)
        for place, card in enumerate(cards)
    )
