"""The models that there are to measure on, as data; `models.py` makes them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.paths import MODELS, ROOT


@dataclass(frozen=True)
class Shape:
    name: str
    architecture: str
    vocabulary: str
    quantization: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    context: int
    rope_base: float
    tied: bool = False  # the output matrix is the embedding

    @property
    def head(self) -> int:
        return self.width // self.heads

    @property
    def path(self) -> Path:
        """Each in a folder of its own, so that a server can be pointed at one of them."""
        return MODELS / self.name / f"bench-{self.name}-{self.quantization}.gguf"


SHAPES = {
    shape.name: shape
    for shape in (
        # Qwen2.5-0.5B
        Shape("0.5B", "qwen2", "qwen2", "Q8_0", 896, 24, 14, 2, 4864, 32768, 1e6, tied=True),
        # TinyLlama-1.1B, its context four times as long so that eight sequences fit
        Shape("1.1B", "llama", "llama-spm", "Q4_K_M", 2048, 22, 32, 4, 5632, 8192, 1e4),
        # stories15M: so small that the server's own work dominates
        Shape("15M", "llama", "llama-spm", "Q8_0", 288, 6, 6, 6, 768, 8192, 1e4, tied=True),
    )
}


def model(name: str) -> Path:
    """Its file, made first if need be, in a process that gives its memory back."""
    shape = SHAPES[name]
    if not shape.path.is_file():
        subprocess.run((sys.executable, "-m", "bench.models", name), check=True, cwd=ROOT)
    return shape.path
