"""What can keep a service from what its machine could give, in one table.

max_loss is the share of service that is lost where the component is at its worst. These are
judgements, each with its reason; `optimization_losses` in the settings has the last word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from service.control.evidence import Evidence, GpuEvidence

Group = Literal["cpu", "memory", "gpu", "models"]
# A card this near to the temperature at which it slows itself down is about to.
SLOWDOWN_MARGIN: Final = 5.0
MIB: Final = 1024 * 1024


def lin(value: float, good: float, bad: float) -> float:
    """1 at `good`, 0 at `bad`, straight in between; in either direction."""
    return max(0.0, min(1.0, (bad - value) / (bad - good)))


def always(evidence: Evidence) -> bool:
    return True


def with_gpus(evidence: Evidence) -> bool:
    return evidence.expects_gpu


def with_several(evidence: Evidence) -> bool:
    main = evidence.main
    return len(evidence.gpus) > 1 and (main is None or main.split_mode != "none")


@dataclass(frozen=True)
class Part:
    """`value` is shown, and healthy at `good` and at its worst at `bad`, unless `health` says what
    it means. weight: how much of the loss applies here."""

    id: str
    group: Group
    max_loss: float
    reason: str
    unit: str
    value: Callable[[Evidence], float | None]
    good: float
    bad: float
    applies: Callable[[Evidence], bool] = always
    weight: Callable[[Evidence], float] = lambda evidence: 1.0
    health: Callable[[Evidence], float | None] | None = None

    def healthy(self, evidence: Evidence) -> float | None:
        if self.health is not None:
            return self.health(evidence)
        value = self.value(evidence)
        return None if value is None else lin(value, self.good, self.bad)


def worst(read: Callable[[GpuEvidence], float | None]) -> Callable[[Evidence], float | None]:
    """The card with the largest value decides, not the average. Lost ones count as they were."""

    def value(evidence: Evidence) -> float | None:
        return max((v for gpu in evidence.gpus if (v := read(gpu)) is not None), default=None)

    return value


def least(read: Callable[[GpuEvidence], float | None]) -> Callable[[Evidence], float | None]:
    def value(evidence: Evidence) -> float | None:
        return min((v for gpu in evidence.gpus if (v := read(gpu)) is not None), default=None)

    return value


def cool(gpu: GpuEvidence) -> float | None:
    if gpu.temperature is None:
        return None
    health = lin(gpu.temperature, gpu.warning - 5, gpu.critical + 5)
    if gpu.slowdown is not None:
        health = min(health, lin(gpu.slowdown - gpu.temperature, SLOWDOWN_MARGIN, 0.0))
    return health


def lost(evidence: Evidence) -> float | None:
    """Cards that should be there and cannot be relied on."""
    if not evidence.gpus and not evidence.expected_gpus:
        return None
    missing = max(0, (evidence.expected_gpus or 0) - len(evidence.gpus))
    return missing + sum(not gpu.up or bool(gpu.faults) for gpu in evidence.gpus)


def width(gpu: GpuEvidence) -> float | None:
    if not gpu.pcie_width or not gpu.pcie_width_max:
        return None
    return gpu.pcie_width / gpu.pcie_width_max


def threads(evidence: Evidence) -> float | None:
    """For each usable core."""
    if evidence.threads is None or not evidence.cores:
        return None
    return evidence.threads / evidence.cores


def on_cpu(evidence: Evidence) -> float:
    """With everything on GPUs the threads hardly matter."""
    return (0.05 + 0.35 * (evidence.cpu_layer_share or 0.0)) / 0.4


def pressed(evidence: Evidence) -> float | None:
    if evidence.stalled is not None:
        return lin(evidence.stalled, 0.05, 0.5)
    if evidence.load_per_core is not None:
        return lin(evidence.load_per_core, 0.9, 2.0)
    return None


def link_matters(evidence: Evidence) -> float:
    """A model that is whole on its cards, layer by layer, needs the link for its load alone."""
    main = evidence.main
    resident = main is not None and main.split_mode != "row" and not main.on_cpu
    return 0.5 if resident else 1.0


def swapping(evidence: Evidence) -> float | None:
    """MiB read back from disk a second: swapped pages, and those of weights that are mapped."""
    if evidence.swap_in is None:
        return None
    faulted = (evidence.major_faults or 0.0) * 4096
    return max(evidence.swap_in, faulted) / MIB


def oom(evidence: Evidence) -> float | None:
    kills, loads = evidence.out_of_memory, evidence.gpu_out_of_memory
    return None if kills is None and loads is None else (kills or 0.0) + (loads or 0.0)


def waste(evidence: Evidence) -> float | None:
    found = evidence.context_waste
    return found if found is None or evidence.memory_is_short else 0.0


PARTS: Final = (
    Part("gpu.thermal", "gpu", 0.6, "a hot card slows down, and may be switched off", "celsius",
         worst(lambda gpu: gpu.temperature), 75, 90, with_gpus, health=least(cool)),
    Part("gpu.throttle", "gpu", 0.6, "clocks are down for that part of the time", "ratio",
         worst(lambda gpu: gpu.throttled), 0.01, 0.3, with_gpus),
    # As much as offload and balance together can cost, which nobody can judge without the card.
    Part("gpu.lost", "gpu", 0.9, "what was on the card is served by others, or by nobody", "cards",
         lost, 0, 1, with_gpus),
    Part("gpu.vram_headroom", "gpu", 0.4, "the next longer prompt may not fit; unused memory is no fault",
         "ratio", least(lambda gpu: gpu.headroom), 0.05, 0.005, with_gpus),
    Part("gpu.offload", "gpu", 0.8, "every token waits for the layers on the CPU", "ratio",
         lambda e: e.offloadable, 0.0, 0.5, with_gpus),
    Part("gpu.balance", "gpu", 0.5, "the fullest card decides what fits, the others stand by", "ratio",
         lambda e: e.unbalanced, 0.03, 0.6, with_several),
    Part("gpu.pcie", "gpu", 0.2, "a narrow link slows loads, rows and layers on the CPU", "ratio",
         least(width), 1.0, 0.125, with_gpus, link_matters),
    Part("gpu.power_cap", "gpu", 0.1, "at full load a card at its limit is as it should be", "ratio",
         worst(lambda gpu: gpu.power_capped), 0.2, 1.0, with_gpus),
    Part("cpu.threads", "cpu", 0.4, "threads that share a core wait for each other in every layer",
         "threads per core", threads, 1.0, 2.0, weight=on_cpu),
    Part("cpu.pressure", "cpu", 0.3, "whoever waits for a processor makes the others wait", "ratio",
         lambda e: e.load_per_core if e.stalled is None else e.stalled, 0.05, 0.5, health=pressed),
    Part("cpu.loop_lag", "cpu", 0.3, "every token of every stream passes the event loop", "seconds",
         lambda e: e.loop_lag, 0.02, 0.5),
    Part("memory.available", "memory", 0.3, "with none left the next load fails, or swaps", "ratio",
         lambda e: e.memory_headroom, 0.10, 0.02),
    Part("memory.swap", "memory", 0.7, "a disk is slower than memory by orders of magnitude", "MiB/s",
         swapping, 0.1, 10.0),
    Part("memory.oom", "memory", 0.6, "a model that is killed serves nobody until it is loaded again",
         "events per hour", oom, 0.0, 2.0),
    Part("serving.queue", "models", 0.3, "time in the queue is time without an answer", "ratio",
         lambda e: e.queue_share, 0.1, 0.7),
    Part("serving.batch", "models", 0.3, "slots that stand empty while requests wait", "ratio",
         lambda e: e.idle_slots, 0.1, 0.8),
    Part("serving.cache", "models", 0.2, "what was computed a moment ago is computed again", "ratio",
         lambda e: e.missed, 0.2, 0.9),
    Part("serving.context", "models", 0.2, "cells that nobody uses, where memory is short", "ratio",
         waste, 0.3, 0.95),
    Part("serving.thrash", "models", 0.5, "while one model is loaded again its clients wait", "evictions per hour",
         lambda e: e.evictions, 4.0, 60.0),
)  # fmt: skip
GROUPS: Final[tuple[Group, ...]] = ("cpu", "memory", "gpu", "models")
