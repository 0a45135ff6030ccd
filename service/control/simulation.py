"""What the evidence would be under other settings, as far as that can be worked out. Pure.

Threads, slots, cells, layers and splits follow from settings; what they lead to (times, heat, hits)
does not, and stays as it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from service.control.estimate import Estimate, Estimator
from service.control.evidence import Evidence, ModelEvidence
from service.settings import Settings

# Of a patch's keys, those that say where a model goes.
PLACING: Final = frozenset(
    "default_context_size gpu_layers tensor_split cache_type_k cache_type_v batch_size "
    "parallel_slots flash_attention models".split()
)


def with_patch(settings: Settings, patch: Mapping[str, Any]) -> Settings:
    """Raises pydantic's ValidationError."""
    return Settings(**{**settings.model_dump(), **patch})


def simulated(
    evidence: Evidence, patch: Mapping[str, Any], estimator: Estimator | None = None
) -> Evidence:
    """Raises pydantic's ValidationError."""
    settings, main = with_patch(evidence.settings, patch), evidence.main
    changed = replace(evidence, settings=settings)
    if {"threads", "models"} & patch.keys():
        own = [m.threads for m in settings.models.values() if m.threads is not None]
        changed = replace(changed, threads=max(settings.threads or evidence.cores or 0, *own, 0))
    if main is None or PLACING.isdisjoint(patch):
        return changed
    estimate = estimator(settings) if estimator is not None else None
    if estimate is not None and estimate.refused:
        estimate = None
    model = placed(main, evidence.settings, settings, estimate)
    changed = replace(
        changed,
        models=(model, *evidence.models[1:]),
        idle_slots=idle(evidence.idle_slots, main.slots, model.slots),
        cpu_layer_share=None if evidence.cpu_layer_share is None else model.on_cpu,
        offloadable=offloadable(evidence, model),
    )
    return with_free(changed, evidence, estimate)


def placed(
    main: ModelEvidence, before: Settings, after: Settings, estimate: Estimate | None
) -> ModelEvidence:
    names = (main.name, *main.aliases)
    old, own = before.for_model(names), after.for_model(names)
    slots = main.slots + after.parallel_slots - before.parallel_slots
    context = main.context
    if own.context_size != old.context_size and own.context_size is not None:
        context = own.context_size
    layers = main.gpu_layers
    if own.gpu_layers != old.gpu_layers and own.gpu_layers is not None:
        layers = min(own.gpu_layers, main.layers) if layers or estimate else layers
    split = main.shares
    if own.tensor_split != old.tensor_split:
        split = own.tensor_split or ()
    if estimate is not None:
        context, layers = estimate.context, estimate.gpu_layers
        split = estimate.shares
    unified = main.context_per_slot > main.context // max(1, main.slots)
    flash = main.flash_attention
    if own.flash_attention != old.flash_attention:
        flash = own.flash_attention != "off"
    return replace(
        main,
        slots=max(1, slots),
        context=context,
        context_per_slot=context if unified else context // max(1, slots),
        gpu_layers=layers,
        shares=split,
        cache_types=(own.cache_type_k or "f16", own.cache_type_v or "f16"),
        flash_attention=flash,
    )


def idle(share: float | None, before: int, after: int) -> float | None:
    """The same requests in other slots."""
    if share is None:
        return None
    return max(0.0, 1 - (1 - share) * before / after)


def offloadable(evidence: Evidence, model: ModelEvidence) -> float | None:
    best = evidence.automatic
    if evidence.offloadable is None or best is None or best.refused or not model.layers:
        return evidence.offloadable
    return max(0.0, (best.gpu_layers - model.gpu_layers) / model.layers)


def with_free(changed: Evidence, evidence: Evidence, estimate: Estimate | None) -> Evidence:
    if estimate is None:
        return changed
    free = estimate.free_after
    if len(free) == len(evidence.gpus):
        pairs = zip(evidence.gpus, free, strict=True)
        changed = replace(changed, gpus=tuple(replace(gpu, free=max(0, f)) for gpu, f in pairs))
    return changed
