"""What is known of this service and its machine: measured, or None. Pure values.

Of traffic, and of what only traffic shows (temperatures, throttling, pressure), it is the last 15
minutes that had any, which keeps while nobody asks anything. What is a state (memory, lost cards,
links) is of now, or of the last hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from exporters.readings import StoreReading
from service.control.estimate import Candidate, Estimate
from service.settings import Settings


class GpuEvidence(Struct, frozen=True, kw_only=True):
    """One card; of one that is lost, as it was when it was seen last. temperature: the 95th percentile, in Celsius. throttled, power_capped: shares of
    time. others: bytes that processes have which are not ours. faults: what it reported that means
    that it cannot be relied on, in words."""

    index: int
    name: str = "GPU"
    uuid: str = ""
    up: bool = True
    faults: tuple[str, ...] = ()
    temperature: float | None = None
    warning: float = 80.0
    critical: float = 85.0
    slowdown: float | None = None
    throttled: float | None = None
    power_capped: float | None = None
    power: float | None = None
    power_limit: float | None = None
    power_default: float | None = None
    power_least: float | None = None
    fan: float | None = None
    total: int | None = None
    free: int | None = None
    others: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None

    @property
    def headroom(self) -> float | None:
        return self.free / self.total if self.free is not None and self.total else None


class ModelEvidence(Struct, frozen=True, kw_only=True):
    """A loaded model. layers: the output counted as one. shares: of GPUs, where it is split. cards:
    the indices of those that have a part of it; None: not known. needed: tokens of prompt and answer
    together that 99 of 100 requests stay below. preemptions: requests that had to give their cells
    to others and begin again."""

    name: str
    layers: int
    aliases: tuple[str, ...] = ()
    gpu_layers: int = 0
    shares: tuple[float, ...] = ()
    cards: tuple[int, ...] | None = None
    split_mode: str = "layer"
    threads: int | None = None
    context: int = 0
    context_per_slot: int = 0
    context_trained: int = 0
    slots: int = 1
    size_bytes: int = 0
    cache_bytes: int = 0
    cache_types: tuple[str, str] = ("f16", "f16")
    flash_attention: bool | None = None
    needed: int | None = None
    peak: int | None = None
    preemptions: int = 0

    @property
    def on_cpu(self) -> float:
        return 1 - self.gpu_layers / self.layers if self.layers else 0.0


class Evidence(Struct, frozen=True, kw_only=True):
    """Seconds, bytes, ratios. measured_at: Unix seconds when the traffic in it ended; None: none.

    stalled: part of the time that some task waited for a processor. out_of_memory: processes killed
    and loads failed for want of memory, within an hour; failed_loads: those of each model;
    evictions and reloads too. queue_share: of the time that requests took; prefix_waits: part of
    the waiting that was for a prefix which another request was computing. idle_slots: part of the
    slots that stood empty while requests waited. reusable: part of the prompt tokens that a prompt
    of before began with; missed: part of those that were computed all the same. offloadable: part
    of the layers that the CPU computes and a GPU has room for. models: the loaded ones, the one
    with most to do first; installed: how many could be.
    """

    settings: Settings
    measured_at: float | None = None
    window_seconds: float = 0.0

    cores: int | None = None
    threads: int | None = None
    cpu_layer_share: float | None = None
    stalled: float | None = None
    load_per_core: float | None = None
    loop_lag: float | None = None

    memory_total: int | None = None
    memory_available: int | None = None
    swap_in: float | None = None
    major_faults: float | None = None
    out_of_memory: float | None = None
    gpu_out_of_memory: float | None = None
    failed_loads: Mapping[str, int] = {}
    stores: tuple[StoreReading, ...] = ()

    expected_gpus: int | None = None
    gpu_failure: str | None = None
    gpus: tuple[GpuEvidence, ...] = ()
    gpu_engine: bool | None = None
    offloadable: float | None = None

    requests: int = 0
    queue_share: float | None = None
    prefix_waits: float | None = None
    starved: int = 0
    idle_slots: float | None = None
    reusable: float | None = None
    missed: float | None = None
    kv_evictions: float = 0.0
    prefill_share: float | None = None
    evictions: float | None = None
    evicted: Mapping[str, int] = {}
    reloads: float | None = None
    reloaded: Mapping[str, int] = {}
    models: tuple[ModelEvidence, ...] = ()
    installed: int = 1

    # The model in use, as it would be placed with nothing chosen but its context.
    automatic: Estimate | None = None
    candidates: tuple[Candidate, ...] = ()

    @property
    def main(self) -> ModelEvidence | None:
        return self.models[0] if self.models else None

    @property
    def expects_gpu(self) -> bool:
        return bool(self.gpus or self.expected_gpus)

    @property
    def memory_headroom(self) -> float | None:
        if self.memory_available is None or not self.memory_total:
            return None
        return self.memory_available / self.memory_total

    @property
    def vram_headroom(self) -> float | None:
        """Of the card that has least."""
        return least_headroom(gpu for gpu in self.gpus if gpu.up)

    @property
    def main_headroom(self) -> float | None:
        """Of the fullest card that the model in use has a part on: what it gives up is free there
        and nowhere else."""
        cards = self.main.cards if self.main is not None else None
        if cards is None:
            return self.vram_headroom
        return least_headroom(gpu for gpu in self.gpus if gpu.up and gpu.index in cards)

    @property
    def main_failures(self) -> int:
        """Loads of the model in use that failed for want of memory."""
        return self.failed_loads.get(self.main.name, 0) if self.main is not None else 0

    @property
    def unbalanced(self) -> float | None:
        """How far the split is from what the cards could take: half of the sum of differences."""
        main = self.main
        if main is None or sum(1 for share in main.shares if share) == 0 or len(self.gpus) < 2:
            return None
        if main.split_mode == "none":
            return None
        if sum(1 for share in main.shares if share) == 1 and self.fits_on_one:
            return 0.0
        capacity = self.capacities
        if capacity is None or len(main.shares) > len(capacity):
            return None
        shares = (*main.shares, *[0.0] * (len(capacity) - len(main.shares)))
        total = sum(shares)
        return sum(abs(a / total - b) for a, b in zip(shares, capacity, strict=True)) / 2

    @property
    def fits_on_one(self) -> bool:
        """Whether the model in use would have its place whole on a single card."""
        best = self.automatic
        return best is not None and not best.refused and not best.shares and whole(best)

    @property
    def capacities(self) -> tuple[float, ...] | None:
        """Of each card, the part of all memory that could be ours."""
        sizes = [
            None if gpu.total is None or not gpu.up else max(0, gpu.total - (gpu.others or 0))
            for gpu in self.gpus
        ]
        known = [size for size in sizes if size is not None]
        total = sum(known)
        return tuple(s / total for s in known) if len(known) == len(sizes) and total else None

    @property
    def context_waste(self) -> float | None:
        """Part of the context that 99 of 100 requests, in all slots at once, would not use."""
        main = self.main
        if main is None or main.needed is None or not main.context:
            return None
        return max(0.0, 1 - main.needed * main.slots / main.context)

    @property
    def memory_is_short(self) -> bool:
        """Whether a smaller context would be worth anything: cards or host nearly full, layers on
        the CPU beside cards, or a queue beside them, which cells of further slots could shorten."""
        headrooms = (self.memory_headroom, self.main_headroom)
        if any(headroom is not None and headroom < 0.1 for headroom in headrooms):
            return True
        return bool(self.gpus) and (
            (self.queue_share or 0) > 0.1 or (self.cpu_layer_share or 0) > 0
        )


def least_headroom(gpus: Iterable[GpuEvidence]) -> float | None:
    return min((g.headroom for g in gpus if g.headroom is not None), default=None)


def whole(estimate: Estimate) -> bool:
    return estimate.gpu_layers == estimate.layers
