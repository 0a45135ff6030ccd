"""A GGUF file's header: its metadata and the shapes of its tensors, never the weights.

    "GGUF", version u32, tensor count u64, key count u64
    key, type u32, value                                   once for each key
    name, dimension count u32, dimensions u64…, type u32, offset u64      for each tensor
    padding to general.alignment, then the tensors' bytes

Model files come from strangers, and llama.cpp calls its parser's crashes no vulnerability. So
everything is bounded here, and whatever is wrong with a file is a `GgufError`. The file is read,
not mapped: truncating a mapped file in place kills the process with SIGBUS. Vocabularies (arrays
of 100 000 strings) are stepped over without being built.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Final

from service.catalog.gguf_types import ARRAY, FILE_TYPES, SCALARS, STRING, TENSOR_TYPES

MAX_KEYS: Final = 4096
MAX_TENSORS: Final = 100_000
MAX_ARRAY: Final = 8_000_000
# A string has to be stepped over one by one: this many take about half a second.
MAX_STRINGS: Final = 4_000_000
MAX_STRING_BYTES: Final = 16 * 1024 * 1024
MAX_ALIGNMENT: Final = 1024 * 1024
MAX_BLOCKS: Final = 512
MAX_DIMENSIONS: Final = 4
# ggml's GGML_MAX_NAME, with its terminating zero.
MAX_TENSOR_NAME: Final = 63
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

_WINDOW: Final = 256 * 1024
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


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


def read_header(path: str | os.PathLike[str], keeping: Keeping = Keeping()) -> Header:
    """Raises GgufError, and nothing else for any content; OSError where there is no file."""
    with Path(path).open("rb") as file:
        reader = _Reader(file, keeping)
        try:
            return _read(reader)
        except (UnicodeDecodeError, OverflowError) as error:
            raise GgufError(f"unreadable text or number at byte {reader.position}") from error


def _read(reader: _Reader) -> Header:
    if reader.size < 24 or reader.take(4) != b"GGUF":
        raise GgufError("not a GGUF file")
    version = reader.u32()
    if version not in (2, 3):
        if version in (0x02000000, 0x03000000):
            raise GgufError("big-endian GGUF is not supported")
        raise GgufError(f"GGUF version {version} is not supported")
    tensor_count = reader.u64()
    key_count = reader.u64()
    _limit("tensors", tensor_count, MAX_TENSORS)
    _limit("metadata keys", key_count, MAX_KEYS)
    metadata = _read_metadata(reader, key_count)
    _check(metadata)
    alignment = metadata.get("general.alignment", 32)
    assert isinstance(alignment, int)
    return _read_tensors(reader, version, metadata, tensor_count, alignment)


def _check(metadata: dict[str, Value]) -> None:
    """The values on which llama.cpp is known to crash, and the one that is needed below."""
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 8 <= alignment <= MAX_ALIGNMENT or alignment % 8:
        raise GgufError(f"general.alignment is {alignment!r}")
    architecture = metadata.get("general.architecture")
    if architecture is None and metadata.get("split.no"):
        # Of a split model, the first shard alone says what it is.
        return
    if not isinstance(architecture, str) or not architecture or len(architecture) > 64:
        raise GgufError("general.architecture is missing")
    blocks = metadata.get(f"{architecture}.block_count")
    if blocks is not None and (type(blocks) is not int or not 1 <= blocks <= MAX_BLOCKS):
        raise GgufError(f"{architecture}.block_count is {blocks!r}")


def _read_metadata(reader: _Reader, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    kept = 0
    for _ in range(count):
        length = reader.length(65535)
        key = reader.take(length).decode()
        if key in metadata:
            raise GgufError(f"metadata key {key[:64]!r} occurs twice")
        value = _read_value(reader, reader.u32())
        if isinstance(value, str):
            kept += len(value)
        elif isinstance(value, list):
            kept += sum(len(element) if isinstance(element, str) else 8 for element in value)
        metadata[key] = value
        kept += length
        _limit("bytes of metadata", kept, reader.keeping.bytes)
    return metadata


def _read_value(reader: _Reader, kind: int) -> Value:
    if kind == STRING:
        length = reader.length(MAX_STRING_BYTES)
        if length > KEPT_STRING_BYTES:
            reader.skip(length)
            return Omitted(STRING, length)
        # llama.cpp does not ask for valid UTF-8 either; U+FFFD harms nothing that is shown.
        return reader.take(length).decode("utf-8", "replace")
    if kind == ARRAY:
        return _read_array(reader)
    scalar = SCALARS.get(kind)
    if scalar is None:
        raise GgufError(f"metadata of unknown type {kind}")
    (value,) = struct.unpack(scalar, reader.take(struct.calcsize(scalar)))
    assert isinstance(value, int | float)
    return value


def _read_array(reader: _Reader) -> Value:
    kind = reader.u32()
    count = reader.u64()
    _limit("array elements", count, MAX_ARRAY)
    if kind == STRING:
        if count <= reader.keeping.strings:
            return reader.strings(count)
        reader.skip_strings(count)
        return Omitted(kind, count)
    scalar = SCALARS.get(kind)
    if scalar is None:
        raise GgufError(f"array of unknown type {kind}")
    size = count * struct.calcsize(scalar)
    if count > reader.keeping.numbers:
        reader.skip(size)
        return Omitted(kind, count)
    return list(struct.unpack(f"<{count}{scalar[1]}", reader.take(size)))


def _read_tensors(
    reader: _Reader, version: int, metadata: dict[str, Value], count: int, alignment: int
) -> Header:
    names: set[bytes] = set()
    tensors: list[Tensor] = []
    elements_of: Counter[str] = Counter()
    parameters = 0
    end = 0
    for _ in range(count):
        name = reader.take(reader.length(MAX_TENSOR_NAME))
        if name in names:
            raise GgufError(f"tensor {name!r} occurs twice")
        names.add(name)
        dimensions = reader.u32()
        _limit("dimensions of a tensor", dimensions, MAX_DIMENSIONS)
        shape = struct.unpack(f"<{dimensions}Q", reader.take(8 * dimensions))
        kind = reader.u32()
        offset = reader.u64()
        if offset % alignment:
            raise GgufError(f"tensor {name!r} is not aligned")
        elements = prod(shape)
        # ggml counts in int64.
        _limit("elements of a tensor", elements, 2**62)
        known = TENSOR_TYPES.get(kind)
        if known is None:
            raise GgufError(f"tensor {name!r} has unknown type {kind}")
        type_name, block, block_bytes = known
        if elements % block:
            raise GgufError(f"tensor {name!r} is not made of whole blocks")
        if reader.keeping.tensors:
            tensors.append(Tensor(name.decode("utf-8", "replace"), type_name, shape))
        parameters += elements
        elements_of[type_name] += elements
        end = max(end, offset + elements // block * block_bytes)
    start = -(-reader.position // alignment) * alignment
    main = elements_of.most_common(1)
    return Header(
        version=version,
        metadata=metadata,
        tensor_count=count,
        parameter_count=parameters,
        tensor_bytes=end,
        main_type=main[0][0] if main else None,
        missing_bytes=max(0, start + end - reader.size) if count else 0,
        tensors=tuple(tensors),
    )


def _limit(what: str, value: int, most: int) -> None:
    if value > most:
        raise GgufError(f"{value} {what}, at most {most} are accepted")


class _Reader:
    """A file front to back through one small window; its end comes as a GgufError."""

    def __init__(self, file: BinaryIO, keeping: Keeping) -> None:
        self.keeping = keeping
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self._window = b""
        self._start = 0
        self._at = 0
        self._strings = 0

    @property
    def position(self) -> int:
        return self._start + self._at

    def take(self, count: int) -> bytes:
        if len(self._window) - self._at < count:
            self._need(count)
        at = self._at
        self._at = at + count
        return self._window[at : self._at]

    def u32(self) -> int:
        value: int = _U32.unpack(self.take(4))[0]
        return value

    def u64(self) -> int:
        value: int = _U64.unpack(self.take(8))[0]
        return value

    def length(self, most: int) -> int:
        length = self.u64()
        _limit("bytes in a string", length, most)
        return length

    def skip(self, count: int) -> None:
        if self.position + count > self.size:
            raise GgufError("the file ends within its header")
        self._at += count

    def strings(self, count: int) -> list[str]:
        self._count_strings(count)
        found: list[str] = []
        size = 0
        for _ in range(count):
            length = self.length(KEPT_STRING_BYTES)
            size += length
            _limit("bytes of strings in an array", size, self.keeping.bytes)
            found.append(self.take(length).decode("utf-8", "replace"))
        return found

    def _count_strings(self, count: int) -> None:
        self._strings += count
        _limit("strings in arrays", self._strings, MAX_STRINGS)

    def skip_strings(self, count: int) -> None:
        self._count_strings(count)
        unpack = _U64.unpack_from
        while count:
            if len(self._window) - self._at < 8:
                self._need(8)
            window, at, last = self._window, self._at, len(self._window) - 8
            while count and at <= last:
                length = unpack(window, at)[0]
                if length > MAX_STRING_BYTES:
                    raise GgufError(f"a string of {length} bytes")
                at += 8 + length
                count -= 1
            self._at = at
        if self.position > self.size:
            raise GgufError("the file ends within its header")

    def _need(self, count: int) -> None:
        """Moves the window so that it begins here and holds `count` bytes at least."""
        self._start, self._at = self.position, 0
        self._file.seek(self._start)
        self._window = self._file.read(max(count, _WINDOW))
        if len(self._window) < count:
            raise GgufError("the file ends within its header")
