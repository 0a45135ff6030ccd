"""GGUF files that a loader may fall over: the demo model with one thing wrong in each."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

DEMO = Path(__file__).parents[1] / "service" / "catalog" / "demo.gguf"
_UINT32 = 4


def with_uint32(key: str, value: int) -> Callable[[bytes], bytes]:
    """Overwrites the value of a header field; the field has to be there."""

    def spoil(data: bytes) -> bytes:
        name = key.encode()
        at = data.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)
        assert data[at : at + 4] == struct.pack("<I", _UINT32)
        return data[: at + 4] + struct.pack("<I", value) + data[at + 8 :]

    return spoil


def with_noise(seed: int, start: int, end: int, count: int) -> Callable[[bytes], bytes]:
    """Random bytes at `count` random places of a region."""

    def spoil(data: bytes) -> bytes:
        draw = random.Random(seed)
        spoiled = bytearray(data)
        for _ in range(count):
            spoiled[draw.randrange(start, end)] = draw.randrange(256)
        return bytes(spoiled)

    return spoil


def cut(size: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:size]


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    assert len(old) == len(new)
    return lambda data: data.replace(old, new)


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "no-blocks": with_uint32("llama.block_count", 0),
    "too-many-blocks": with_uint32("llama.block_count", 513),
    "absurd-blocks": with_uint32("llama.block_count", 100_000),
    "no-heads": with_uint32("llama.attention.head_count", 0),
    "odd-heads": with_uint32("llama.attention.head_count", 7),
    "no-kv-heads": with_uint32("llama.attention.head_count_kv", 0),
    "absurd-kv-heads": with_uint32("llama.attention.head_count_kv", 1_000_000),
    "no-embedding": with_uint32("llama.embedding_length", 0),
    "wrong-embedding": with_uint32("llama.embedding_length", 77),
    "no-feed-forward": with_uint32("llama.feed_forward_length", 0),
    "no-context": with_uint32("llama.context_length", 0),
    "eos-outside": with_uint32("tokenizer.ggml.eos_token_id", 1_000_000),
    "unknown-architecture": replaced(b"llama", b"lamma"),
    "other-architecture": replaced(b"llama", b"mamba"),
    "magic-only": cut(4),
    "empty": cut(0),
    "header-cut": cut(20_000),
    "tensors-cut": cut(200_000),
    "noise-in-fields": with_noise(1, 24, 2_000, 20),
    "noise-in-tokens": with_noise(2, 2_000, 30_000, 200),
    "not-a-model": lambda data: b"GGUF" + random.Random(3).randbytes(4096),
}


def write(folder: Path) -> list[Path]:
    """One file for each of them."""
    data = DEMO.read_bytes()
    paths = [folder / f"{name}.gguf" for name in HOSTILE]
    for path, spoil in zip(paths, HOSTILE.values(), strict=True):
        path.write_bytes(spoil(data))
    return paths
