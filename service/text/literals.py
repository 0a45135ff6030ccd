"""Values as programs write them, to JSON: `{'a': [True, None]}`, `(1, 2)`, `{a:<|"|>x<|"|>}`.

A pushdown automaton like `JsonScanner`, except that it writes down what it reads. JSON is such a
notation itself, and comes out as it is but for white space.
"""

from __future__ import annotations

import json
import math
import re

from service.text.markers import partial

# One state for each thing that may come next.
_VALUE, _KEY, _COLON, _AFTER, _STRING, _WORD, _END = range(7)

PYTHON = ("'", '"')
# Gemma's own, which knows no escapes, beside JSON's.
GEMMA = ('<|"|>', '"')

_SPACE = re.compile(r"\s*")
_WORD_CHARS = re.compile(r"[^\s,:=(){}\[\]<>\"'`]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_LONGEST_WORD = 512
_NAMES = {"True": "true", "False": "false", "None": "null"}
_NAMES |= {name: name for name in _NAMES.values()}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0"}
_ESCAPES |= {char: char for char in "\\'\"/"} | {"\n": ""}
_CODES = {"x": 2, "u": 4, "U": 8}
_CLOSES = {"{": "}", "[": "]", "(": ")", "call": ")"}
_WRITTEN = {"{": "{}", "[": "[]", "(": "[]", "call": "{}"}


class Literal:
    """Follows one value, and writes it as JSON. With `call` it begins with `(`, as `(a=1, b=2)`.

    `done` once the value is complete, `failed` once no text that follows can complete it.
    """

    def __init__(self, quotes: tuple[str, ...] = PYTHON, *, call: bool = False) -> None:
        self.done = False
        self.failed = False
        self._quotes = quotes
        self._call = call
        self._open: list[str] = []
        self._state = _VALUE
        self._key = False
        self._comma = False  # to be written before the next item
        self._quote = ""
        self._held = ""

    def feed(self, text: str) -> tuple[str, str]:
        """What is now written, and the text that was not needed for it."""
        text, self._held = self._held + text, ""
        out: list[str] = []
        while text and not self.done and not self.failed:
            if self._state == _STRING:
                text = self._string(text, out)
            elif self._state == _WORD:
                text = self._word(text, out)
            else:
                text = self._token(_SPACE.sub("", text, count=1), out)
        rest, self._held = (self._held + text, "") if self.done or self.failed else ("", self._held)
        return "".join(out), rest

    def _token(self, text: str, out: list[str]) -> str:
        """One structural character, or the beginning of a string or word."""
        if not text:
            return ""
        char, state = text[0], self._state
        if self._open and state != _COLON and char == _CLOSES[self._open[-1]]:
            if state == _VALUE and self._open[-1] in "{call":
                return self._fail(text)
            self._close(out)
            return text[1:]
        if state == _AFTER:
            if char != "," or not self._open:
                return self._fail(text)
            self._comma = True
            self._state = _KEY if self._open[-1] in ("{", "call") else _VALUE
            return text[1:]
        if state == _COLON:
            if char != ("=" if self._open[-1] == "call" else ":"):
                return self._fail(text)
            out.append(": ")
            self._state = _VALUE
            return text[1:]
        return self._begin(char, text, out)

    def _begin(self, char: str, text: str, out: list[str]) -> str:
        key = self._state == _KEY
        if any(len(text) < len(quote) and quote.startswith(text) for quote in self._quotes):
            self._held = text
            return ""
        quote = next((quote for quote in self._quotes if text.startswith(quote)), "")
        if (quote or char in "{[(") and key and (not quote or self._open[-1] == "call"):
            return self._fail(text)
        self._separate(out, key)
        if quote:
            out.append('"')
            self._quote, self._key, self._state = quote, key, _STRING
            return text[len(quote) :]
        if char in "{[(":
            self._enter("call" if self._call and not self._open and char == "(" else char, out)
            return text[1:]
        self._key, self._state = key, _WORD
        return text

    def _separate(self, out: list[str], key: bool) -> None:
        """The comma, where this begins an item; it was held back, since the list might end."""
        if self._comma and (key or self._open[-1] not in ("{", "call")):
            out.append(", ")
            self._comma = False

    def _enter(self, kind: str, out: list[str]) -> None:
        self._open.append(kind)
        out.append(_WRITTEN[kind][0])
        self._state = _KEY if kind in ("{", "call") else _VALUE

    def _close(self, out: list[str]) -> None:
        out.append(_WRITTEN[self._open.pop()][1])
        self._comma = False
        self._value_ends()

    def _value_ends(self) -> None:
        self._state = _AFTER if self._open else _END
        self.done = not self._open

    def _string(self, text: str, out: list[str]) -> str:
        escapes = "\\" if self._quote in PYTHON else ""
        stops = [at for mark in (self._quote, escapes) if mark and (at := text.find(mark)) >= 0]
        if not stops:
            safe = partial(text, self._quote)
            out.append(_quoted(text[:safe]))
            self._held = text[safe:]
            return ""
        at = min(stops)
        out.append(_quoted(text[:at]))
        if text.startswith(self._quote, at):
            out.append('"')
            self._state = _COLON
            if not self._key:
                self._value_ends()
            return text[at + len(self._quote) :]
        return self._escape(text[at:], out)

    def _escape(self, text: str, out: list[str]) -> str:
        kind = text[1:2]
        length = 2 + _CODES.get(kind, 0)
        if not kind or len(text) < length:
            self._held = text
            return ""
        if kind in _CODES:
            digits = text[2:length]
            if not re.fullmatch("[0-9a-fA-F]+", digits) or int(digits, 16) > 0x10FFFF:
                return self._fail(text)
            out.append(f"\\u{digits:>04}" if kind != "U" else _quoted(chr(int(digits, 16)), True))
        else:
            out.append(_quoted(_ESCAPES.get(kind, text[:2])))
        return text[length:]

    def _word(self, text: str, out: list[str]) -> str:
        found = _WORD_CHARS.match(text)
        end = found.end() if found else 0
        if end == len(text) < _LONGEST_WORD:
            self._held = text
            return ""
        written = _quoted_word(text[:end]) if self._key else _scalar(text[:end])
        if written is None or end > _LONGEST_WORD:
            return self._fail(text)
        out.append(written)
        self._state = _COLON
        if not self._key:
            self._value_ends()
        return text[end:]

    def _fail(self, text: str) -> str:
        self.failed = True
        return text


def _quoted(text: str, ascii_only: bool = False) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def _quoted_word(word: str) -> str | None:
    return f'"{_quoted(word)}"' if word else None


def _scalar(word: str) -> str | None:
    """A number or one of the constants, as JSON writes them."""
    if word in _NAMES or _NUMBER.fullmatch(word):
        return _NAMES.get(word, word)
    try:
        value = int(word, 0) if not re.search(r"[.eE]", word) or "x" in word else float(word)
    except ValueError:
        return None
    return str(value) if math.isfinite(value) else None
