"""Advice on the host's memory and its disks."""

from __future__ import annotations

from typing import Any, Final

from service.control.components import MIB, swapping
from service.control.evidence import Evidence
from service.control.rule import (
    WHOLE,
    Finding,
    Rule,
    above,
    below,
    for_main,
    names_of,
    percent,
    setting,
    size,
)

SHORT: Final = 0.10
LEAST_CONTEXT: Final = 4096


def fewer_models(evidence: Evidence) -> Finding | None:
    loaded, most = len(evidence.models), evidence.settings.max_loaded_models
    if not below(evidence.memory_headroom, SHORT) or min(loaded, most) < 2:
        return None
    fewer = min(loaded, most) - 1
    return Finding(
        f"{size(evidence.memory_available or 0)} of {size(evidence.memory_total or 0)} are available, "
        f"and {loaded} models are loaded.",
        f"Set max_loaded_models to {fewer}.",
        {"available_bytes": evidence.memory_available, "loaded_models": loaded},
        {"max_loaded_models": fewer},
    )


def add_memory(evidence: Evidence) -> Finding | None:
    rate = swapping(evidence)
    scarce = below(evidence.memory_headroom, 0.05) or above(rate, 1.0)
    if not scarce or len(evidence.models) > 1:
        return None
    read = "" if rate is None else f", and {rate:.1f} MiB/s are read back from disk"
    available = evidence.memory_available
    left = "" if available is None else f"{size(available)} of memory are available"
    return Finding(
        f"{left or 'Memory does not suffice'}{read}, with {len(evidence.models)} models loaded.",
        "Add memory, or serve a model with fewer or smaller weights.",
        {"available_bytes": available, "read_back_mib_per_second": rate},
    )


def unlock(evidence: Evidence) -> Finding | None:
    if not evidence.settings.mlock or not above(evidence.swap_in, 0.1 * MIB):
        return None
    return Finding(
        f"{(evidence.swap_in or 0) / MIB:.1f} MiB/s are read back from swap, while weights are locked "
        "in memory and everything else has to make room.",
        "Set mlock to false.",
        {"swap_in_bytes_per_second": evidence.swap_in},
        {"mlock": False},
    )


def killed(evidence: Evidence) -> Finding | None:
    events, settings, main = evidence.out_of_memory, evidence.settings, evidence.main
    if events is None or events <= 0:
        return None
    patch: dict[str, Any] | None = None
    action = "Serve a smaller model, or add memory."
    if settings.max_loaded_models > 1:
        patch, action = {"max_loaded_models": 1}, "Set max_loaded_models to 1."
    elif main is not None and main.context >= 2 * LEAST_CONTEXT and main.context_per_slot:
        context, chosen = main.context // 2, settings.for_model(names_of(evidence)).context_size
        # What another model could not have is no reason to take anything from this one.
        elsewhere = evidence.failed_loads.keys() - {main.name}
        its = events > sum(evidence.failed_loads[name] for name in elsewhere)
        if its and (chosen is None or chosen > context):
            patch = for_main(evidence, default_context_size=context)
            action = f"Set {setting(evidence, 'default_context_size')} to {context}."
    return Finding(
        f"{events:.0f} times within an hour a process was killed, or a model not loaded, for want "
        "of memory.",
        action,
        {"events": events, "max_loaded_models": settings.max_loaded_models},
        patch,
    )


def full_disk(evidence: Evidence) -> Finding | None:
    full = [store for store in evidence.stores if store.size and store.free / store.size < 0.1]
    if not full:
        return None
    worst = min(full, key=lambda store: store.free / store.size)
    return Finding(
        f"{size(worst.free)} of {size(worst.size)} are free where {worst.path} is.",
        "Delete models that nobody uses, or move the store to a larger disk.",
        {"path": worst.path, "free_bytes": worst.free, "size_bytes": worst.size},
    )


def reread_weights(evidence: Evidence) -> Finding | None:
    faults, main, total = evidence.major_faults, evidence.main, evidence.memory_total
    if main is None or total is None or not above(faults, 50):
        return None
    on_host = main.size_bytes * main.on_cpu
    if on_host < 0.8 * total:
        return None
    return Finding(
        f"{main.name} has {size(on_host)} of weights on a host with {size(total)} of memory, and "
        f"{faults:.0f} pages a second are read from disk again.",
        "Serve it in a smaller quantization, or on a machine with more memory.",
        {"weights_bytes": on_host, "memory_bytes": total, "major_faults_per_second": faults},
    )


def smaller_cells(evidence: Evidence) -> Finding | None:
    main, total = evidence.main, evidence.memory_total
    if main is None or main.cache_types != ("f16", "f16") or main.flash_attention is False:
        return None
    if evidence.settings.flash_attention == "off":
        return None
    host = total is not None and main.on_cpu == 1 and main.cache_bytes > 0.1 * total
    short = below(evidence.memory_headroom, SHORT) and host
    headroom = evidence.memory_headroom if short else evidence.main_headroom
    if not short and not (below(evidence.main_headroom, 0.05) and main.gpu_layers):
        return None
    return Finding(
        f"{main.name} keeps {size(main.cache_bytes)} of cells for {main.context} tokens in 16 bits, "
        f"and {percent(headroom or 0.0)} "
        "of the memory that they are in is free.",
        f"Set cache_type_k and {setting(evidence, 'cache_type_v')} to q8_0: about half of the bytes.",
        {"cache_bytes": main.cache_bytes, "context_tokens": main.context},
        for_main(evidence, cache_type_k="q8_0", cache_type_v="q8_0"),
    )


RULES: Final = (
    Rule(
        "loaded-models-down",
        "memory",
        "memory.available",
        "Too many models for the memory",
        "Room for longer contexts, and for pages of files.",
        "A model that is asked for more rarely has to be loaded again.",
        "llm_host_memory_available_bytes / llm_host_memory_total_bytes",
        fewer_models,
    ),
    Rule(
        "add-ram",
        "memory",
        "memory.swap",
        "Memory does not suffice",
        "Weights and cells are read from memory, and not from disk.",
        "None to the configuration.",
        "rate(llm_host_swap_in_bytes_total[15m])",
        add_memory,
        needs="hardware",
        safety=True,
    ),
    Rule(
        "mlock-off",
        "memory",
        "memory.swap",
        "Locked weights push everything else out",
        "Less is read back from swap.",
        "The kernel may drop weights that were not used for long.",
        "rate(llm_host_swap_in_bytes_total[15m])",
        unlock,
        verify=WHOLE,
    ),
    Rule(
        "out-of-memory",
        "stability",
        "memory.oom",
        "Memory ran out",
        "Models stay alive.",
        "Fewer models, or fewer tokens, at the same time.",
        "increase(llm_host_oom_kills_total[1h])",
        killed,
        safety=True,
    ),
    Rule(
        "move-store",
        "stability",
        None,
        "The disk of the models is nearly full",
        "Models can be pulled and made.",
        "None to the configuration.",
        "llm_model_store_free_bytes / llm_model_store_size_bytes",
        full_disk,
        needs="hardware",
    ),
    Rule(
        "model-larger-than-memory",
        "memory",
        "memory.swap",
        "Weights are read from disk again and again",
        "Tokens at the speed of memory.",
        "A smaller quantization answers a little less well.",
        "rate(llm_host_major_page_faults_total[15m])",
        reread_weights,
        needs="hardware",
        verify=WHOLE,
    ),
    Rule(
        "kv-quantise",
        "memory",
        "gpu.vram_headroom",
        "Cells take memory that is short",
        "Room for longer prompts, or more of them.",
        "Answers to long prompts may be a little less exact.",
        "llm_kv_cache_bytes",
        smaller_cells,
    ),
)
