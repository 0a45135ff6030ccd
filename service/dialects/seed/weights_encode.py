"""A distribution of models over GPUs as JSON.

The keys up to `gpus` are those of pages that exist; the others are what only an engine, a driver
or a header says. null: not known, or not chosen. Megabytes are of 1024 x 1024 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.control.weights import MIB, WAYS, Card, in_parts, written
from service.dialects.framing import iso
from service.dialects.seed.gpu import percent
from service.tuning.distribution import Estimate, Held, Source


@dataclass(frozen=True)
class Summary:
    """problems: why it is no distribution; cramped: which card is too small for it; warnings are
    no reason to refuse it. held: of each card."""

    cards: Sequence[Card]
    percentages: Sequence[float]
    source: Source
    basis: str
    model: str | None
    context: int | None
    layers: int | None
    batch: int
    problems: Sequence[str]
    cramped: Sequence[str]
    warnings: Sequence[str]
    estimated: Estimate
    held: Sequence[Sequence[Held]]
    made_at: float

    @property
    def valid(self) -> bool:
        return not self.problems and not self.cramped

    @property
    def errors(self) -> list[str]:
        return [*self.problems, *self.cramped, *self.warnings]

    @property
    def fractions(self) -> tuple[float, ...]:
        """As they would be in force: a whole, or what was said where that is none."""
        if self.problems or not sum(self.percentages):
            return tuple(percentage / 100 for percentage in self.percentages)
        return in_parts(self.percentages)


def encode_summary(summary: Summary) -> dict[str, Any]:
    return {
        "tensor_split": written(summary.fractions),
        "gpu_count": len(summary.cards),
        "total_weight": round(sum(summary.percentages), 3),
        "model_name": summary.model,
        "context_size": summary.context,
        "gpu_layers": summary.layers,
        "batch_size": summary.batch,
        "is_valid": summary.valid,
        "validation_errors": summary.errors,
        "created_at": iso(summary.made_at),
        "gpus": [encode_gpu(summary, place) for place in range(len(summary.cards))],
        "source": summary.source,
        "basis": summary.basis,
        "estimated_for": list(summary.estimated.models),
    }


def encode_gpu(summary: Summary, place: int) -> dict[str, Any]:
    card, held = summary.cards[place], summary.held[place]
    sizes = [model.bytes for on_one in summary.held for model in on_one]
    own = [model.bytes for model in held]
    everything = sum(size or 0 for size in sizes)
    needs = summary.estimated.needs
    return {
        "gpu_id": card.id,
        "name": card.name,
        "weight_percentage": round(summary.percentages[place], 3),
        "memory_total": card.total / MIB,
        "memory_available": card.free / MIB,
        "utilization": percent(card.utilization),
        "temperature": card.temperature,
        "uuid": card.uuid,
        "cuda_index": place,
        "memory_for_models": card.room / MIB,
        "estimated_memory": needs[place] / MIB if needs else None,
        "measured_percentage": 100 * sum(size or 0 for size in own) / everything
        if everything and None not in sizes
        else None,
        "models": [encode_held(model) for model in held],
    }


def encode_held(held: Held) -> dict[str, Any]:
    return {
        "model": held.model,
        "layers": held.layers,
        "memory": None if held.bytes is None else held.bytes / MIB,
        "told_by": held.told_by,
    }


def encode_presets() -> dict[str, Any]:
    return {
        "presets": {
            way.name: {
                "name": way.title,
                "description": way.description,
                "strategy": way.strategy,
                "aliases": list(way.aliases),
            }
            for way in WAYS
        }
    }
