"""A context to compute in: as large as was asked for, or as suits the model and the memory."""

from __future__ import annotations

import os
from typing import Any, Literal

import llama_cpp as llama
import psutil

from service.context import choose_context, choose_layout, output_rows, padded
from service.engine.llama_facts import meta
from service.engine.llama_load import LoadError, LoadKind, complaints, last_complaint
from service.engine.wire import EngineParams
from service.host_memory import host_memory

CACHE_TYPES = {
    "f32": llama.GGML_TYPE_F32,
    "f16": llama.GGML_TYPE_F16,
    "bf16": 30,  # GGML_TYPE_BF16, which the binding does not name
    "q8_0": llama.GGML_TYPE_Q8_0,
    "q5_1": llama.GGML_TYPE_Q5_1,
    "q5_0": llama.GGML_TYPE_Q5_0,
    "q4_1": llama.GGML_TYPE_Q4_1,
    "q4_0": llama.GGML_TYPE_Q4_0,
}
_FLASH = {
    "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
# Bytes of one element, for a rough sum; blocks share a scale or two.
_CELL_BYTES = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
}
# What llama.cpp says of a combination that it refuses: no lack of memory.
_REFUSALS = ("requires flash_attn", "does not divide", "does not support different")


def open_context(model: Any, params: EngineParams) -> tuple[Any, int, Literal["split", "unified"]]:
    """The context, how many threads compute in it, and its layout. Raises LoadError."""
    n_ctx_train = llama.llama_model_n_ctx_train(model)
    if n_ctx_train <= 0:
        raise LoadError("bad_file", "the file does not say the model's context length")
    if llama.llama_model_has_encoder(model) and llama.llama_model_has_decoder(model):
        raise LoadError("unsupported", "an encoder with a decoder after it")
    n_ctx = choose_context(
        params.n_ctx,
        n_seq=params.n_seq,
        n_ctx_train=n_ctx_train,
        bytes_per_token=params.cell_bytes or _cell_bytes(model, params),
        memory_bytes=host_memory().available,
    )
    layout = choose_layout(
        params.kv_layout,
        n_ctx,
        n_seq=params.n_seq,
        n_ctx_train=n_ctx_train,
        windowed=llama.llama_model_n_swa(model) > 0,
    )
    threads, threads_batch = threads_of(params.threads)
    settings = llama.llama_context_default_params()
    # llama.cpp does the same, and bounds its batches by what it was before.
    settings.n_ctx = padded(n_ctx)
    settings.n_batch = params.n_batch
    settings.n_ubatch = params.n_ubatch
    settings.n_seq_max = params.n_seq
    settings.n_outputs_max = output_rows(params.n_seq)
    settings.n_threads = threads
    settings.n_threads_batch = params.threads_batch or threads_batch
    settings.kv_unified = layout == "unified"
    settings.flash_attn_type = _FLASH[params.flash_attention]
    settings.type_k = CACHE_TYPES[params.cache_type_k]
    settings.type_v = CACHE_TYPES[params.cache_type_v]
    # Prefixes are shared and cut back: layers with a window may need cells from before it.
    settings.swa_full = True
    settings.no_perf = True
    context = llama.llama_init_from_model(model, settings)
    if not context:
        said = "\n".join(complaints)
        kind: LoadKind = (
            "unsupported" if any(word in said for word in _REFUSALS) else "out_of_memory"
        )
        raise LoadError(kind, f"no context of {n_ctx} tokens: {last_complaint()}")
    return context, threads, layout


def threads_of(wanted: int | None, engines: int = 1) -> tuple[int, int]:
    """That compute answers, and prompts: those gain from threads that share a core.

    engines: that compute at the same time. Alone an engine has what is wanted, whatever there is.
    """
    available = len(os.sched_getaffinity(0))
    physical = min(available, psutil.cpu_count(logical=False) or available)
    answers, prompts = (wanted, wanted) if wanted else (physical, available)
    if engines == 1:
        return answers, prompts
    return min(answers, part(physical, engines)), min(prompts, part(available, engines))


def part(processors: int, engines: int) -> int:
    return max(1, processors // engines)


def _cell_bytes(model: Any, params: EngineParams) -> int:
    """Of a token, as if all layers were like the first: where nobody has read the header."""
    architecture = meta(model, "general.architecture") or ""
    heads = llama.llama_model_n_head(model) or 1
    default = llama.llama_model_n_embd(model) // heads
    key = int(meta(model, f"{architecture}.attention.key_length") or default)
    value = int(meta(model, f"{architecture}.attention.value_length") or default)
    layers = llama.llama_model_n_layer(model)
    cell = key * _CELL_BYTES[params.cache_type_k] + value * _CELL_BYTES[params.cache_type_v]
    return int(layers * llama.llama_model_n_head_kv(model) * cell)
