"""Token pieces to text. A piece is bytes, and a code point may be split between pieces."""

from __future__ import annotations

from codecs import utf_8_decode


class Detokenizer:
    """Incremental UTF-8: all that comes out is whole code points.

    The text of `feed` and `flush` together equals `b"".join(pieces).decode("utf-8", "replace")`:
    U+FFFD stands only where the bytes can no longer become valid, never for a piece that is
    merely incomplete.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> str:
        if self._held:
            piece = self._held + piece
        text, consumed = utf_8_decode(piece, "replace", False)
        self._held = piece[consumed:]
        return text

    def flush(self) -> str:
        """The end of the bytes: what is still incomplete never will be complete."""
        text, _ = utf_8_decode(self._held, "replace", True)
        self._held = b""
        return text
