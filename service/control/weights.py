"""How much of a model each GPU gets: shares of a whole, by what the cards have. Pure.

Shares are in thousandths, as they are written in settings (`0.334,0.333,0.333`), and their sum is
the whole: what does not come out even goes where the most was cut off. They are in the order in
which an engine counts the cards (`control.hardware`), whatever number the driver has for them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import ceil
from typing import Final, Literal

from msgspec import Struct

from exporters.readings import CRITICAL_CELSIUS, WARNING_CELSIUS, GpuReading
from service.errors import InvalidRequest

Strategy = Literal["equal", "memory_proportional", "performance_weighted", "primary_secondary"]

PARTS: Final = 1000
MIB: Final = 1024 * 1024
# What the first card gets where there is one: a convention of pages that know this strategy.
PRIMARY_SHARE: Final = 0.6
# A sum of percentages may be off by so much, as people write thirds.
TOLERANCE_PERCENT: Final = 1.0


class Way(Struct, frozen=True, kw_only=True):
    name: str
    title: str
    description: str
    strategy: Strategy
    aliases: tuple[str, ...] = ()


WAYS: Final = (
    Way(
        name="equal",
        title="Equal",
        description="The same share for each GPU.",
        strategy="equal",
    ),
    Way(
        name="memory-based",
        title="Memory-based",
        description="By the memory of each GPU that is free of other programs.",
        strategy="memory_proportional",
        aliases=("balanced", "memory"),
    ),
    Way(
        name="performance-based",
        title="Performance-based",
        description="By the speed at which each GPU reads its memory, which is what answers wait "
        "for; by free memory where that is not known of each.",
        strategy="performance_weighted",
        aliases=("performance",),
    ),
    Way(
        name="primary-secondary",
        title="Primary and secondary",
        description="Most on the GPU with the most free memory, the rest by free memory.",
        strategy="primary_secondary",
    ),
)


class Card(Struct, frozen=True):
    """A GPU that engines see. Sizes in bytes: `room` is what is free, and what engines that are
    loaded anew for a change give back. bandwidth: bytes a second, at most; None: not known."""

    id: int
    uuid: str
    name: str | None
    total: int
    free: int
    room: int
    temperature: float | None = None
    utilization: float | None = None
    bandwidth: float | None = None


class Distribution(Struct, frozen=True):
    """`basis`: what the shares were made of, in words."""

    shares: tuple[float, ...]
    basis: str


def cards(gpus: Sequence[GpuReading], own: Collection[int] = ()) -> tuple[Card, ...] | None:
    """`own`: the processes whose memory counts as room. None where a card's memory is not known."""
    found = [card for gpu in gpus if (card := _card(gpu, own)) is not None]
    return tuple(found) if len(found) == len(gpus) else None


def _card(gpu: GpuReading, own: Collection[int]) -> Card | None:
    if gpu.memory is None:
        return None
    held = sum(p.bytes or 0 for p in gpu.processes or () if p.pid in own)
    return Card(
        gpu.index,
        gpu.uuid,
        gpu.name,
        gpu.memory.total,
        gpu.memory.free,
        min(gpu.memory.total, gpu.memory.free + held),
        gpu.temperature,
        gpu.utilization.get("gpu"),
        bandwidth(gpu),
    )


def bandwidth(gpu: GpuReading) -> float | None:
    """Bytes a second that its memory can give: two transfers a cycle, over the width of the bus.
    So 83 GB/s of a Tesla M10's 2600 MHz and 128 bits, and 4.9 TB/s of an H200."""
    clock = gpu.clocks_max.get("memory")
    if not clock or not gpu.memory_bus_bits:
        return None
    return 2 * clock * gpu.memory_bus_bits / 8


def find(name: str) -> Way:
    """Raises InvalidRequest."""
    word = name.strip().lower().replace("_", "-")
    for way in WAYS:
        if word in (way.name, way.strategy.replace("_", "-"), *way.aliases):
            return way
    names = ", ".join(way.name for way in WAYS)
    raise InvalidRequest(f"Unknown preset: {name}; there are {names}", param="preset")


def distribute(strategy: Strategy, cards: Sequence[Card]) -> Distribution:
    return _STRATEGIES[strategy](cards)


def _equal(cards: Sequence[Card]) -> Distribution:
    return Distribution(in_parts([1.0] * len(cards)), "the same share for each GPU")


def _by_memory(cards: Sequence[Card]) -> Distribution:
    if not any(card.room for card in cards):
        return Distribution(_equal(cards).shares, "no GPU has memory free: the same share for each")
    return Distribution(in_parts([card.room for card in cards]), "by free memory")


def _by_performance(cards: Sequence[Card]) -> Distribution:
    """An answer's tokens each read every weight once, one GPU after the other: with shares by
    bandwidth each takes as long as the next, and none waits where several requests run."""
    speeds = [card.bandwidth for card in cards if card.bandwidth]
    if len(speeds) < len(cards):
        unknown = ", ".join(f"GPU {card.id}" for card in cards if not card.bandwidth)
        basis = f"by free memory: how fast {unknown} reads its memory is not known"
        return Distribution(_by_memory(cards).shares, basis)
    return Distribution(in_parts(speeds), "by memory bandwidth")


def _primary(cards: Sequence[Card]) -> Distribution:
    if len(cards) < 2:
        return _equal(cards)
    first = max(range(len(cards)), key=lambda place: (cards[place].room, -place))
    others = sum(card.room for place, card in enumerate(cards) if place != first)
    weights = [
        PRIMARY_SHARE
        if place == first
        else (1 - PRIMARY_SHARE) * (card.room / others if others else 1 / (len(cards) - 1))
        for place, card in enumerate(cards)
    ]
    return Distribution(in_parts(weights), f"most on GPU {cards[first].id}, the rest by memory")


_STRATEGIES: Final[Mapping[Strategy, Callable[[Sequence[Card]], Distribution]]] = {
    "equal": _equal,
    "memory_proportional": _by_memory,
    "performance_weighted": _by_performance,
    "primary_secondary": _primary,
}


def in_parts(weights: Sequence[float]) -> tuple[float, ...]:
    """As shares of 1 in thousandths, by largest remainders. None may be negative, nor all 0."""
    if not weights:
        return ()
    total = sum(weights)
    exact = [weight / total * PARTS for weight in weights]
    parts = [int(part) for part in exact]
    by_rest = sorted(range(len(parts)), key=lambda place: (parts[place] - exact[place], place))
    for place in by_rest[: PARTS - sum(parts)]:
        parts[place] += 1
    return tuple(part / PARTS for part in parts)


def written(shares: Sequence[float]) -> str:
    return ",".join(f"{share:.3f}" for share in shares)


def completed(
    given: Mapping[int, float], now: Sequence[float], cards: Sequence[Card]
) -> list[float]:
    """Percentages of all cards, of which some were given by the cards' ids: the others share what
    is left as they do now. Raises InvalidRequest for a card that there is not."""
    unknown = [id for id in given if id not in {card.id for card in cards}]
    if unknown:
        known = ", ".join(str(card.id) for card in cards)
        raise InvalidRequest(
            f"There is no GPU {unknown[0]} for models here; there are {known}", param="gpu_weights"
        )
    others = [place for place, card in enumerate(cards) if card.id not in given]
    left, before = 100.0 - sum(given.values()), sum(now[place] for place in others)
    return [
        given[card.id]
        if card.id in given
        else left * (now[place] / before if before else 1 / len(others))
        for place, card in enumerate(cards)
    ]


def wrong(percentages: Sequence[float], cards: Sequence[Card]) -> list[str]:
    """What makes these no distribution, in sentences."""
    found = []
    total = sum(percentages)
    if abs(total - 100) > TOLERANCE_PERCENT:
        found.append(f"Total weight must equal 100% (current: {total:g}%)")
    for percent, card in zip(percentages, cards, strict=True):
        if percent < 0:
            found.append(f"GPU {card.id} weight cannot be negative")
        if percent > 100:
            found.append(f"GPU {card.id} weight cannot exceed 100%")
    return found


def cramped(needs: Sequence[int], cards: Sequence[Card], reserve: int) -> list[str]:
    """Of each card that has too little room for what it would get. Bytes; of the room, `reserve`
    is not for models."""
    return [
        f"GPU {card.id} insufficient memory: need {ceil(need / MIB)}MB, "
        f"have {max(0, card.room - reserve) // MIB}MB"
        for need, card in zip(needs, cards, strict=True)
        if need > max(0, card.room - reserve)
    ]


def hot(percentages: Sequence[float], cards: Sequence[Card]) -> Iterator[str]:
    """Of each card that gets a share although it is hot: a warning, and no reason to refuse."""
    for percent, card in zip(percentages, cards, strict=True):
        celsius = card.temperature
        if not percent > 0 or celsius is None or celsius < WARNING_CELSIUS:
            continue
        word = "critical" if celsius >= CRITICAL_CELSIUS else "high"
        yield f"GPU {card.id} temperature is {word}: {celsius:g}°C"
