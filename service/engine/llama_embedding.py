"""The context that makes vectors: beside the one that generates, on the same weights.

It keeps nothing: no logits, no prefixes, no slots. A generating
model gets one when somebody first asks for a vector; an encoder has no other.
"""

from __future__ import annotations

import ctypes
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

    pooling: "none" is taken for "last", as Ollama does: a causal model's last token has seen
    all the others.
    """

    def __init__(
        self, model: Any, pooling: Pooling, longest: int, threads: int, *, encoder: bool
    ) -> None:
        self._encoder = encoder
        self._ranks = pooling == "rank"
        settings = llama.llama_context_default_params()
        # The cells are shared, and forgotten after each batch.
        settings.n_ctx = settings.n_batch = settings.n_ubatch = longest
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

    def embed(self, inputs: list[Ids]) -> list[NDArray[np.float32]]:
        """One vector for each; raises RuntimeError where the batch cannot be computed."""
        batch = self._batch
        row = 0
        for sequence, ids in enumerate(inputs):
            for position, token in enumerate(ids.tolist()):
                batch.token[row] = token
                batch.pos[row] = position
                batch.n_seq_id[row] = 1
                batch.seq_id[row][0] = sequence
                batch.logits[row] = 1
                row += 1
        batch.n_tokens = row
        compute = llama.llama_encode if self._encoder else llama.llama_decode
        try:
            if status := compute(self.context, batch):
                raise RuntimeError(f"the inputs could not be computed ({status})")
            return [self._vector(sequence) for sequence in range(len(inputs))]
        finally:
            # Whatever came of it: the next batch begins at position 0 again.
            if memory := llama.llama_get_memory(self.context):
                llama.llama_memory_clear(memory, True)

    def _vector(self, sequence: int) -> NDArray[np.float32]:
        pointer = llama.llama_get_embeddings_seq(self.context, sequence)
        if not pointer:
            raise RuntimeError("the model gave no vector")
        pointer = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, (self._width,)).copy()
