"""llama.cpp behind the Model protocol; beside this file, only `llama_*` import `llama_cpp`.

Calls that llama.cpp answers with abort() are never made: a batch over n_batch, a slot or a token
out of range, logits of a row that did not ask for them, a grammar fed a token it forbids.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import llama_cpp as llama
import numpy as np
import psutil
from msgspec.structs import replace

from service.context import choose_context, choose_layout, output_rows, padded
from service.engine import buffers
from service.engine.batch import Batch
from service.engine.llama_adapters import Adapters, BadAdapter
from service.engine.llama_candidates import Candidates
from service.engine.llama_chain import Samplers
from service.engine.llama_embedding import (
    MOST_INPUTS,
    SCORE_PROBABILITIES,
    EmbeddingContext,
    longest_input,
)
from service.engine.llama_grammar import PrefixTable
from service.engine.llama_sampler import LlamaSampler
from service.engine.model import Ids, InvalidPrompt, Sampler
from service.engine.sampling import seed_of, takes_whole_distribution
from service.engine.whole_distribution import WholeDistribution
from service.engine.wire import EngineParams
from service.events import Logprob, TokenLogprobs
from service.facts import POOLINGS, ModelFacts, Pooling
from service.generation import Grammar, SamplingParams, Selection
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
_SPLIT = {
    "none": llama.LLAMA_SPLIT_MODE_NONE,
    "layer": llama.LLAMA_SPLIT_MODE_LAYER,
    "row": llama.LLAMA_SPLIT_MODE_ROW,
}
_LOG_WARN = 3
# Bytes of a token's text.
_LONGEST_PIECE = 1024
LoadKind = Literal["not_found", "out_of_memory", "bad_file", "unsupported"]


class LoadError(Exception):
    def __init__(self, kind: LoadKind, message: str) -> None:
        super().__init__(message)
        self.kind: LoadKind = kind


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
# The newest complaints of llama.cpp: its loader returns NULL and says why only here.
_complaints: deque[str] = deque(maxlen=8)
# What it took and how it computes; this too is said here alone.
_told: deque[str] = deque(maxlen=256)


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _: Any) -> None:
    line = text.decode("utf-8", "replace")
    if buffers.tells(line):
        _told.append(line)
    if level >= _LOG_WARN:
        _complaints.append(line.strip())
        sys.stderr.write(line)


class LlamaModel:
    """A loaded model and its context. `facts` says what came of the parameters."""

    embed_inputs = MOST_INPUTS

    def __init__(self, params: EngineParams, progress: Callable[[float], None]) -> None:
        started = time.monotonic()
        llama.llama_log_set(_log, None)
        llama.llama_backend_init()
        self._model = _load_model(params, progress)
        self._vocab = llama.llama_model_get_vocab(self._model)
        self._n_vocab = llama.llama_vocab_n_tokens(self._vocab)
        self._adapters = self._load_adapters(params)
        self._applied: Selection = ()
        self._context, self._threads, layout = self._open_context(params)
        self._memory = llama.llama_get_memory(self._context)
        n_batch = llama.llama_n_batch(self._context)
        self._struct = llama.llama_batch()
        self._pinned: dict[int, Any] = {}
        self._pieces: tuple[dict[int, bytes], dict[int, bytes]] = ({}, {})
        self._state = (ctypes.c_uint8 * 1024)()
        self._other_state = (ctypes.c_uint8 * 1024)()
        self._eog = frozenset(
            token for token in range(self._n_vocab) if llama.llama_vocab_is_eog(self._vocab, token)
        )
        self._samplers = Samplers(self._vocab)
        self._candidates = Candidates(self._n_vocab)
        self._prefixes: PrefixTable | None = None
        self._embedding: EmbeddingContext | None = None
        self.facts = self._read_facts(params, n_batch, layout, time.monotonic() - started)

    # -- vocabulary: read-only, any thread ---------------------------------------------------

    def tokenize(self, text: str, *, add_special: bool) -> Ids:
        try:
            data = text.encode()
        except UnicodeEncodeError:
            raise InvalidPrompt("the prompt has a lone surrogate", "prompt") from None
        capacity = len(data) + 16
        tokens = np.empty(capacity, np.int32)
        pointer = tokens.ctypes.data_as(ctypes.POINTER(llama.llama_token))
        count = llama.llama_tokenize(
            self._vocab, data, len(data), pointer, capacity, add_special, True
        )
        if count < 0:
            raise InvalidPrompt("the prompt cannot be tokenized", "prompt")
        return tokens[:count].copy()

    def piece(self, token: int, *, special: bool = False) -> bytes:
        pieces = self._pieces[special]
        piece = pieces.get(token)
        if piece is None:
            # Its own: two threads ask, and the call leaves the other one the interpreter.
            buffer = ctypes.create_string_buffer(_LONGEST_PIECE)
            size = llama.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
            piece = pieces[token] = buffer.raw[: max(size, 0)]
        return piece

    def is_eog(self, token: int) -> bool:
        return token in self._eog

    def sampler(
        self, sampling: SamplingParams, grammar: Grammar | None, prompt: Ids, index: int
    ) -> Sampler:
        if grammar is None and takes_whole_distribution(sampling):
            seed = (seed_of(sampling) + index) & 0xFFFFFFFF
            return WholeDistribution(self._logits, self._n_vocab, sampling.temperature, seed)
        if grammar is not None and self._prefixes is None:
            self._prefixes = PrefixTable(self._vocab)
        return LlamaSampler(
            self._vocab,
            self._context,
            self._samplers,
            self._candidates,
            self._prefixes,
            sampling,
            grammar,
            prompt,
            index,
            n_ctx=self.facts.n_ctx_seq,
            end_tokens=self._eog,
            # Marks of thoughts and calls may be control tokens: here they have to have their text.
            piece=partial(self.piece, special=True),
            tokenize=partial(self.tokenize, add_special=False),
        )

    # -- computing: the engine's thread only -------------------------------------------------

    def decode(self, batch: Batch) -> bool:
        struct = self._struct
        if self._pinned.get(0) is not batch:
            self._pin(batch)
        if batch.adapters != self._applied:
            self._adapters.apply(self._context, batch.adapters)
            self._applied = batch.adapters
        struct.n_tokens = batch.size
        status = llama.llama_decode(self._context, struct)
        if status == 1:
            return False
        if status:
            raise RuntimeError(f"llama_decode: {status}")
        llama.llama_synchronize(self._context)
        return True

    def embed(
        self,
        inputs: list[Ids],
        adapters: Selection = (),
        start: int = 0,
        alive: Callable[[], None] | None = None,
    ) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
        facts = self.facts
        if self._embedding is None:
            try:
                self._embedding = EmbeddingContext(
                    self._model,
                    facts.pooling,
                    facts.n_embed_input,
                    facts.threads,
                )
            except MemoryError as error:
                raise RuntimeError(f"there is no memory for embeddings: {error}") from error
        self._adapters.apply(self._embedding.context, adapters)
        return self._embedding.embed(inputs, start, alive)

    def set_threads(self, threads: int | None) -> int:
        now, in_prompts = threads_of(threads)
        llama.llama_set_n_threads(self._context, now, in_prompts)
        if self._embedding is not None:
            llama.llama_set_n_threads(self._embedding.context, now, now)
        self.facts = replace(self.facts, threads=now)
        return now

    def logprobs(self, row: int, token: int, top: int) -> TokenLogprobs:
        logits = self._logits(row)
        peak = float(logits.max())
        total = peak + float(np.log(np.exp(logits - peak, dtype=np.float32).sum(dtype=np.float64)))
        best: list[int] = []
        if top:
            top = min(top, self._n_vocab)
            unordered = np.argpartition(logits, self._n_vocab - top)[-top:]
            best = unordered[np.argsort(-logits[unordered], kind="stable")].tolist()

        def entry(candidate: int) -> Logprob:
            piece = self.piece(candidate, special=True)
            return Logprob(candidate, piece, float(logits[candidate]) - total)

        return TokenLogprobs(entry(token), tuple(entry(candidate) for candidate in best))

    def forget(self, slot: int, start: int) -> None:
        llama.llama_memory_seq_rm(self._memory, slot, start, -1)

    def copy(self, source: int, target: int, length: int) -> None:
        llama.llama_memory_seq_rm(self._memory, target, -1, -1)
        if self.facts.kv_layout == "unified":
            llama.llama_memory_seq_cp(self._memory, source, target, 0, length)
            return
        # Between streams seq_cp copies the whole stream; the state is only the cells in use.
        self._state, size = self._read_state(source, self._state)
        self._write_state(target, self._state, size)
        llama.llama_memory_seq_rm(self._memory, target, length, -1)

    def swap(self, a: int, b: int) -> None:
        self._state, size = self._read_state(a, self._state)
        self._other_state, other_size = self._read_state(b, self._other_state)
        for slot, state, used in ((a, self._other_state, other_size), (b, self._state, size)):
            llama.llama_memory_seq_rm(self._memory, slot, -1, -1)
            self._write_state(slot, state, used)

    # -- inside ------------------------------------------------------------------------------

    def _pin(self, batch: Batch) -> None:
        """Point the struct at the batch's arrays; `seq_id[i]` is the address of `slots[i]`."""

        def pointer(array: np.ndarray[Any, Any], kind: Any) -> Any:
            return array.ctypes.data_as(ctypes.POINTER(kind))

        counts = np.ones(batch.capacity, np.int32)
        step = batch.slots.itemsize
        addresses = batch.slots.ctypes.data + step * np.arange(batch.capacity, dtype=np.uint64)
        self._struct.token = pointer(batch.tokens, llama.llama_token)
        self._struct.pos = pointer(batch.positions, llama.llama_pos)
        self._struct.n_seq_id = pointer(counts, ctypes.c_int32)
        self._struct.seq_id = pointer(addresses, ctypes.POINTER(llama.llama_seq_id))
        self._struct.logits = pointer(batch.outputs, ctypes.c_int8)
        self._pinned = {0: batch, 1: counts, 2: addresses}

    def _logits(self, row: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        pointer = llama.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, (self._n_vocab,))

    def _read_state(self, slot: int, state: Any) -> tuple[Any, int]:
        size = llama.llama_state_seq_get_size(self._context, slot)
        if size > len(state):
            state = (ctypes.c_uint8 * (size + size // 4))()
        return state, llama.llama_state_seq_get_data(self._context, state, len(state), slot)

    def _write_state(self, slot: int, state: Any, size: int) -> None:
        if not llama.llama_state_seq_set_data(self._context, state, size, slot):
            raise RuntimeError("llama_state_seq_set_data failed")

    def _load_adapters(self, params: EngineParams) -> Adapters:
        _complaints.clear()
        try:
            return Adapters(self._model, params.adapters)
        except BadAdapter as error:
            # llama.cpp says what was wrong before what came of it.
            said = [line.split(": ", 1)[-1] for line in _complaints]
            raise LoadError("bad_file", f"the adapter {error}: {'; '.join(said)}") from None

    def _open_context(self, params: EngineParams) -> tuple[Any, int, Literal["split", "unified"]]:
        n_ctx_train = llama.llama_model_n_ctx_train(self._model)
        if n_ctx_train <= 0:
            raise LoadError("bad_file", "the file does not say the model's context length")
        if llama.llama_model_has_encoder(self._model) and llama.llama_model_has_decoder(
            self._model
        ):
            raise LoadError("unsupported", "an encoder with a decoder after it")
        n_ctx = choose_context(
            params.n_ctx,
            n_seq=params.n_seq,
            n_ctx_train=n_ctx_train,
            bytes_per_token=params.cell_bytes or self._cell_bytes(params),
            memory_bytes=host_memory().available,
        )
        layout = choose_layout(params.kv_layout, n_ctx, n_seq=params.n_seq, n_ctx_train=n_ctx_train)
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
        context = llama.llama_init_from_model(self._model, settings)
        if not context:
            said = "\n".join(_complaints)
            kind: LoadKind = (
                "unsupported" if any(word in said for word in _REFUSALS) else "out_of_memory"
            )
            raise LoadError(kind, f"no context of {n_ctx} tokens: {_last_complaint()}")
        return context, threads, layout

    def _cell_bytes(self, params: EngineParams) -> int:
        """Of a token, as if all layers were like the first: where nobody has read the header."""
        architecture = self._meta("general.architecture") or ""
        heads = llama.llama_model_n_head(self._model) or 1
        default = llama.llama_model_n_embd(self._model) // heads
        key = int(self._meta(f"{architecture}.attention.key_length") or default)
        value = int(self._meta(f"{architecture}.attention.value_length") or default)
        layers = llama.llama_model_n_layer(self._model)
        cell = key * _CELL_BYTES[params.cache_type_k] + value * _CELL_BYTES[params.cache_type_v]
        return int(layers * llama.llama_model_n_head_kv(self._model) * cell)

    def _meta(self, key: str) -> str | None:
        buffer = ctypes.create_string_buffer(4096)
        size = llama.llama_model_meta_val_str(self._model, key.encode(), buffer, len(buffer))
        return None if size < 0 else buffer.value.decode("utf-8", "replace")

    def _special_text(self, name: str, token: int) -> str:
        # Where the file names none, the vocabulary still answers with its family's default id.
        if token < 0 or self._meta(f"tokenizer.ggml.{name}_token_id") is None:
            return ""
        text = llama.llama_vocab_get_text(self._vocab, token)
        return (text or b"").decode("utf-8", "replace")

    def _pooling(self) -> Pooling:
        architecture = self._meta("general.architecture")
        value = self._meta(f"{architecture}.pooling_type")
        # A file may say -1, or what only a later version knows.
        known = value is not None and value.isdigit() and int(value) < len(POOLINGS)
        return POOLINGS[int(value)] if known and value is not None else "none"

    def _chat_template(self, name: bytes | None) -> str | None:
        template = llama.llama_model_chat_template(self._model, name)
        return template.decode("utf-8", "replace") if template else None

    def _infill(self) -> tuple[str, str, str] | None:
        vocab = self._vocab
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

    def _read_facts(
        self,
        params: EngineParams,
        n_batch: int,
        layout: Literal["split", "unified"],
        seconds: float,
    ) -> ModelFacts:
        model, vocab, context = self._model, self._vocab, self._context
        description = ctypes.create_string_buffer(256)
        llama.llama_model_desc(model, description, len(description))
        rolls_back = not (
            llama.llama_model_is_recurrent(model) or llama.llama_model_is_hybrid(model)
        )
        offloads = bool(llama.llama_supports_gpu_offload())
        # The output counts as one.
        layers = llama.llama_model_n_layer(model) + 1 if offloads else 0
        return ModelFacts(
            architecture=self._meta("general.architecture") or "",
            description=description.value.decode("utf-8", "replace"),
            n_ctx=llama.llama_n_ctx(context),
            n_ctx_seq=llama.llama_n_ctx_seq(context),
            n_ctx_train=llama.llama_model_n_ctx_train(model),
            n_seq=llama.llama_n_seq_max(context),
            n_batch=n_batch,
            n_vocab=self._n_vocab,
            n_embd=llama.llama_model_n_embd(model),
            n_layer=llama.llama_model_n_layer(model),
            n_params=llama.llama_model_n_params(model),
            size_bytes=llama.llama_model_size(model),
            kv_layout=layout,
            threads=self._threads,
            bos=self._special_text("bos", llama.llama_vocab_bos(vocab)),
            eos=self._special_text("eos", llama.llama_vocab_eos(vocab)),
            eog_tokens=tuple(sorted(self._eog)),
            chat_template=self._chat_template(None),
            can_rollback=rolls_back,
            gpu_offload=offloads,
            engine_version=f"llama-cpp-python {llama.__version__}",
            load_seconds=seconds,
            can_generate=self._meta(f"{self._meta('general.architecture')}.attention.causal")
            != "false",
            pooling=self._pooling(),
            n_embed_input=longest_input(
                self._pooling(), llama.llama_model_n_ctx_train(self._model)
            ),
            infill=self._infill(),
            rerank_template=self._chat_template(b"rerank"),
            scores_are_probabilities=self._meta("general.architecture") in SCORE_PROBABILITIES,
            n_ubatch=llama.llama_n_ubatch(context),
            cache_type_k=params.cache_type_k,
            cache_type_v=params.cache_type_v,
            flash_attention=buffers.flash_attention(params.flash_attention, _told),
            gpu_layers=layers if params.gpu_layers is None else min(params.gpu_layers, layers),
            tensor_split=params.tensor_split if offloads else (),
            main_gpu=(params.main_gpu or 0) if offloads else 0,
            split_mode=params.split_mode or "layer",
            mmap=params.use_mmap,
            mlock=params.use_mlock,
            buffers=buffers.buffers(_told),
            adapters=self._adapters.facts,
        )


def open_files(path: str) -> None:
    """All of a model but a context to compute in; raises LoadError."""
    llama.llama_log_set(_log, None)
    llama.llama_backend_init()
    if not Path(path).is_file():
        raise LoadError("not_found", "the model file is gone")
    settings = llama.llama_model_default_params()
    settings.n_gpu_layers = 0
    # Else weights are copied into an order that computes faster.
    settings.use_extra_bufts = False
    settings.load_mode = llama.LLAMA_LOAD_MODE_MMAP
    _loaded(path, settings)


def threads_of(wanted: int | None) -> tuple[int, int]:
    """That compute answers, and prompts: those gain from threads that share a core."""
    available = len(os.sched_getaffinity(0))
    physical = min(available, psutil.cpu_count(logical=False) or available)
    return (wanted, wanted) if wanted else (physical, available)


def _load_model(params: EngineParams, progress: Callable[[float], None]) -> Any:
    if not Path(params.path).is_file():
        raise LoadError("not_found", "the model file is gone")

    @llama.llama_progress_callback  # type: ignore[untyped-decorator]
    def report(fraction: float, _: Any) -> bool:
        progress(fraction)
        return True

    settings = llama.llama_model_default_params()
    settings.n_gpu_layers = -1 if params.gpu_layers is None else params.gpu_layers
    settings.split_mode = _SPLIT[params.split_mode or "layer"]
    settings.main_gpu = params.main_gpu or 0
    settings.progress_callback = report
    # The struct only borrows the array: it must outlive the call.
    shares = (ctypes.c_float * llama.llama_max_devices())(*params.tensor_split)
    if params.tensor_split:
        settings.tensor_split = shares
    modes = {
        (True, False): llama.LLAMA_LOAD_MODE_MMAP,
        (True, True): llama.LLAMA_LOAD_MODE_MMAP_MLOCK,
        (False, True): llama.LLAMA_LOAD_MODE_MLOCK,
        (False, False): llama.LLAMA_LOAD_MODE_NONE,
    }
    settings.load_mode = modes[params.use_mmap, params.use_mlock]
    return _loaded(params.path, settings)


def _loaded(path: str, settings: Any) -> Any:
    model = llama.llama_model_load_from_file(path.encode(), settings)
    if not model:
        complaint = _last_complaint()
        kind: LoadKind = "unsupported" if "unknown model architecture" in complaint else "bad_file"
        raise LoadError(kind, complaint)
    return model


def _last_complaint() -> str:
    """llama.cpp's own words, without its function names: the most telling of the last lines."""
    lines = [line.split(": ", 1)[-1] for line in _complaints if "error" in line]
    return (lines or list(_complaints) or ["llama.cpp gave no reason"])[0]
