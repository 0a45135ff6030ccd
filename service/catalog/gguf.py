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
from math import prod
from pathlib import Path
from typing import Final

from service.catalog.gguf_header import (
    KEPT_STRING_BYTES,
    MAX_BLOCKS,
    TO_SCAN,
    GgufError,
    Header,
    Keeping,
    Omitted,
    Tensor,
    Value,
)
from service.catalog.gguf_types import ARRAY, SCALARS, STRING, TENSOR_TYPES
from service.catalog.gguf_window import MAX_STRING_BYTES, Window, limit

MAX_KEYS: Final = 4096
MAX_TENSORS: Final = 100_000
MAX_ARRAY: Final = 8_000_000
MAX_ALIGNMENT: Final = 1024 * 1024
MAX_DIMENSIONS: Final = 4
# ggml's GGML_MAX_NAME, with its terminating zero.
MAX_TENSOR_NAME: Final = 63


def read_header(path: str | os.PathLike[str], keeping: Keeping = TO_SCAN) -> Header:
    """Raises GgufError, and nothing else for any content; OSError where there is no file."""
    with Path(path).open("rb") as file:
        reader = Window(file, keeping)
        try:
            return _read(reader)
        except (UnicodeDecodeError, OverflowError) as error:
            raise GgufError(f"unreadable text or number at byte {reader.position}") from error


def _read(reader: Window) -> Header:
    if reader.size < 24 or reader.take(4) != b"GGUF":
        raise GgufError("not a GGUF file")
    version = reader.u32()
    if version not in (2, 3):
        if version in (0x02000000, 0x03000000):
            raise GgufError("big-endian GGUF is not supported")
        raise GgufError(f"GGUF version {version} is not supported")
    tensor_count = reader.u64()
    key_count = reader.u64()
    limit("tensors", tensor_count, MAX_TENSORS)
    limit("metadata keys", key_count, MAX_KEYS)
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


def _read_metadata(reader: Window, count: int) -> dict[str, Value]:
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
        limit("bytes of metadata", kept, reader.keeping.bytes)
    return metadata


def _read_value(reader: Window, kind: int) -> Value:
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


def _read_array(reader: Window) -> Value:
    kind = reader.u32()
    count = reader.u64()
    limit("array elements", count, MAX_ARRAY)
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
    reader: Window, version: int, metadata: dict[str, Value], count: int, alignment: int
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
        limit("dimensions of a tensor", dimensions, MAX_DIMENSIONS)
        shape = struct.unpack(f"<{dimensions}Q", reader.take(8 * dimensions))
        kind = reader.u32()
        offset = reader.u64()
        if offset % alignment:
            raise GgufError(f"tensor {name!r} is not aligned")
        elements = prod(shape)
        # ggml counts in int64.
        limit("elements of a tensor", elements, 2**62)
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
