"""Advice on what of a model is where: layers, split, cells, and what else would fit."""

from __future__ import annotations

from typing import Final

from service.control.evidence import Evidence
from service.control.rule import (
    FASTER,
    WHOLE,
    Finding,
    Rule,
    above,
    below,
    for_main,
    own_key,
    percent,
    setting,
    shares,
    size,
)

LEAST_CONTEXT: Final = 4096
LEAST_BATCH: Final = 512


def power_of_two(least: float) -> int:
    """The first that is not below."""
    return 1 << max(0, int(least) - (int(least) == least)).bit_length()


def split_by_memory(evidence: Evidence) -> Finding | None:
    main, best = evidence.main, evidence.automatic
    if main is None or best is None or best.refused or not above(evidence.unbalanced, 0.1):
        return None
    chosen = evidence.settings.for_model((main.name, *main.aliases)).tensor_split
    if len(best.shares) not in (0, len(evidence.gpus)) or not (best.shares or chosen):
        return None
    split = [round(share, 4) for share in best.shares]
    key = setting(evidence, "tensor_split")
    action = f"Set {key} to {shares(split)}."
    if not split:
        action = f"Set {key} to nothing: it has its place whole on one card."
    return Finding(
        f"{main.name} is split {shares(main.shares)}, and the cards have room for "
        f"{shares(evidence.capacities or ())}.",
        action,
        {"tensor_split": list(main.shares), "capacity": list(evidence.capacities or ()),
         "distance": evidence.unbalanced},
        for_main(evidence, tensor_split=split),
    )  # fmt: skip


def offload_more(evidence: Evidence) -> Finding | None:
    main, best = evidence.main, evidence.automatic
    if main is None or best is None or best.refused or evidence.gpu_engine is False:
        return None
    if not above(evidence.offloadable, 0.0) or best.gpu_layers <= main.gpu_layers:
        return None
    return Finding(
        f"{main.gpu_layers} of the {main.layers} layers of {main.name} are on GPUs, which have room "
        f"for {best.gpu_layers}.",
        f"Set {setting(evidence, 'gpu_layers')} to {best.gpu_layers}.",
        {"gpu_layers": main.gpu_layers, "layers": main.layers, "fit": best.gpu_layers},
        for_main(evidence, gpu_layers=best.gpu_layers),
    )


def offload_fewer(evidence: Evidence) -> Finding | None:
    main = evidence.main
    if main is None or not main.gpu_layers:
        return None
    failures, headroom = evidence.main_failures, evidence.main_headroom
    if not below(headroom, 0.02) and not failures:
        return None
    fewer = main.gpu_layers - max(1, main.gpu_layers // 10)
    chosen = evidence.settings.for_model((main.name, *main.aliases)).gpu_layers
    if chosen is not None and chosen <= fewer:
        return None
    return Finding(
        f"The fullest of its cards has {percent(headroom or 0.0)} of its memory free with "
        f"{main.gpu_layers} layers of {main.name} on GPUs"
        + (f", and {failures} loads of it failed for want of memory." if failures else "."),
        f"Set {setting(evidence, 'gpu_layers')} to {fewer}.",
        {"gpu_layers": main.gpu_layers, "headroom": headroom, "failed_loads": failures},
        for_main(evidence, gpu_layers=fewer),
    )


def right_size(evidence: Evidence) -> Finding | None:
    main, waste = evidence.main, evidence.context_waste
    if main is None or main.needed is None or not above(waste, 0.5):
        return None
    if not evidence.memory_is_short:
        return None
    each = power_of_two(1.25 * main.needed)
    context = max(LEAST_CONTEXT, each * main.slots)
    if context >= main.context:
        return None
    return Finding(
        f"99 of 100 requests need {main.needed} tokens or fewer, and {main.name} keeps cells for "
        f"{main.context} in {main.slots} slots, {size(main.cache_bytes)}, while memory is short.",
        f"Set {setting(evidence, 'default_context_size')} to {context}.",
        {"needed_tokens": main.needed, "context_tokens": main.context, "slots": main.slots},
        for_main(evidence, default_context_size=context),
    )


def longer(evidence: Evidence) -> Finding | None:
    main = evidence.main
    if main is None or main.needed is None or not main.context_per_slot:
        return None
    if main.needed < 0.98 * main.context_per_slot:
        return None
    context = min(2 * main.context, main.context_trained * main.slots)
    if context <= main.context or main.context_per_slot >= main.context_trained:
        return None
    return Finding(
        f"One of 100 requests to {main.name} needs {main.needed} tokens, all that one may have, and "
        f"it was trained for {main.context_trained}.",
        f"Set {setting(evidence, 'default_context_size')} to {context}.",
        {"needed_tokens": main.needed, "context_per_slot": main.context_per_slot,
         "trained": main.context_trained},
        for_main(evidence, default_context_size=context),
    )  # fmt: skip


def whole_cells(evidence: Evidence) -> Finding | None:
    main = evidence.main
    if main is None or "q4_0" not in main.cache_types or not main.gpu_layers:
        return None
    if main.cache_bytes * 2 > 0.5 * sum(gpu.free or 0 for gpu in evidence.gpus):
        return None
    if own_key(evidence.settings, (main.name, *main.aliases)) is None and not (
        {evidence.settings.cache_type_k, evidence.settings.cache_type_v} & {"q4_0"}
    ):
        return None
    return Finding(
        f"{main.name} keeps its cells in 4 bits, {size(main.cache_bytes)}, and "
        f"{size(sum(gpu.free or 0 for gpu in evidence.gpus))} of the cards are free.",
        f"Set cache_type_k and {setting(evidence, 'cache_type_v')} to q8_0.",
        {"cache_bytes": main.cache_bytes, "cache_types": list(main.cache_types)},
        for_main(evidence, cache_type_k="q8_0", cache_type_v="q8_0"),
    )


def flash(evidence: Evidence) -> Finding | None:
    main = evidence.main
    if main is None or main.flash_attention is not False or not main.gpu_layers:
        return None
    if evidence.settings.for_model((main.name, *main.aliases)).flash_attention != "off":
        return None
    if not below(evidence.main_headroom, 0.2):
        return None
    return Finding(
        f"{main.name} computes without flash attention, whose scores take memory with each of "
        f"{main.context} tokens, and {percent(evidence.main_headroom or 0.0)} of the fullest of its "
        "cards is free.",
        f"Set {setting(evidence, 'flash_attention')} to auto.",
        {"flash_attention": False, "headroom": evidence.main_headroom},
        for_main(evidence, flash_attention="auto"),
    )


def smaller_batch(evidence: Evidence) -> Finding | None:
    main, batch = evidence.main, evidence.settings.batch_size
    if main is None or not main.gpu_layers or batch <= LEAST_BATCH:
        return None
    headroom = evidence.main_headroom
    if not below(headroom, 0.02) and not evidence.main_failures:
        return None
    smaller = max(LEAST_BATCH, batch // 2, evidence.settings.parallel_slots)
    if smaller >= batch:
        return None
    return Finding(
        f"A step computes up to {batch} tokens, in buffers that grow with it, and "
        f"{percent(headroom or 0.0)} of the fullest card that {main.name} is on is free.",
        f"Set batch_size to {smaller}.",
        {"batch_size": batch, "headroom": headroom},
        {"batch_size": smaller, **chunk(evidence, smaller)},
    )


def chunk(evidence: Evidence, batch: int) -> dict[str, int]:
    """A chunk of a prompt is no larger than a step."""
    chosen = evidence.settings.prefill_chunk
    return {} if chosen is None or chosen <= batch else {"prefill_chunk": batch}


def larger_model(evidence: Evidence) -> Finding | None:
    main = evidence.main
    if main is None or not evidence.candidates:
        return None
    fitting = [
        c
        for c in evidence.candidates
        if c.size_bytes > 1.2 * main.size_bytes
        and c.estimate.refused is None
        and c.estimate.gpu_layers == c.estimate.layers
    ]
    best = max(fitting, key=lambda candidate: candidate.size_bytes, default=None)
    if best is None:
        return None
    each = ", ".join(size(needed) for needed in best.estimate.needed)
    return Finding(
        f"{best.name} ({size(best.size_bytes)}) would have its place whole on the GPUs in place of "
        f"{main.name} ({size(main.size_bytes)}), with {best.estimate.context} tokens of context: {each}.",
        f"Try {best.name} where better answers are worth more time.",
        {"model": best.name, "context_tokens": best.estimate.context,
         "bytes_per_gpu": list(best.estimate.needed)},
    )  # fmt: skip


RULES: Final = (
    Rule("split-by-free-vram", "memory", "gpu.balance", "The split is not what the cards could take",
         "The fullest card gets room.", "While the model is loaded anew, both need memory.",
         "llm_config_tensor_split_ratio", split_by_memory, verify=FASTER),
    Rule("offload-more-layers", "performance", "gpu.offload", "Layers on the CPU would fit on GPUs",
         "The layers that are moved are computed much faster.", "Less memory is free on the GPUs.",
         "llm_model_gpu_layers / llm_model_layers", offload_more, verify=FASTER),
    Rule("offload-fewer-layers", "stability", "gpu.vram_headroom", "A GPU is full to the brim",
         "The next long prompt does not fail.", "The layers that leave are computed slower.",
         "llm_gpu_memory_free_bytes / llm_gpu_memory_total_bytes", offload_fewer, safety=True),
    Rule("ctx-right-size", "memory", "serving.context", "A context that nobody uses",
         "Memory for more slots, layers or models.", "A prompt longer than any of late is refused.",
         "histogram_quantile(0.99, sum by (le) (rate(llm_request_prompt_tokens_bucket[1d])))",
         right_size, verify=WHOLE),
    Rule("ctx-longer", "stability", None, "Requests end at the end of the context",
         "Answers end where the model ends them.", "More memory for cells.",
         "llm_model_context_tokens", longer, opportunity=True),
    Rule("kv-whole", "performance", None, "Cells in 4 bits although memory is free",
         "More exact answers to long prompts.", "Twice the memory for cells.",
         "llm_kv_cache_bytes", whole_cells, opportunity=True),
    Rule("flash-attention-on", "memory", "gpu.vram_headroom", "Flash attention is off",
         "Less memory for long contexts.", "Slower on some old cards: see what it measures here.",
         'llm_config_info{flash_attention="off"}', flash, verify=FASTER),
    Rule("batch-down", "stability", "gpu.vram_headroom", "Buffers of a large step fill a GPU",
         "Memory on every card.", "Long prompts take a little longer.",
         "llm_model_buffer_bytes{kind=\"compute\"}", smaller_batch),
    Rule("bigger-model-fits", "performance", None, "A larger model would fit",
         "Better answers.", "Fewer tokens a second.", "llm_gpu_memory_free_bytes", larger_model,
         needs="nothing", opportunity=True),
)  # fmt: skip
