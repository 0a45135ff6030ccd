"""A whole GGUF file as shards, as llama.cpp names and marks them: the first has all metadata, each
says which it is of how many, and how many tensors all have together."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

STRING: Final = 8
ARRAY: Final = 9
UINT16, INT32 = 2, 5
ALIGNMENT: Final = 32
# Bytes of a metadata value of each type but strings and arrays.
WIDTHS: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class Cursor:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, form: str) -> int:
        (number,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return int(number)

    def text(self) -> bytes:
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length : self.at]

    def skip_value(self, kind: int) -> None:
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            inner, count = self.take("I"), self.take("Q")
            for _ in range(count):
                self.skip_value(inner)
        else:
            self.at += WIDTHS[kind]


def split(source: Path, folder: Path, stem: str, count: int) -> list[Path]:
    """`stem-00001-of-0000N.gguf` and so on, in `folder`; `source` has the usual alignment."""
    cursor = Cursor(source.read_bytes())
    cursor.at = 8
    tensor_count, key_count = cursor.take("Q"), cursor.take("Q")
    begin = cursor.at
    for _ in range(key_count):
        cursor.text()
        cursor.skip_value(cursor.take("I"))
    metadata = cursor.data[begin : cursor.at]
    infos = []
    for _ in range(tensor_count):
        name = cursor.text()
        shape = [cursor.take("Q") for _ in range(cursor.take("I"))]
        infos.append((name, shape, cursor.take("I"), cursor.take("Q")))
    data = cursor.data[padded(cursor.at) :]
    ends = sorted(info[3] for info in infos[1:]) + [len(data)]
    tensors = [(*info[:3], data[info[3] : end]) for info, end in zip(infos, ends, strict=True)]
    each = -(-len(tensors) // count)
    paths = []
    for number in range(count):
        path = folder / f"{stem}-{number + 1:05}-of-{count:05}.gguf"
        marks = mark("split.no", UINT16, "H", number) + mark("split.count", UINT16, "H", count)
        marks += mark("split.tensors.count", INT32, "i", len(tensors))
        own = metadata if number == 0 else b""
        keys = key_count if number == 0 else 0
        path.write_bytes(shard(own + marks, keys + 3, tensors[number * each : (number + 1) * each]))
        paths.append(path)
    return paths


def shard(metadata: bytes, keys: int, tensors: list[tuple[bytes, list[int], int, bytes]]) -> bytes:
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), keys) + metadata
    offset, blocks = 0, []
    for name, shape, kind, data in tensors:
        header += struct.pack("<Q", len(name)) + name
        header += struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        blocks.append(data.ljust(padded(len(data)), b"\0"))
        offset += len(blocks[-1])
    return header.ljust(padded(len(header)), b"\0") + b"".join(blocks)


def mark(key: str, kind: int, form: str, value: int) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I" + form, kind, value)


def padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
