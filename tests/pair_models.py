"""Small models that score a query and a document together: real architectures, random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.catalog.gguf_files import with_weights

Weights = dict[str, NDArray[np.float32]]
WIDTH, LAYERS, HEADS, FEED_FORWARD, CONTEXT = 64, 2, 4, 128, 256
RANK = 4
NORMAL, UNKNOWN, CONTROL = 1, 2, 3
LETTERS = [chr(code) for code in range(33, 127)]
SENTENCE = (
    "<|im_start|>system\nJudge the Document by the Query.<|im_end|>\n"
    "<|im_start|>user\n<Query>: {query}\n<Document>: {document}<|im_end|>\n<|im_start|>assistant\n"
)


def cross_encoder(path: Path) -> Path:
    """BERT's encoder with a classifier of one score, after its first token; WordPiece."""
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*marks, *("\N{LOWER ONE EIGHTH BLOCK}" + letter for letter in LETTERS), *LETTERS]
    weights: Weights = {}
    add = random_weights(weights, seed=7)
    add("token_embd.weight", len(tokens), WIDTH)
    add("token_types.weight", 2, WIDTH)
    add("position_embd.weight", CONTEXT, WIDTH)
    _norm(weights, "token_embd_norm")
    for layer in range(LAYERS):
        blk = f"blk.{layer}."
        for name, rows, columns in (
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", WIDTH, WIDTH),
            ("attn_v", WIDTH, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_up", FEED_FORWARD, WIDTH),
            ("ffn_down", WIDTH, FEED_FORWARD),
        ):
            add(f"{blk}{name}.weight", rows, columns)
            add(f"{blk}{name}.bias", rows)
        _norm(weights, blk + "attn_output_norm")
        _norm(weights, blk + "layer_output_norm")
    add("cls.weight", WIDTH, WIDTH)
    add("cls.bias", WIDTH)
    add("cls.output.weight", 1, WIDTH)
    add("cls.output.bias", 1)
    metadata = _sizes("bert") | {
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL] * len(marks) + [NORMAL] * (2 * len(LETTERS)),
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.mask_token_id": 4,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
    }
    path.write_bytes(with_weights(metadata, weights))
    return path


def judge(path: Path) -> Path:
    """Qwen3's decoder, asked in a sentence of its own; its two scores are "yes" and "no"."""
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*byte_letters(), "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}t", "th", *marks]
    head = WIDTH // HEADS
    weights: Weights = {}
    add = random_weights(weights, seed=11)
    add("token_embd.weight", len(tokens), WIDTH)
    weights["output_norm.weight"] = np.ones(WIDTH, np.float32)
    for layer in range(LAYERS):
        blk = f"blk.{layer}."
        for norm, size in (("attn", WIDTH), ("ffn", WIDTH), ("attn_q", head), ("attn_k", head)):
            weights[f"{blk}{norm}_norm.weight"] = np.ones(size, np.float32)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{blk}{name}.weight", WIDTH, WIDTH)
        add(blk + "ffn_gate.weight", FEED_FORWARD, WIDTH)
        add(blk + "ffn_up.weight", FEED_FORWARD, WIDTH)
        add(blk + "ffn_down.weight", WIDTH, FEED_FORWARD)
    add("cls.output.weight", 2, WIDTH)
    # So that no probability is close to 0 or 1, where all are alike.
    weights["cls.output.weight"] /= 2
    metadata = _sizes("qwen3") | {
        "qwen3.attention.head_count_kv": HEADS,
        "qwen3.attention.layer_norm_rms_epsilon": 1e-6,
        "qwen3.attention.key_length": head,
        "qwen3.attention.value_length": head,
        "qwen3.rope.freq_base": 1e6,
        "qwen3.classifier.output_labels": ["yes", "no"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [NORMAL] * (len(tokens) - 3) + [CONTROL] * 3,
        "tokenizer.ggml.merges": ["\N{LATIN CAPITAL LETTER G WITH DOT ABOVE} t", "t h"],
        "tokenizer.ggml.eos_token_id": len(tokens) - 1,
        "tokenizer.ggml.padding_token_id": len(tokens) - 3,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_templates": ["rerank"],
        "tokenizer.chat_template.rerank": SENTENCE,
    }
    path.write_bytes(with_weights(metadata, weights))
    return path


def _sizes(architecture: str) -> dict[str, Any]:
    sizes = {
        "block_count": LAYERS,
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "feed_forward_length": FEED_FORWARD,
        "attention.head_count": HEADS,
        "pooling_type": RANK,
    }
    named = {f"{architecture}.{key}": size for key, size in sizes.items()}
    return {"general.architecture": architecture, "general.file_type": 0} | named


def random_weights(weights: Weights, seed: int) -> Any:
    random = np.random.default_rng(seed)

    def add(name: str, *shape: int) -> None:
        # Wide enough that texts differ by far more than rounding does, in batches of another make-up.
        weights[name] = random.standard_normal(shape, np.float32) * np.float32(0.15)

    return add


def _norm(weights: Weights, name: str) -> None:
    weights[name + ".weight"] = np.ones(WIDTH, np.float32)
    weights[name + ".bias"] = np.zeros(WIDTH, np.float32)


def byte_letters() -> Iterator[str]:
    """A letter for each byte, as byte-level BPE writes them: printable ones are themselves."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = 256
    for byte in range(256):
        if byte in shown:
            yield chr(byte)
        else:
            yield chr(hidden)
            hidden += 1
