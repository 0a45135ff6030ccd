"""The context that makes vectors: beside the one that generates, on the same weights.

It keeps nothing but the begun input's cells: no logits, no prefixes, no slots. A generating model
gets one when somebody first asks for a vector; an encoder has no other.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from service.engine.model import Ids
from service.facts import POOLINGS, Pooling

# Inputs in one batch: each is a sequence of its own.
MOST_INPUTS: Final = 32
# Of a generating model, whose attention over one input has to fit into one batch. What was
# trained to embed says so (`pooling`), and gets more.
LONGEST: Final = 2048
LONGEST_POOLED: Final = 8192
# Architectures whose scores of pairs llama.cpp puts through a softmax (llama-graph.cpp,
# build_pooling): the first of two is the probability of "yes". All others' are logits.
SCORE_PROBABILITIES: Final = frozenset({"qwen3", "qwen3vl"})


def longest_input(pooling: Pooling, n_ctx_train: int) -> int:
    return min(n_ctx_train, LONGEST if pooling == "none" else LONGEST_POOLED)


class EmbeddingContext:
    """Raises MemoryError where llama.cpp cannot open it.

    at_once: tokens that are computed together, for which memory is set aside: a generating model's
    head makes a number for each word of the vocabulary of each of them, 1.2 GB of 2,048. Where
    attention is not causal, or the pooling is of all tokens, it has to be `longest`.
    pooling: "none" is taken for "last", as Ollama does: a causal model's last token has seen
    all the others.
    """

    def __init__(
        self, model: Any, pooling: Pooling, longest: int, at_once: int, threads: int
    ) -> None:
        self._ranks = pooling == "rank"
        settings = llama.llama_context_default_params()
        # The cells are shared, and forgotten after each batch.
        settings.n_ctx = settings.n_batch = longest
        settings.n_ubatch = at_once
        settings.n_seq_max = MOST_INPUTS
        settings.kv_unified = True
        settings.embeddings = True
        settings.pooling_type = POOLINGS.index("last" if pooling == "none" else pooling)
        settings.n_threads = settings.n_threads_batch = threads
        settings.no_perf = True
        self.context = llama.llama_init_from_model(model, settings)
        if not self.context:
            raise MemoryError(f"no context for inputs of {longest} tokens")
        width = llama.llama_model_n_cls_out(model) if self._ranks else 0
        self._width = width or llama.llama_model_n_embd(model)
        self._batch = llama.llama_batch_init(longest, 0, 1)
        # llama.cpp asks whether it shall stop after each operation of the graph that the processor
        # computes: so often is it seen to get on. Where a GPU computes, it does not ask.
        self._alive: Callable[[], None] = _nothing
        self._listening = False
        self._asked = llama.ggml_abort_callback(self._go_on)

    def embed(
        self, inputs: list[Ids], start: int = 0, alive: Callable[[], None] | None = None
    ) -> list[NDArray[np.float32]]:
        """One vector for each; raises RuntimeError where the batch cannot be computed.

        start: so many tokens of the only input were computed by the calls before. alive: is called
        many times a second while a batch is computed.
        """
        memory = llama.llama_get_memory(self.context)
        if memory and not start:
            # Of whatever came before, whole or broken off.
            llama.llama_memory_clear(memory, True)
        self._listen(alive)
        batch = self._batch
        row = 0
        for sequence, ids in enumerate(inputs):
            for position, token in enumerate(ids.tolist(), start):
                batch.token[row] = token
                batch.pos[row] = position
                batch.n_seq_id[row] = 1
                batch.seq_id[row][0] = sequence
                batch.logits[row] = 1
                row += 1
        batch.n_tokens = row
        # It encodes where the architecture has no cells. One that has them, and looks both ways,
        # dies of llama_encode.
        if status := llama.llama_decode(self.context, batch):
            raise RuntimeError(f"the inputs could not be computed ({status})")
        return [self._vector(sequence) for sequence in range(len(inputs))]

    def _listen(self, alive: Callable[[], None] | None) -> None:
        """Only to a computation that may be long: to answer costs time."""
        self._alive = alive or _nothing
        if self._listening is not (alive is not None):
            self._listening = alive is not None
            callback = self._asked if self._listening else llama.ggml_abort_callback()
            llama.llama_set_abort_callback(self.context, callback, None)

    def _go_on(self, _: Any) -> bool:
        self._alive()
        return False

    def _vector(self, sequence: int) -> NDArray[np.float32]:
        pointer = llama.llama_get_embeddings_seq(self.context, sequence)
        if not pointer:
            raise RuntimeError("the model gave no vector")
        pointer = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, (self._width,)).copy()


def _nothing() -> None:
    pass
