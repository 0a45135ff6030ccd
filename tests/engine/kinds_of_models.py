"""Models that keep their past in different ways: real architectures, random weights, a few layers.

`hybrid` is Qwen3.5's kind (three layers with a state, then one with cells), `recurrent` Mamba's
(states only), `windowed` Gemma 3's (five layers that see the last tokens only, then one that sees
all), `windowed_hybrid` that of LFM2 with a window (two layers with a state, then one with the cells
of the last tokens). Their tokens are bytes, and one that ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.catalog.gguf_files import with_weights
from tests.pair_models import byte_letters, random_weights

WIDTH: Final = 64
FEED_FORWARD: Final = 128
HEADS, HEAD = 2, 32
CONTEXT: Final = 2048
WINDOW: Final = 64

Sizes = Iterator[tuple[str, tuple[int, ...]]]


def hybrid(path: Path) -> Path:
    groups, heads, state = 2, 4, 32
    keys, values = groups * state, heads * state
    metadata = {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": values,
        "ssm.state_size": state,
        "ssm.time_step_rank": heads,
        "ssm.group_count": groups,
        "full_attention_interval": 4,
        "rope.dimension_sections": [4, 4, 4, 0],
        "rope.dimension_count": HEAD,
    }

    def layer(number: int) -> Sizes:
        yield "post_attention_norm.weight", (WIDTH,)
        if number % 4 == 3:
            yield from _attention(gated=True)
        else:
            yield "attn_qkv.weight", (2 * keys + values, WIDTH)
            yield "attn_gate.weight", (values, WIDTH)
            yield "ssm_conv1d.weight", (2 * keys + values, 4)
            yield "ssm_dt.bias", (heads,)
            yield "ssm_a", (heads,)
            yield "ssm_beta.weight", (heads, WIDTH)
            yield "ssm_alpha.weight", (heads, WIDTH)
            yield "ssm_norm.weight", (state,)
            yield "ssm_out.weight", (WIDTH, values)
        yield from _feed_forward()

    return _write(path, "qwen35", 4, metadata, layer)


def recurrent(path: Path) -> Path:
    inner, state, rank = 2 * WIDTH, 16, 4
    metadata = {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
    }

    def layer(number: int) -> Sizes:
        yield "ssm_in.weight", (2 * inner, WIDTH)
        yield "ssm_conv1d.weight", (inner, 4)
        yield "ssm_conv1d.bias", (inner,)
        yield "ssm_x.weight", (rank + 2 * state, inner)
        yield "ssm_dt.weight", (inner, rank)
        yield "ssm_dt.bias", (inner,)
        yield "ssm_a", (inner, state)
        yield "ssm_d", (inner,)
        yield "ssm_out.weight", (WIDTH, inner)

    return _write(path, "mamba", 2, metadata, layer)


def windowed(path: Path) -> Path:
    def layer(number: int) -> Sizes:
        yield from _attention()
        yield "post_attention_norm.weight", (WIDTH,)
        yield "ffn_norm.weight", (WIDTH,)
        yield from _feed_forward()
        yield "post_ffw_norm.weight", (WIDTH,)

    return _write(path, "gemma3", 6, {"attention.sliding_window": WINDOW}, layer)


def windowed_hybrid(path: Path) -> Path:
    metadata = {
        "shortconv.l_cache": 3,
        "attention.sliding_window": WINDOW,
        "attention.head_count_kv": [0, 0, 1, 0, 0, 1],
    }

    def layer(number: int) -> Sizes:
        yield "ffn_norm.weight", (WIDTH,)
        if number % 3 == 2:
            yield from _attention()
        else:
            yield "shortconv.conv.weight", (WIDTH, 3)
            yield "shortconv.in_proj.weight", (3 * WIDTH, WIDTH)
            yield "shortconv.out_proj.weight", (WIDTH, WIDTH)
        yield from _feed_forward()

    return _write(path, "lfm2", 6, metadata, layer, norm="token_embd_norm")


def _attention(*, gated: bool = False) -> Sizes:
    yield "attn_q.weight", (HEADS * HEAD * (2 if gated else 1), WIDTH)
    yield "attn_k.weight", (HEAD, WIDTH)
    yield "attn_v.weight", (HEAD, WIDTH)
    yield "attn_output.weight", (WIDTH, HEADS * HEAD)
    yield "attn_q_norm.weight", (HEAD,)
    yield "attn_k_norm.weight", (HEAD,)


def _feed_forward() -> Sizes:
    yield "ffn_gate.weight", (FEED_FORWARD, WIDTH)
    yield "ffn_up.weight", (FEED_FORWARD, WIDTH)
    yield "ffn_down.weight", (WIDTH, FEED_FORWARD)


def _write(
    path: Path,
    architecture: str,
    layers: int,
    special: dict[str, Any],
    layer: Callable[[int], Sizes],
    norm: str = "output_norm",
) -> Path:
    tokens = [*byte_letters(), "<|end|>"]
    weights: dict[str, Any] = {f"{norm}.weight": np.ones(WIDTH, np.float32)}
    add = random_weights(weights, seed=5)
    add("token_embd.weight", len(tokens), WIDTH)
    add("output.weight", len(tokens), WIDTH)
    for number in range(layers):
        weights[f"blk.{number}.attn_norm.weight"] = np.ones(WIDTH, np.float32)
        for name, size in layer(number):
            whole = f"blk.{number}.{name}"
            if name.endswith("norm.weight"):
                weights[whole] = np.ones(size, np.float32)
            elif name == "ssm_a":
                # What is remembered decays, in some channels slowly.
                weights[whole] = -np.geomspace(0.01, 1, int(np.prod(size))).astype(np.float32)
                weights[whole] = weights[whole].reshape(size)
            else:
                add(whole, *size)
    general = {
        "block_count": layers,
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "feed_forward_length": FEED_FORWARD,
        "attention.head_count": HEADS,
        "attention.head_count_kv": 1,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 1e4,
    }
    metadata = {
        "general.architecture": architecture,
        "general.file_type": 0,
        **{f"{architecture}.{key}": value for key, value in {**general, **special}.items()},
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - 1) + [3],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": len(tokens) - 1,
        "tokenizer.ggml.add_bos_token": False,
    }
    path.write_bytes(with_weights(metadata, weights))
    return path
