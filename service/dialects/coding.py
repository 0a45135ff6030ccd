"""Compressed request bodies, decompressed as they arrive.

A few bytes may stand for gigabytes, so nothing is decompressed beyond what a body may be long: the
reader says how much room is left. RFC 9110, section 8.4.1: `gzip` is RFC 1952's format, `deflate`
zlib's of RFC 1950.
"""

from __future__ import annotations

import zlib
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import Scope

from service.errors import InvalidRequest

# zlib's word for each format, with the largest window.
WINDOWS: Final = {
    b"gzip": 16 + zlib.MAX_WBITS,
    b"x-gzip": 16 + zlib.MAX_WBITS,
    b"deflate": zlib.MAX_WBITS,
}
ACCEPTED: Final = "gzip, deflate"


class Plain:
    """A body that comes as it is."""

    def feed(self, data: bytes, most: int) -> bytes:
        return data

    def close(self) -> None:
        pass


class Compressed:
    def __init__(self, window: int) -> None:
        self._inflating = zlib.decompressobj(window)

    def feed(self, data: bytes, most: int) -> bytes:
        """What `data` stands for, of which no more than `most` bytes are made, 1 or more.

        Raises InvalidRequest.
        """
        try:
            found = self._inflating.decompress(data, most)
        except zlib.error:
            raise InvalidRequest("The request's body is not in its Content-Encoding") from None
        if self._inflating.unused_data:
            raise InvalidRequest("The request's compressed body is followed by something else")
        return found

    def close(self) -> None:
        """Raises InvalidRequest where the end is missing."""
        if not self._inflating.eof:
            raise InvalidRequest("The request's compressed body is cut short")


def coding_of(scope: Scope) -> bytes:
    """What is said of the body's coding; nothing where it comes as it is."""
    said = (
        value.strip().lower() for name, value in scope["headers"] if name == b"content-encoding"
    )
    return b", ".join(value for value in said if value not in (b"", b"identity"))


def decoder(scope: Scope) -> Plain | Compressed:
    coding = coding_of(scope)
    if not coding:
        return Plain()
    if coding not in WINDOWS:
        raise HTTPException(
            415,
            f"A body's Content-Encoding may be {ACCEPTED} or identity",
            {"Accept-Encoding": ACCEPTED},
        )
    return Compressed(WINDOWS[coding])


def check_plain(scope: Scope) -> None:
    """For bodies that are kept as they arrive."""
    if coding_of(scope):
        raise HTTPException(415, "A compressed body is not accepted here")
