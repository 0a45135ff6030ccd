"""How many tokens of context a model gets where nobody says, and how its cells are laid out. Pure.

Split: each slot has n_ctx / n_seq cells of its own. Attention reads a sequence's own cells only,
which measured 5–20 % faster on a CPU; a prefix is copied. Unified: all slots share the cells,
a prefix costs nothing to share, and one sequence may take everything.

`auto` takes split where it takes nothing away: where each slot's share holds all that the model was
trained for. Otherwise the context is shared, as `default_context_size` promises. A model with layers
that see a window only gets shared cells in any case: what a slot holds of it cannot be moved, so that
active slots could not be kept together.
"""

from __future__ import annotations

from typing import Final, Literal

from service.facts import KVLayout

# What a context may take of the memory that is free when nobody chose its size.
MEMORY_SHARE: Final = 0.25
# llama.cpp rounds a sequence's cells up to this.
PAD: Final = 256
# States of a recurrent or hybrid model that are kept for each slot, beside the slot's own.
SNAPSHOTS: Final = 2


def choose_context(
    asked: int | None, *, n_seq: int, n_ctx_train: int, bytes_per_token: int, memory_bytes: int
) -> int:
    """Cells of all sequences together."""
    if asked is not None:
        return asked
    everything = padded(n_ctx_train) * n_seq
    affordable = int(memory_bytes * MEMORY_SHARE) // max(bytes_per_token, 1)
    if everything <= affordable:
        return everything
    return max(PAD, min(padded(n_ctx_train), affordable // PAD * PAD))


def choose_layout(
    layout: KVLayout, n_ctx: int, *, n_seq: int, n_ctx_train: int, windowed: bool
) -> Literal["split", "unified"]:
    if layout != "auto":
        return layout
    if n_seq == 1:
        return "split"
    return "split" if n_ctx // n_seq >= n_ctx_train and not windowed else "unified"


def padded(tokens: int) -> int:
    return -(-tokens // PAD) * PAD


def output_rows(n_seq: int) -> int:
    """Rows of a step that may ask for logits: one for each sequence, and room for prompts whose
    log-probabilities are wanted. The logits buffer is this times the vocabulary, in floats."""
    return n_seq + 32
