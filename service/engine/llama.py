"""llama.cpp behind the Model protocol; beside this file, only `llama_*` import `llama_cpp`.

Calls that llama.cpp answers with abort() are never made: a batch over n_batch, a slot or a token
out of range, logits of a row that did not ask for them, a grammar fed a token it forbids.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import llama_cpp as llama
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from service.engine.batch import Batch
from service.engine.embedding import can_split
from service.engine.llama_candidates import Candidates
from service.engine.llama_chain import Samplers
from service.engine.llama_context import open_context, threads_of
from service.engine.llama_embedding import MOST_INPUTS, EmbeddingContext
from service.engine.llama_facts import end_tokens, read_facts
from service.engine.llama_grammar import PrefixTable
from service.engine.llama_load import load_adapters, load_model, start
from service.engine.llama_sampler import LlamaSampler
from service.engine.model import Ids, InvalidPrompt, Sampler
from service.engine.sampling import seed_of, takes_whole_distribution
from service.engine.whole_distribution import WholeDistribution
from service.engine.wire import EngineParams
from service.events import Logprob, TokenLogprobs
from service.generation import Grammar, SamplingParams, Selection

# Of a sequence's state what cannot be cut back: all but the cells of layers that see everything.
_PARTIAL = llama.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY


class _Pinned(NamedTuple):
    """What `llama_batch` points into, which does not keep it."""

    batch: Batch | None = None
    counts: NDArray[np.int32] | None = None
    addresses: NDArray[np.uint64] | None = None


class LlamaModel:
    """A loaded model and its context. `facts` says what came of the parameters."""

    embed_inputs = MOST_INPUTS

    def __init__(self, params: EngineParams, progress: Callable[[float], None]) -> None:
        started = time.monotonic()
        start()
        self._model = load_model(params, progress)
        self._vocab = llama.llama_model_get_vocab(self._model)
        self._n_vocab = llama.llama_vocab_n_tokens(self._vocab)
        self._adapters = load_adapters(self._model, params)
        self._applied: Selection = ()
        self._context, threads, layout = open_context(self._model, params)
        # That compute answers now: fewer than the facts say while other engines compute, too.
        self._threads = threads
        self._memory = llama.llama_get_memory(self._context)
        self._struct = llama.llama_batch()
        self._pinned = _Pinned()
        self._pieces: tuple[dict[int, bytes], dict[int, bytes]] = ({}, {})
        self._state = (ctypes.c_uint8 * 1024)()
        self._other_state = (ctypes.c_uint8 * 1024)()
        self._eog = end_tokens(self._vocab)
        self._samplers = Samplers(self._vocab)
        self._candidates = Candidates(self._n_vocab)
        self._prefixes: PrefixTable | None = None
        self._embedding: EmbeddingContext | None = None
        self.facts = read_facts(
            self._model,
            self._context,
            params,
            kv_layout=layout,
            threads=threads,
            adapters=self._adapters.facts,
            load_seconds=time.monotonic() - started,
        )

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
            buffer = ctypes.create_string_buffer(1024)
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
        if self._pinned.batch is not batch:
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
                    facts.n_ubatch if can_split(facts) else facts.n_embed_input,
                    self._threads,
                )
            except MemoryError as error:
                raise RuntimeError(f"there is no memory for embeddings: {error}") from error
        self._adapters.apply(self._embedding.context, adapters)
        return self._embedding.embed(inputs, start, alive)

    def set_threads(self, threads: int | None, engines: int = 1) -> int:
        alone, _ = threads_of(threads)
        self._threads, in_prompts = threads_of(threads, engines)
        llama.llama_set_n_threads(self._context, self._threads, in_prompts)
        if self._embedding is not None:
            llama.llama_set_n_threads(self._embedding.context, self._threads, self._threads)
        self.facts = replace(self.facts, threads=alone)
        return alone

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

    def held_from(self, slot: int) -> int:
        return int(llama.llama_memory_seq_pos_min(self._memory, slot))

    def forget(self, slot: int, start: int) -> None:
        llama.llama_memory_seq_rm(self._memory, slot, start, -1)

    def copy(self, source: int, target: int, length: int) -> None:
        llama.llama_memory_seq_rm(self._memory, target, -1, -1)
        if self.facts.kv_layout == "unified":
            # What cannot be cut back is copied whole: a part of it would be refused, or worse.
            end = length if self.facts.can_rollback else -1
            llama.llama_memory_seq_cp(self._memory, source, target, -1, end)
            return
        if self.facts.window and self.facts.can_rollback:
            # The state leaves out what the source's next token does not see in its windows, and
            # that of a shorter prefix does.
            llama.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        else:
            # Between streams seq_cp copies the whole stream; the state is only the cells in use.
            self._state, size = self._read_state(source, self._state)
            self._write_state(target, self._state, size)
        llama.llama_memory_seq_rm(self._memory, target, length, -1)

    def state(self, slot: int) -> Any:
        size = llama.llama_state_seq_get_size_ext(self._context, slot, _PARTIAL)
        state = (ctypes.c_uint8 * size)()
        if llama.llama_state_seq_get_data_ext(self._context, state, size, slot, _PARTIAL) != size:
            raise RuntimeError("llama_state_seq_get_data_ext failed")
        return state

    def restore(self, slot: int, state: Any, length: int) -> None:
        if not llama.llama_state_seq_set_data_ext(self._context, state, len(state), slot, _PARTIAL):
            raise RuntimeError("llama_state_seq_set_data_ext failed")
        if not llama.llama_memory_seq_rm(self._memory, slot, length, -1):
            raise RuntimeError(f"a state of {length} tokens cannot be gone back to")

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
        self._pinned = _Pinned(batch, counts, addresses)

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
