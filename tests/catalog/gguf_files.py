"""Writes small GGUF files, whole or wrong in one place."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

F32, F16, Q4_0 = 0, 1, 2
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 5, 6, 7, 8, 9, 10

METADATA: Mapping[str, Any] = {
    "general.architecture": "llama",
    "general.file_type": 15,
    "llama.context_length": 8192,
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "tokenizer.ggml.tokens": ["<s>", "</s>", "a", "b"],
    "tokenizer.ggml.scores": [0.0, 0.5, -1.0, 2.0],
    "tokenizer.chat_template": "{{ messages }}",
}
TENSORS: Mapping[str, tuple[tuple[int, ...], int]] = {
    "token_embd.weight": ((64, 4), F32),
    "blk.0.attn_q.weight": ((64, 64), Q4_0),
}


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def value(thing: Any) -> bytes:
    """A metadata value with its type in front."""
    match thing:
        case bytes():  # written out by the test
            return thing
        case bool():
            return struct.pack("<I?", BOOL, thing)
        case int():
            return struct.pack("<II", UINT32, thing)
        case float():
            return struct.pack("<If", FLOAT32, thing)
        case str():
            return struct.pack("<I", STRING) + text(thing)
        case [str(), *_]:
            return struct.pack("<IIQ", ARRAY, STRING, len(thing)) + b"".join(map(text, thing))
        case [float(), *_]:
            return struct.pack(f"<IIQ{len(thing)}f", ARRAY, FLOAT32, len(thing), *thing)
        case [*numbers]:
            return struct.pack(f"<IIQ{len(numbers)}i", ARRAY, INT32, len(numbers), *numbers)
    raise TypeError(thing)


def gguf(
    metadata: Mapping[str, Any] = METADATA,
    tensors: Mapping[str, tuple[Sequence[int], int]] = TENSORS,
    *,
    version: int = 3,
    alignment: int = 32,
    cut: int = 0,
    weights: Mapping[str, bytes] | None = None,
) -> bytes:
    """The bytes of a file, `cut` bytes short; zeros for the tensors that `weights` leaves out."""
    parts = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(metadata))]
    parts += [text(key) + value(thing) for key, thing in metadata.items()]
    offset = 0
    blocks = []
    for name, (shape, kind) in tensors.items():
        numbers = struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        parts.append(text(name) + numbers)
        count = 1
        for dimension in shape:
            count *= dimension
        size = {F32: count * 4, F16: count * 2}.get(kind, count // 32 * 18)
        padded = -(-size // alignment) * alignment
        blocks.append((weights or {}).get(name, b"").ljust(padded, b"\0"))
        offset += padded
    header = b"".join(parts)
    header += bytes(-len(header) % alignment)
    data = header + b"".join(blocks)
    return data[: len(data) - cut]


def with_weights(metadata: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """The bytes of a model: each array is a tensor, its rows first, in float32 or float16."""
    kinds = {"float32": F32, "float16": F16}
    tensors = {name: (array.shape[::-1], kinds[array.dtype.name]) for name, array in arrays.items()}
    return gguf(metadata, tensors, weights={n: array.tobytes() for n, array in arrays.items()})


def write(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gguf(**changes))
    return path
