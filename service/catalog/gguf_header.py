"""What a GGUF file's header says, once it was read (gguf.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from service.catalog.gguf_types import FILE_TYPES

# Layers that a model may have.
MAX_BLOCKS: Final = 512
# What of the metadata is kept: chat templates reach 20 KiB, per-layer arrays MAX_BLOCKS entries.
KEPT_STRING_BYTES: Final = 1024 * 1024
KEPT_ARRAY: Final = MAX_BLOCKS
KEPT_BYTES: Final = 8 * 1024 * 1024

# The file's names, and SamplingParams'. An order of samplers may stand there too, as letters.
SAMPLING: Final[Mapping[str, str]] = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "penalty_last_n": "repeat_last_n",
    "penalty_repeat": "repeat_penalty",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}


class GgufError(Exception):
    """The file is not a GGUF file that can be used; the message says why, without its path."""


@dataclass(frozen=True, slots=True)
class Omitted:
    """A metadata value too large to keep: an array's element type and length, or a string's."""

    type: int
    length: int


Value = int | float | bool | str | list[int | float | bool] | list[str] | Omitted


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Keeping:
    """How much of a header is kept. A card needs little of it, and a scan reads many."""

    numbers: int = KEPT_ARRAY
    strings: int = 0
    bytes: int = KEPT_BYTES
    tensors: bool = False


TO_SCAN: Final = Keeping()
# With the short lists, of languages for one; and with vocabularies and tensors.
TO_SHOW: Final = Keeping(strings=KEPT_ARRAY)
TO_SHOW_ALL: Final = Keeping(1_000_000, 1_000_000, 64 * 1024 * 1024, tensors=True)


@dataclass(frozen=True, slots=True)
class Header:
    """`parameter_count` and `tensor_bytes` are of this file alone: one shard of a split model.

    `missing_bytes` is how much the file is too short for its tensors: a download cut off.
    """

    version: int
    metadata: Mapping[str, Value]
    tensor_count: int
    parameter_count: int
    tensor_bytes: int
    # The type that most of the elements have.
    main_type: str | None
    missing_bytes: int
    # Only where they were to be kept.
    tensors: tuple[Tensor, ...] = ()

    @property
    def architecture(self) -> str | None:
        return self.text("general.architecture")

    @property
    def context_length(self) -> int | None:
        return self.of_architecture("context_length")

    @property
    def quantization(self) -> str | None:
        declared = self.number("general.file_type")
        # 1024 marks a type that was guessed when the file was made.
        named = FILE_TYPES.get(declared & ~1024) if declared is not None else None
        return named or self.main_type

    def text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def sampling(self) -> dict[str, int | float]:
        """What the model's makers advise to sample with, in the names of SamplingParams."""
        found = {
            name: self.metadata.get(f"general.sampling.{key}") for key, name in SAMPLING.items()
        }
        return {
            name: value
            for name, value in found.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

    def of_architecture(self, key: str) -> int | None:
        return self.number(f"{self.architecture}.{key}")
