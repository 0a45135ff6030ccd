"""What the operator's settings mean for an engine."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from service.catalog.card import ModelCard
from service.engine.wire import EngineParams
from service.facts import Adapter
from service.fleet.adapting import configured
from service.fleet.limits import Limits
from service.settings import Settings


def limits_from(settings: Settings) -> Limits:
    return Limits(
        queue=settings.queue_limit,
        queue_timeout=settings.queue_timeout,
        step_timeout=settings.step_timeout,
    )


def changed_limits(limits: Limits, before: Settings, after: Settings) -> Limits:
    """With those of `after` that are others than `before` had."""
    old, new = limits_from(before), limits_from(after)
    names = ("queue", "queue_timeout", "step_timeout")
    changed = {n: getattr(new, n) for n in names if getattr(new, n) != getattr(old, n)}
    return replace(limits, **changed)


def ways(card: ModelCard, settings: Settings) -> tuple[EngineParams, tuple[Adapter, ...]]:
    """All that a load is needed for: threads can change without one."""
    params = engine_params(card, settings)
    return msgspec.structs.replace(params, threads=None), configured(card, settings)


def engine_params(card: ModelCard, settings: Settings) -> EngineParams:
    own = settings.for_model((card.name, *card.aliases))
    return EngineParams(
        path=card.path,
        n_ctx=own.context_size,
        n_seq=settings.parallel_slots,
        n_batch=settings.batch_size,
        n_ubatch=settings.batch_size,
        threads=own.threads,
        gpu_layers=own.gpu_layers,
        tensor_split=own.tensor_split or (),
        main_gpu=own.main_gpu,
        split_mode=own.split_mode,
        cache_type_k=own.cache_type_k or "f16",
        cache_type_v=own.cache_type_v or "f16",
        flash_attention=own.flash_attention or "auto",
        use_mmap=own.mmap is not False,
        use_mlock=own.mlock is True,
        kv_layout=settings.kv_cache,
        prefill_chunk=settings.prefill_chunk,
        prefix_cache=settings.prefix_cache,
    )
