"""How many tokens of context a model gets where nobody says, and how its cells are laid out. Pure.

Split: each slot has n_ctx / n_seq cells of its own. Attention reads a sequence's own cells only,
which measured 5–20 % faster on a CPU; a prefix is copied. Unified: all slots share the cells,
a prefix costs nothing to share, and one sequence may take everything.

`auto` takes split where it takes nothing away: where each slot's share holds all that the model was
trained for. Otherwise the context is shared, as `default_context_size` promises.
"""

from __future__ import annotations

from typing import Literal

from service.engine.wire import EngineParams

# What a context may take of the memory that is free when nobody chose its size.
MEMORY_SHARE = 0.25
# llama.cpp rounds a sequence's cells up to this.
_PAD = 256


def choose_context(
    params: EngineParams, *, n_ctx_train: int, bytes_per_token: int, memory_bytes: int
) -> tuple[int, Literal["split", "unified"]]:
    """(cells of all sequences together, layout)."""
    n_seq = params.n_seq
    everything = _padded(n_ctx_train) * n_seq
    if params.n_ctx is not None:
        total = params.n_ctx
    else:
        affordable = int(memory_bytes * MEMORY_SHARE) // max(bytes_per_token, 1)
        if everything <= affordable:
            total = everything
        else:
            total = max(_PAD, min(_padded(n_ctx_train), affordable // _PAD * _PAD))
    layout = params.kv_layout
    if layout == "auto":
        layout = "split" if n_seq == 1 or total // n_seq >= n_ctx_train else "unified"
    return total, layout


def _padded(tokens: int) -> int:
    return -(-tokens // _PAD) * _PAD
