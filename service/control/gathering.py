"""Evidence, made of what was measured: intervals, readings, models. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Final, Protocol

from exporters.readings import Latest, StoreReading
from service.catalog.card import ModelCard
from service.control.estimate import Candidate, Estimate
from service.control.evidence import Evidence, GpuEvidence, ModelEvidence
from service.control.gpu_evidence import cards_of, gpus_of
from service.control.hardware import Hardware
from service.control.intervals import BUSY_SECONDS, Interval, newest
from service.control.workload import Occurrence, Tally
from service.facts import ModelFacts
from service.settings import Settings

# Requests of which the longest but one in a hundred says anything.
ENOUGH: Final = 20
# Observations of which the last hundredth says anything.
OBSERVATIONS: Final = 100


class Status(Protocol):
    """Of `model_status.ModelStatus`, what is looked at here."""

    @property
    def card(self) -> ModelCard: ...
    @property
    def state(self) -> str: ...
    @property
    def facts(self) -> ModelFacts | None: ...
    @property
    def pid(self) -> int | None: ...


@dataclass(frozen=True)
class Sources:
    """All that an analysis is made of. before: the cards as the last one found them. occurrences: of
    the last hour. stores: what is known of the
    models' disks. gpu_engine: whether llama.cpp was built for GPUs; None: not known."""

    settings: Settings
    busy: Sequence[Interval] = ()
    recent: Sequence[Interval] = ()
    latest: Latest | None = None
    hardware: Hardware | None = None
    before: Sequence[GpuEvidence] = ()
    models: Sequence[Status] = ()
    lengths: Mapping[str, Sequence[int]] = field(default_factory=dict)
    occurrences: Sequence[Occurrence] = ()
    stores: Sequence[StoreReading] = ()
    expected_gpus: int | None = None
    gpu_engine: bool | None = None
    automatic: Estimate | None = None
    candidates: Sequence[Candidate] = ()


def gathered(sources: Sources) -> Evidence:
    busy, window = sources.busy, sources.busy or newest(tuple(sources.recent), BUSY_SECONDS)
    work = by_model(busy)
    total = reduce(Tally.__add__, work.values(), Tally())
    models = models_of(sources, work)
    main = models[0] if models else None
    gpus = gpus_of(sources.latest, sources.hardware, sources.models, window, sources.before)
    used = bool(total.requests)
    failures = Counter(e.model for e in sources.occurrences if e.kind == "out_of_memory")
    failed = failures.total()
    evicted = Counter(e.model for e in sources.occurrences if e.kind == "evicted")
    reloaded = after_idling(sources.occurrences)
    hardware = sources.hardware
    readable = sources.latest is not None and sources.latest.machine is not None
    last_hour = tuple(sources.recent)
    lately = newest(last_hour, BUSY_SECONDS)
    return Evidence(
        settings=sources.settings,
        measured_at=busy[-1].at if busy else None,
        window_seconds=sum(interval.seconds for interval in window),
        cores=None if hardware is None else hardware.physical_cores,
        threads=max((m.threads for m in models if m.threads is not None), default=None)
        or sources.settings.threads,
        cpu_layer_share=main.on_cpu if main else None,
        stalled=rate(window, [interval.stalled for interval in window]),
        load_per_core=load_per_core(window, hardware),
        loop_lag=quantile(0.99, lags(window)),
        memory_total=hardware.memory_total if hardware and readable else None,
        memory_available=available(lately, hardware) if readable else None,
        swap_in=rate(lately, [interval.swapped_in for interval in lately]),
        major_faults=rate(lately, [interval.major_faults for interval in lately]),
        out_of_memory=known_sum([i.oom_kills for i in last_hour], 0.0 if gpus else failed),
        gpu_out_of_memory=float(failed) if gpus else None,
        failed_loads=dict(failures),
        stores=tuple(sources.stores),
        expected_gpus=sources.expected_gpus,
        gpu_failure=sources.latest.gpu_failure if sources.latest else None,
        gpus=gpus,
        gpu_engine=sources.gpu_engine,
        offloadable=offloadable(main, sources, has_gpus=bool(gpus)),
        requests=int(total.requests),
        queue_share=share(total.queue_seconds, total.total_seconds) if used else None,
        prefix_waits=share(total.prefix_waits, total.request_waits) if used else None,
        starved=int(total.starved),
        idle_slots=idle(work, models) if used else None,
        reusable=share(total.prefix_reusable, total.prefix_queried) if used else None,
        missed=missed(total) if used else None,
        kv_evictions=total.evictions,
        prefill_share=share(total.prefill_seconds, total.step_seconds) if used else None,
        evictions=float(sum(evicted.values())),
        evicted=dict(evicted),
        reloads=float(sum(reloaded.values())),
        reloaded=dict(reloaded),
        models=models,
        installed=sum(status.card.problem is None for status in sources.models),
        automatic=sources.automatic,
        candidates=tuple(sources.candidates),
    )


def by_model(intervals: Iterable[Interval]) -> dict[str, Tally]:
    work: dict[str, Tally] = {}
    for interval in intervals:
        for model, tally in interval.work.items():
            work[model] = work.get(model, Tally()) + tally
    return work


def models_of(sources: Sources, work: Mapping[str, Tally]) -> tuple[ModelEvidence, ...]:
    """Those that are loaded, the one that was computed longest first."""
    found = [
        model_evidence(status, status.facts, work.get(status.card.name), sources)
        for status in sources.models
        if status.state == "ready" and status.facts is not None
    ]
    spent = {name: tally.busy_slot_seconds for name, tally in work.items()}
    return tuple(sorted(found, key=lambda model: (-spent.get(model.name, 0.0), model.name)))


def model_evidence(
    status: Status, facts: ModelFacts, tally: Tally | None, sources: Sources
) -> ModelEvidence:
    card = status.card
    lengths = sources.lengths.get(card.name, ())
    split = facts.gpu_layers and facts.split_mode != "none"
    return ModelEvidence(
        name=card.name,
        aliases=tuple(card.aliases),
        layers=facts.n_layer + 1,
        gpu_layers=facts.gpu_layers,
        shares=facts.tensor_split if split else (),
        cards=cards_of(status.pid, facts, sources.hardware.gpus if sources.hardware else ()),
        split_mode=facts.split_mode,
        threads=facts.threads,
        context=facts.n_ctx,
        context_per_slot=facts.n_ctx_seq,
        context_trained=facts.n_ctx_train,
        slots=facts.n_seq,
        size_bytes=facts.size_bytes,
        cache_bytes=sum(b.bytes for b in facts.buffers if b.kind in ("cells", "states")),
        cache_types=(facts.cache_type_k, facts.cache_type_v),
        flash_attention=facts.flash_attention,
        needed=percentile(0.99, lengths) if len(lengths) >= ENOUGH else None,
        peak=int(tally.peak) if tally and tally.steps else None,
        preemptions=int(tally.preemptions) if tally else 0,
    )


def percentile(part: float, values: Sequence[int]) -> int:
    """The least of them that so many are not above."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def rate(intervals: Sequence[Interval], amounts: Sequence[float | None]) -> float | None:
    """A second, over those intervals for which it is known."""
    pairs = zip(intervals, amounts, strict=True)
    known = [(interval.seconds, amount) for interval, amount in pairs if amount is not None]
    seconds = sum(s for s, _ in known)
    return sum(amount for _, amount in known) / seconds if seconds else None


def known_sum(amounts: Iterable[float | None], more: float) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) + more if known or more else None


def share(part: float, whole: float) -> float | None:
    return min(1.0, part / whole) if whole else None


def missed(total: Tally) -> float | None:
    """Nothing could be missed where nothing could be reused."""
    if not total.prefix_reusable:
        return 0.0
    return max(0.0, 1 - total.prefix_hit / total.prefix_reusable)


def idle(work: Mapping[str, Tally], models: Sequence[ModelEvidence]) -> float:
    """Of the slots of models that somebody waited for, while they did."""
    waited = {m: t for m in models if (t := work.get(m.name)) and t.waiting_seconds}
    there = sum(tally.waiting_seconds * model.slots for model, tally in waited.items())
    used = sum(tally.waiting_busy_slot_seconds for tally in waited.values())
    return max(0.0, 1 - used / there) if there else 0.0


def offloadable(main: ModelEvidence | None, sources: Sources, *, has_gpus: bool) -> float | None:
    best = sources.automatic
    if main is None or not has_gpus or best is None or best.refused:
        return None
    return max(0.0, (best.gpu_layers - main.gpu_layers) / main.layers)


def after_idling(occurrences: Iterable[Occurrence]) -> Counter[str]:
    """How often each model was loaded after it had gone because nobody asked for it."""
    idled, counts = set(), Counter[str]()
    for event in occurrences:
        if event.kind == "idle":
            idled.add(event.model)
        elif event.kind == "loaded" and event.model in idled:
            idled.discard(event.model)
            counts[event.model] += 1
    return counts


def available(intervals: Sequence[Interval], hardware: Hardware | None) -> int | None:
    """The least of late."""
    known = [i.available for i in intervals if i.available is not None]
    if hardware is not None:
        known.append(hardware.memory_available)
    return min(known, default=None)


def load_per_core(intervals: Sequence[Interval], hardware: Hardware | None) -> float | None:
    loads = [load for interval in intervals for load in interval.loads]
    if not loads or hardware is None:
        return None
    return sum(loads) / len(loads) / hardware.logical_cores


def lags(intervals: Iterable[Interval]) -> dict[float, float]:
    counts: dict[float, float] = {}
    for interval in intervals:
        for bound, count in interval.lag.items():
            counts[bound] = counts.get(bound, 0.0) + count
    return counts


def quantile(part: float, buckets: Mapping[float, float]) -> float | None:
    """As Prometheus estimates it: straight within a bucket, and no more than the last bound."""
    total = buckets.get(math.inf, 0.0)
    if total < OBSERVATIONS:
        return None
    lower, below = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= part * total:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (part * total - below) / (count - below)
        lower, below = bound, count
    return lower
