"""The bytes of a GGUF file, front to back, through one small window."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, Final

from service.catalog.gguf_header import KEPT_STRING_BYTES, GgufError, Keeping

# A string has to be stepped over one by one: this many take about half a second.
MAX_STRINGS: Final = 4_000_000
MAX_STRING_BYTES: Final = 16 * 1024 * 1024
_WINDOW: Final = 256 * 1024
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


def limit(what: str, value: int, most: int) -> None:
    if value > most:
        raise GgufError(f"{value} {what}, at most {most} are accepted")


class Window:
    """`position` is where the next byte is taken from. The file's end comes as a GgufError."""

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
        limit("bytes in a string", length, most)
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
            limit("bytes of strings in an array", size, self.keeping.bytes)
            found.append(self.take(length).decode("utf-8", "replace"))
        return found

    def _count_strings(self, count: int) -> None:
        self._strings += count
        limit("strings in arrays", self._strings, MAX_STRINGS)

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
