"""Advice on requests: queue, slots, steps, prefixes, and whether anything is read."""

from __future__ import annotations

from typing import Final

from service.control.evidence import Evidence
from service.control.rule import (
    SHORTER_QUEUE,
    SOONER,
    Finding,
    Rule,
    above,
    for_main,
    percent,
    setting,
)

MOST_SLOTS: Final = 256
MOST_BATCH: Final = 2048
# With fewer requests a share of them says nothing.
ENOUGH: Final = 20


def roomy(evidence: Evidence) -> bool:
    """No memory is known to be short."""
    headrooms = (evidence.memory_headroom, evidence.vram_headroom)
    return not any(headroom is not None and headroom < 0.15 for headroom in headrooms)


def more_slots(evidence: Evidence) -> Finding | None:
    main, settings = evidence.main, evidence.settings
    # Who waits for a prefix that another request is computing would wait for it in a slot as well.
    queued = (evidence.queue_share or 0.0) * (1 - (evidence.prefix_waits or 0.0))
    if main is None or evidence.requests < ENOUGH or queued <= 0.1:
        return None
    if evidence.idle_slots is None or evidence.idle_slots > 0.1 or not roomy(evidence):
        return None
    slots = min(2 * main.slots, MOST_SLOTS, settings.batch_size)
    if slots <= main.slots:
        return None
    return Finding(
        f"Of the time that requests took, {percent(queued)} was waiting for a slot, while "
        f"{percent(1 - evidence.idle_slots)} of the {main.slots} slots were in use.",
        f"Set parallel_slots to {slots}.",
        {
            "queue_share": evidence.queue_share,
            "prefix_waits": evidence.prefix_waits,
            "slots": main.slots,
            "idle_slots": evidence.idle_slots,
        },
        {"parallel_slots": slots},
    )


def idle_slots(evidence: Evidence) -> Finding | None:
    """Slots that are free and cannot be taken. Cells are what is missing where somebody had to leave
    for want of them: without that, whoever waits beside a free slot waits for something else."""
    main = evidence.main
    if (
        main is None
        or not main.preemptions
        or not above(evidence.idle_slots, 0.3)
        or not above(evidence.queue_share, 0.1)
    ):
        return None
    if not main.context or evidence.settings.kv_cache == "split" or not roomy(evidence):
        return None
    context = min(2 * main.context, max(main.context_trained, 1) * main.slots)
    if context <= main.context:
        return None
    return Finding(
        f"While requests waited, {percent(evidence.idle_slots or 0)} of the slots stood empty, and "
        f"{main.preemptions} requests to {main.name} had to begin again: its {main.context} cells "
        "were all in use.",
        f"Set {setting(evidence, 'default_context_size')} to {context}.",
        {
            "idle_slots": evidence.idle_slots,
            "preemptions": main.preemptions,
            "context_tokens": main.context,
            "slots": main.slots,
        },
        for_main(evidence, default_context_size=context),
    )


def fewer_slots(evidence: Evidence) -> Finding | None:
    main = evidence.main
    if main is None or main.peak is None or evidence.requests < ENOUGH or main.slots < 2:
        return None
    slots = max(1, main.peak)
    if 2 * slots > main.slots or not evidence.memory_is_short:
        return None
    return Finding(
        f"At most {main.peak} of the {main.slots} slots of {main.name} were in use at once, and "
        "memory is short.",
        f"Set parallel_slots to {slots}; each request may then have more of the context.",
        {"peak": main.peak, "slots": main.slots, "cache_bytes": main.cache_bytes},
        {"parallel_slots": slots},
    )


def starved(evidence: Evidence) -> Finding | None:
    if evidence.requests < ENOUGH or evidence.starved <= 0.05 * evidence.requests:
        return None
    timeout, slots = evidence.settings.queue_timeout, evidence.settings.parallel_slots
    if timeout >= 600:
        return None
    longer = min(600.0, 2 * timeout)
    return Finding(
        f"{evidence.starved} of {evidence.requests} requests were given up while they waited for one "
        f"of {slots} slots, for {timeout:.0f} s at most.",
        f"Set queue_timeout to {longer:.0f}, or serve with more slots.",
        {"starved": evidence.starved, "requests": evidence.requests, "queue_timeout": timeout},
        {"queue_timeout": longer},
    )


def larger_steps(evidence: Evidence) -> Finding | None:
    batch = evidence.settings.batch_size
    if evidence.requests < ENOUGH or not above(evidence.prefill_share, 0.6):
        return None
    if batch >= MOST_BATCH or not roomy(evidence):
        return None
    main = evidence.main
    if main is None or main.needed is None or main.needed < batch:
        # No prompt is longer than a step.
        return None
    larger = min(MOST_BATCH, 2 * batch)
    return Finding(
        f"{percent(evidence.prefill_share or 0)} of the computing time went into steps with prompts, of "
        f"{batch} tokens at most, and requests need up to {main.needed}.",
        f"Set batch_size to {larger}.",
        {
            "prefill_share": evidence.prefill_share,
            "batch_size": batch,
            "needed_tokens": main.needed,
        },
        {"batch_size": larger},
    )


def cache_on(evidence: Evidence) -> Finding | None:
    if evidence.settings.prefix_cache or not above(evidence.reusable, 0.3):
        return None
    return Finding(
        f"{percent(evidence.reusable or 0)} of the prompt tokens were the beginning of a prompt of the "
        "ten minutes before, and all of them were computed.",
        "Set prefix_cache to true.",
        {"reusable_share": evidence.reusable, "prefix_cache": False},
        {"prefix_cache": True},
    )


def more_prefixes(evidence: Evidence) -> Finding | None:
    main, settings = evidence.main, evidence.settings
    if main is None or not settings.prefix_cache or evidence.requests < ENOUGH:
        return None
    if not above(evidence.missed, 0.5) or not above(evidence.reusable, 0.1):
        return None
    slots = min(2 * main.slots, MOST_SLOTS, settings.batch_size)
    per_request = evidence.kv_evictions / evidence.requests
    if per_request < 0.1 or slots <= main.slots or not roomy(evidence):
        return None
    return Finding(
        f"{percent(evidence.missed or 0)} of the prompt tokens that had been computed within ten "
        f"minutes were computed again: {evidence.kv_evictions:.0f} prefixes had to leave "
        f"{main.slots} slots.",
        f"Set parallel_slots to {slots}: idle slots keep prefixes.",
        {"missed": evidence.missed, "evictions": evidence.kv_evictions, "slots": main.slots},
        {"parallel_slots": slots},
    )


def exporters(evidence: Evidence) -> Finding | None:
    if evidence.settings.exporters or evidence.memory_total is not None:
        return None
    return Finding(
        "GPUs, processors and memory are not read by this service, so nothing can be said of them.",
        "Set exporters to true, and start the service again.",
        {"exporters": False},
        {"exporters": True},
    )


QUEUE: Final = "sum(rate(llm_request_queue_seconds_sum[15m])) / sum(rate(llm_request_duration_seconds_sum[15m]))"
HITS: Final = (
    "sum(rate(llm_prefix_cache_hit_tokens_total[15m])) "
    "/ sum(rate(llm_prefix_cache_queried_tokens_total[15m]))"
)
PREFILL: Final = (
    'sum(rate(llm_engine_step_seconds_sum{phase=~"prefill|mixed"}[15m])) '
    "/ sum(rate(llm_engine_step_seconds_sum[15m]))"
)
RULES: Final = (
    Rule("slots-up", "performance", "serving.queue", "Requests wait for slots that are all in use",
         "Shorter queue, more tokens a second in all.", "Each answer is a little slower; more memory.",
         QUEUE, more_slots, verify=SHORTER_QUEUE),
    Rule("cells-up", "performance", "serving.batch", "Slots stand empty while requests wait",
         "Slots can be used.", "More memory for cells.", "llm_engine_batch_occupancy_ratio",
         idle_slots, verify=SHORTER_QUEUE),
    Rule("slots-down", "memory", "serving.context", "Slots that are never used",
         "Memory, or more context for each request.", "A rush of requests waits longer.",
         "max_over_time(llm_engine_slots_busy[1d])", fewer_slots),
    Rule("queue-timeout-up", "stability", "serving.queue", "Requests are given up in the queue",
         "They are answered, late.", "Clients wait longer for a refusal.", QUEUE, starved),
    Rule("batch-up", "performance", None, "Prompts take most of the computing time",
         "Shorter time to the first token of long prompts.", "Larger buffers on each device.",
         PREFILL, larger_steps, verify=SOONER, opportunity=True),
    Rule("prefix-cache-on", "performance", "serving.cache", "Prompts begin alike and are computed whole",
         "Shorter time to the first token.", "By timing, a client can tell what others asked.",
         HITS, cache_on, verify=SOONER),
    Rule("prefixes-up", "performance", "serving.cache", "Prefixes leave before they are used again",
         "Shorter time to the first token.", "More memory for cells, or a shorter share for each.",
         HITS, more_prefixes, verify=SOONER),
    Rule("exporters-on", "stability", None, "The machine is not read",
         "Heat, memory and pressure are seen.", "A thread reads them every two seconds.",
         "llm_optimization_coverage_ratio", exporters, opportunity=True),
)  # fmt: skip
