"""Where does a JSON value end, and is it still one? Answered while the text arrives.

A pushdown automaton over RFC 8259, run one regular expression a token. It builds nothing; the
tool-call parsers use it to cut a call out of running text, and to notice prose at once.
"""

from __future__ import annotations

import re

# One state for each thing that may come next; the pattern is what may be consumed there.
_VALUE, _FIRST_VALUE, _KEY, _FIRST_KEY, _COLON, _AFTER, _STRING, _SCALAR, _END = range(9)

_SPACE = re.compile(r"[ \t\n\r]*")
# To the next quote or backslash. Control characters are let through, as models write them.
_PLAIN = re.compile(r'[^"\\]*')
_ESCAPES = frozenset('"\\/bfnrtu')
_SCALAR_CHARS = re.compile(r"[-+.0-9a-zA-Z]*")
_SCALAR_WHOLE = re.compile(
    r"(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null)\Z"
)

_CLOSES = {
    ("{", _AFTER, "}"),
    ("{", _FIRST_KEY, "}"),
    ("[", _AFTER, "]"),
    ("[", _FIRST_VALUE, "]"),
}


class JsonScanner:
    """Follows one JSON value. `depth` counts the objects and arrays that are open.

    `done` once the value is complete, `failed` once no text that follows can complete it. A
    number at the top level is never done: nothing says where it ends.
    """

    def __init__(self) -> None:
        self._open: list[str] = []
        self._state = _VALUE
        self._scalar = ""
        self._key = False
        self._escaped = False
        self.failed = False

    @property
    def depth(self) -> int:
        return len(self._open)

    @property
    def done(self) -> bool:
        return self._state == _END and not self.failed

    def feed(self, text: str, at: int = 0, floor: int = 0) -> int:
        """Consume `text` from `at`; return the position after what was consumed.

        Stops early after the bracket that brings `depth` down to `floor`, and before the
        character that makes it fail.
        """
        length = len(text)
        while at < length and not self._stopped:
            if self._state == _STRING:
                at = self._string(text, at)
                continue
            if self._state == _SCALAR:
                at = self._in_scalar(text, at)
                continue
            space = _SPACE.match(text, at)
            at = space.end() if space else at
            if at == length:
                break
            before = self.depth
            self._token(text[at])
            if self._unconsumed:
                continue
            at += 1
            if floor >= self.depth < before:
                break
        return at

    @property
    def _stopped(self) -> bool:
        return self.failed or self._state == _END

    @property
    def _unconsumed(self) -> bool:
        """Whether the character just looked at is wrong, or the first of a scalar."""
        return self.failed or self._state == _SCALAR

    def _string(self, text: str, at: int) -> int:
        if self._escaped:
            self._escaped = False
            if text[at] not in _ESCAPES:
                self.failed = True
                return at
            return at + 1
        plain = _PLAIN.match(text, at)
        at = plain.end() if plain else at
        if at == len(text):
            return at
        if text[at] == "\\":
            self._escaped = True
        else:
            self._state = _COLON if self._key else self._after_value()
        return at + 1

    def _in_scalar(self, text: str, at: int) -> int:
        found = _SCALAR_CHARS.match(text, at)
        end = found.end() if found else at
        self._scalar += text[at:end]
        if end < len(text):
            self.failed = not _SCALAR_WHOLE.match(self._scalar)
            self._scalar = ""
            self._state = self._after_value()
        return end

    def _token(self, char: str) -> None:
        """One structural character, or the first one of a string or scalar."""
        state = self._state
        if state in (_VALUE, _FIRST_VALUE) and not (char == "]" and state == _FIRST_VALUE):
            self._value(char)
        elif char == '"' and state in (_KEY, _FIRST_KEY):
            self._state, self._key = _STRING, True
        elif char == ":" and state == _COLON:
            self._state = _VALUE
        elif char == "," and state == _AFTER:
            self._state = _KEY if self._open[-1] == "{" else _VALUE
        elif self._open and (self._open[-1], state, char) in _CLOSES:
            self._open.pop()
            self._state = self._after_value()
        else:
            self.failed = True

    def _value(self, char: str) -> None:
        if char == "{" or char == "[":
            self._open.append(char)
            self._state = _FIRST_KEY if char == "{" else _FIRST_VALUE
        elif char == '"':
            self._state, self._key = _STRING, False
        elif char in "-0123456789tfn":
            self._state = _SCALAR
        else:
            self.failed = True

    def _after_value(self) -> int:
        return _AFTER if self._open else _END
