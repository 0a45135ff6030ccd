"""When a grammar holds: from the first token, after the thoughts, or once a trigger appeared. Pure.

llama.cpp has lazy grammars too, but it replays the tokens of the trigger into the grammar
unchecked, and a token that the grammar forbids ends the process with a C++ exception. So the
decision is taken here, and the grammar is only ever fed tokens that it was asked about before.
"""

from __future__ import annotations

import re
from enum import Enum

from service.generation import Grammar

# A trigger is a short marker; looking further back on every token would be quadratic.
_WINDOW = 512


class Hold(Enum):
    """How the next token is sampled: freely, freely unless it cannot begin `opener`, bound."""

    FREE = "free"
    UNDECIDED = "undecided"
    BOUND = "bound"


class Constraint:
    """Follows the answer's text. `feed` every accepted piece; ask `hold` before each token, and
    where it is undecided and the token cannot begin thoughts, `bind` before that."""

    def __init__(self, grammar: Grammar) -> None:
        self._after = grammar.after
        # None once it is decided whether there are thoughts.
        self._opener = None if grammar.after is None else grammar.opener
        self._triggers = [re.compile(pattern) for pattern in grammar.triggers]
        self._text = ""
        self._pieces: list[tuple[int, int]] = []
        self._length = 0
        # Tokens that belong to the grammar although they came before it held.
        self.replay: tuple[int, ...] = ()
        self.hold = Hold.BOUND
        if self._triggers:
            # Whatever the text turns out to be, it is free until one of them appears.
            self.hold = Hold.FREE
        elif self._after is not None:
            self.hold = Hold.FREE if self._opener is None else Hold.UNDECIDED

    def may_begin_opener(self, piece: str) -> bool:
        """Whether the answer still could be, or is, one that starts with thoughts."""
        assert self._opener is not None
        text = (self._text + piece).lstrip()
        return self._opener.startswith(text) or text.startswith(self._opener)

    @property
    def begun(self) -> tuple[int, ...]:
        """While it is undecided: the tokens that are written, without white space before them."""
        lead = len(self._text) - len(self._text.lstrip())
        ends = [*(start for _, start in self._pieces[1:]), self._length]
        return tuple(
            token for (token, _), end in zip(self._pieces, ends, strict=False) if end > lead
        )

    @property
    def rest_of_opener(self) -> str:
        """While it is undecided: what has to come for thoughts to begin."""
        assert self._opener is not None
        return self._opener[len(self._text.lstrip()) :]

    @property
    def rest_of_closer(self) -> str:
        """While it is free: what has to come for the grammar to hold; "" if it need not hold."""
        if self._triggers or self._after is None:
            return ""
        after = self._after
        begun = (size for size in range(len(after), 0, -1) if self._text.endswith(after[:size]))
        return after[next(begun, 0) :]

    def bind(self) -> None:
        """There are no thoughts: the grammar holds."""
        self.hold = Hold.BOUND

    def feed(self, token: int, piece: str) -> bool:
        """Whether it is this token that the grammar holds after, or from."""
        before = self.hold
        self._follow(token, piece)
        return self.hold is not before and self.hold is Hold.BOUND

    def _follow(self, token: int, piece: str) -> None:
        if self.hold is Hold.BOUND:
            return
        self._text += piece
        self._pieces.append((token, self._length))
        self._length += len(piece)
        if self._opener is not None:
            self._look_for_opener(self._opener)
        elif self._after is not None:
            if self._after in self._text[-(len(self._after) + len(piece)) :]:
                self._thoughts_end()
        elif self._triggers:
            self._look_for_trigger()

    def _look_for_opener(self, opener: str) -> None:
        begun = self._text.lstrip()
        if begun.startswith(opener):
            self._opener, self.hold = None, Hold.FREE
        elif self._triggers and not opener.startswith(begun):
            # An answer without thoughts; its first words may be a call.
            self._opener = self._after = None
            self._look_for_trigger()

    def _thoughts_end(self) -> None:
        self._after = None
        if self._triggers:
            # The marker has to come after the thoughts; what they quote is not a call.
            self._pieces.clear()
            self._text, self._length = "", 0
        else:
            self.hold = Hold.BOUND

    def _look_for_trigger(self) -> None:
        window = max(0, self._length - _WINDOW)
        for trigger in self._triggers:
            match = trigger.search(self._text, window)
            if match is None:
                continue
            start = match.start(1 if trigger.groups else 0)
            tokens = [(token, at) for token, at in self._pieces if at >= start]
            # Only where a token begins with the marker can the grammar be told of it.
            if tokens and tokens[0][1] == start:
                self.replay = tuple(token for token, _ in tokens)
                self.hold = Hold.BOUND
                return
