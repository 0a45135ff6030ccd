"""Writes LoRA adapters for the demo model: random matrices of a low rank."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from tests.catalog.gguf_files import with_weights

RANK: Final = 4
# The text becomes another, and stays text.
STRENGTH: Final = 1.8
# (rows, columns) of what is adapted in each of the demo model's layers.
SHAPES: Final = {"attn_q": (256, 256), "attn_v": (64, 256), "ffn_down": (256, 704)}
ADAPTER: Final[Mapping[str, Any]] = {
    "general.type": "adapter",
    "general.architecture": "llama",
    "adapter.type": "lora",
    "adapter.lora.alpha": float(RANK),
}


def matrices(seed: int, strength: float = STRENGTH, layers: int = 5) -> dict[str, Any]:
    """`lora_b @ lora_a` is what is added to a weight."""
    random = np.random.default_rng(seed)
    found = {}
    for layer in range(layers):
        for name, (rows, columns) in SHAPES.items():
            key = f"blk.{layer}.{name}.weight"
            down = random.standard_normal((RANK, columns)) / np.sqrt(columns)
            up = random.standard_normal((rows, RANK)) * strength
            found[f"{key}.lora_a"] = down.astype(np.float32)
            found[f"{key}.lora_b"] = up.astype(np.float32)
    return found


def adapter(
    path: Path,
    seed: int = 1,
    metadata: Mapping[str, Any] = MappingProxyType({}),
    *,
    strength: float = STRENGTH,
    cut: int = 0,
) -> Path:
    """Writes one, `cut` bytes short. `metadata`: None leaves a key out."""
    wanted = {key: value for key, value in {**ADAPTER, **metadata}.items() if value is not None}
    data = with_weights(wanted, matrices(seed, strength))
    path.write_bytes(data[: len(data) - cut])
    return path
