"""What a loaded model says of itself, and what came of the parameters."""

from __future__ import annotations

import ctypes
from typing import Any, Literal

import llama_cpp as llama

from service.engine import buffers
from service.engine.llama_embedding import SCORE_PROBABILITIES, longest_input
from service.engine.llama_load import told
from service.engine.wire import EngineParams
from service.facts import POOLINGS, AdapterFacts, ModelFacts, Pooling


def end_tokens(vocab: Any) -> frozenset[int]:
    """All that end an answer; EOS is only one of them."""
    tokens = range(llama.llama_vocab_n_tokens(vocab))
    return frozenset(token for token in tokens if llama.llama_vocab_is_eog(vocab, token))


def read_facts(
    model: Any,
    context: Any,
    params: EngineParams,
    *,
    kv_layout: Literal["split", "unified"],
    threads: int,
    adapters: tuple[AdapterFacts, ...],
    load_seconds: float,
) -> ModelFacts:
    vocab = llama.llama_model_get_vocab(model)
    description = ctypes.create_string_buffer(256)
    llama.llama_model_desc(model, description, len(description))
    rolls_back = not (llama.llama_model_is_recurrent(model) or llama.llama_model_is_hybrid(model))
    offloads = bool(llama.llama_supports_gpu_offload())
    # The output counts as one.
    layers = llama.llama_model_n_layer(model) + 1 if offloads else 0
    return ModelFacts(
        architecture=meta(model, "general.architecture") or "",
        description=description.value.decode("utf-8", "replace"),
        n_ctx=llama.llama_n_ctx(context),
        n_ctx_seq=llama.llama_n_ctx_seq(context),
        n_ctx_train=llama.llama_model_n_ctx_train(model),
        n_seq=llama.llama_n_seq_max(context),
        n_batch=llama.llama_n_batch(context),
        n_vocab=llama.llama_vocab_n_tokens(vocab),
        n_embd=llama.llama_model_n_embd(model),
        n_layer=llama.llama_model_n_layer(model),
        n_params=llama.llama_model_n_params(model),
        size_bytes=llama.llama_model_size(model),
        kv_layout=kv_layout,
        threads=threads,
        bos=_special_text(model, "bos", llama.llama_vocab_bos(vocab)),
        eos=_special_text(model, "eos", llama.llama_vocab_eos(vocab)),
        eog_tokens=tuple(sorted(end_tokens(vocab))),
        chat_template=_chat_template(model, None),
        can_rollback=rolls_back,
        gpu_offload=offloads,
        engine_version=f"llama-cpp-python {llama.__version__}",
        load_seconds=load_seconds,
        can_generate=meta(model, f"{meta(model, 'general.architecture')}.attention.causal")
        != "false",
        pooling=_pooling(model),
        n_embed_input=longest_input(_pooling(model), llama.llama_model_n_ctx_train(model)),
        infill=_infill(vocab),
        rerank_template=_chat_template(model, b"rerank"),
        scores_are_probabilities=meta(model, "general.architecture") in SCORE_PROBABILITIES,
        n_ubatch=llama.llama_n_ubatch(context),
        cache_type_k=params.cache_type_k,
        cache_type_v=params.cache_type_v,
        flash_attention=buffers.flash_attention(params.flash_attention, told),
        gpu_layers=layers if params.gpu_layers is None else min(params.gpu_layers, layers),
        tensor_split=params.tensor_split if offloads else (),
        main_gpu=(params.main_gpu or 0) if offloads else 0,
        split_mode=params.split_mode or "layer",
        mmap=params.use_mmap,
        mlock=params.use_mlock,
        buffers=buffers.buffers(told),
        adapters=adapters,
        window=llama.llama_model_n_swa(model),
    )


def meta(model: Any, key: str) -> str | None:
    buffer = ctypes.create_string_buffer(4096)
    size = llama.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return None if size < 0 else buffer.value.decode("utf-8", "replace")


def _special_text(model: Any, name: str, token: int) -> str:
    # Where the file names none, the vocabulary still answers with its family's default id.
    if token < 0 or meta(model, f"tokenizer.ggml.{name}_token_id") is None:
        return ""
    text = llama.llama_vocab_get_text(llama.llama_model_get_vocab(model), token)
    return (text or b"").decode("utf-8", "replace")


def _pooling(model: Any) -> Pooling:
    architecture = meta(model, "general.architecture")
    value = meta(model, f"{architecture}.pooling_type")
    # A file may say -1, or what only a later version knows.
    known = value is not None and value.isdigit() and int(value) < len(POOLINGS)
    return POOLINGS[int(value)] if known and value is not None else "none"


def _chat_template(model: Any, name: bytes | None) -> str | None:
    template = llama.llama_model_chat_template(model, name)
    return template.decode("utf-8", "replace") if template else None


def _infill(vocab: Any) -> tuple[str, str, str] | None:
    tokens = (
        llama.llama_vocab_fim_pre(vocab),
        llama.llama_vocab_fim_suf(vocab),
        llama.llama_vocab_fim_mid(vocab),
    )
    if min(tokens) < 0:
        return None
    prefix, suffix, middle = (
        (llama.llama_vocab_get_text(vocab, token) or b"").decode("utf-8", "replace")
        for token in tokens
    )
    return prefix, suffix, middle
