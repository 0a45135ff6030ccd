"""A model with a long context that is computed in no time: one narrow block, random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.catalog.gguf_files import with_weights
from tests.pair_models import byte_letters, random_weights

CONTEXT: Final = 131_072
WIDTH, FEED_FORWARD = 32, 64


def long_model(path: Path, **more: Any) -> Path:
    """A llama whose tokens are bytes, and one that ends. `more` goes into its header, with two
    underscores for each dot."""
    tokens = [*byte_letters(), "<|end|>"]
    weights: dict[str, Any] = {}
    add = random_weights(weights, seed=3)
    add("token_embd.weight", len(tokens), WIDTH)
    add("output.weight", len(tokens), WIDTH)
    for norm in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        weights[f"{norm}.weight"] = np.ones(WIDTH, np.float32)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        add(f"blk.0.{name}.weight", WIDTH, WIDTH)
    add("blk.0.ffn_gate.weight", FEED_FORWARD, WIDTH)
    add("blk.0.ffn_up.weight", FEED_FORWARD, WIDTH)
    add("blk.0.ffn_down.weight", WIDTH, FEED_FORWARD)
    metadata = {
        "general.architecture": "llama",
        "general.file_type": 0,
        "llama.block_count": 1,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": FEED_FORWARD,
        "llama.attention.head_count": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 1e6,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - 1) + [3],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": len(tokens) - 1,
        "tokenizer.ggml.add_bos_token": False,
    } | {key.replace("__", "."): value for key, value in more.items()}
    path.write_bytes(with_weights(metadata, weights))
    return path
