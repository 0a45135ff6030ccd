"""The budget of a model's thoughts: once it is spent, the mark that ends them is written for it."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Sequence
from enum import Enum

from service.generation import Thoughts


class _Where(Enum):
    BEFORE = "before"
    INSIDE = "inside"
    BEYOND = "beyond"


class ThoughtLimit:
    """`closing` are the tokens of the mark that ends thoughts. While `due` has any, they come next,
    whatever the model would have chosen. `feed` every token's bytes, those of `due` too.

    The tokens of the marks do not count, and no character is torn apart.
    """

    def __init__(self, thoughts: Thoughts, closing: Sequence[int]) -> None:
        self.due: deque[int] = deque()
        self._thoughts = thoughts
        self._closing = closing
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._spent = 0
        self._where = _Where.BEFORE
        if thoughts.inside:
            self._enter()

    def feed(self, piece: bytes) -> None:
        if self._where is _Where.BEYOND:
            return
        self._text += self._decoder.decode(piece)
        if self._where is _Where.BEFORE:
            begun = self._text.lstrip()
            if begun.startswith(self._thoughts.opener):
                self._enter()
            elif not self._thoughts.opener.startswith(begun):
                self._where = _Where.BEYOND
        else:
            self._go_on(len(piece))

    def _enter(self) -> None:
        self._where, self._text = _Where.INSIDE, ""
        if not self._thoughts.budget:
            self.due.extend(self._closing)

    def _go_on(self, size: int) -> None:
        closer = self._thoughts.closer
        if closer in self._text:
            self._where = _Where.BEYOND
            self.due.clear()
            return
        self._text = self._text[-(len(closer) + size) :]
        self._spent += 1
        torn = bool(self._decoder.getstate()[0])
        if self._spent >= self._thoughts.budget and not self.due and not torn:
            self.due.extend(self._closing)
