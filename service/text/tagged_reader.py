"""A call in tags: its name, and each parameter between tags of its own.

    <function=NAME><parameter=KEY>VALUE</parameter>…</function>                   Qwen3-Coder
    NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>…</tool_call>           GLM-4.5
    <invoke name="NAME"><parameter name="KEY">VALUE</parameter>…</invoke>         MiniMax-M2

Values stand there as they are, without quotes: what they mean is in the tool's schema. The
text of a string is sent as it arrives, other values when they are complete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from msgspec import Struct

from service.text.calls import Calls, Part
from service.text.markers import partial
from service.text.tool_values import TYPES, types_of, value_json

_LONGEST = 256
_NAME = re.compile(r"\s*([\w.-]{1,128})\"?(?:\s+\w+=\"[^\"]*\")*\s*")
_KEY = re.compile(r"\s*([^\"]+?)\s*(?:\"(.*))?", re.S)
_TYPE = re.compile(r'\b(?:string|type)="(\w+)"')
_CDATA = "<![CDATA["


class Tags(Struct, frozen=True):
    """The tags of one syntax, from behind the mark that opens a call.

    name_end: what ends the name; empty where the next tag does. skip: may follow the name.
    around: white space that belongs to the tags of a value, and not to it. until: stands after a
    call whose own `end` the model forgot. cdata: values may be wrapped in such a section.
    """

    key: str
    key_end: str
    value_end: str
    end: str
    name_end: str = ""
    value: str = ""
    skip: str = ""
    around: str = ""
    until: str = ""
    cdata: bool = False


class TaggedReader:
    """The states are methods that consume `_text`; False means that they need more of it."""

    def __init__(self, calls: Calls, tags: Tags) -> None:
        self.done = False
        self.failed = False
        self.rest = ""
        self.sent = False
        self._calls = calls
        self._tags = tags
        self._text = ""
        self._raw = ""  # all of the call, while it may still be prose
        self._json = ""  # not sent yet
        self._name = ""
        self._types = TYPES
        self._empty = True
        self._state: Callable[[], bool] = self._in_name

    def feed(self, text: str) -> list[Part]:
        self._text += text
        if not self.sent:
            self._raw += text
        while not self.done and not self.failed and self._state():
            pass
        return self._out()

    def flush(self) -> str:
        return "" if self.sent else self._raw

    def _out(self) -> list[Part]:
        out: list[Part] = []
        streaming = self._calls.stream_arguments
        if not self.sent and self._json and (self.done or streaming):
            self.sent, self._raw = True, ""
            out += self._calls.open(self._name, "" if streaming else self._json)
            self._json = self._json if streaming else ""
        if self.failed:
            self.rest = self._text if self.sent else self._raw
        if self.sent:
            out += self._calls.more(self._json)
            self._json = ""
        if self.done:
            self._calls.close()
            self.rest = self._text
        return out

    def _in_name(self) -> bool:
        end = self._tags.name_end or "<"
        head, found, rest = self._text[:_LONGEST].partition(end)
        if not found:
            self.failed = len(self._text) >= _LONGEST
            return False
        name = _NAME.fullmatch(head)
        if name is None:
            self.failed = True
            return False
        self._name = name[1]
        self._text = self._text[len(head) + len(self._tags.name_end) :]
        self._state = self._between
        return True

    def _between(self) -> bool:
        """After the name or a parameter."""
        tags, begun = self._tags, self._text.lstrip()
        if begun.startswith(tags.key):
            self._text, self._state = begun[len(tags.key) :], self._in_key
        elif begun.startswith(tags.end) or (tags.until and begun.startswith(tags.until)):
            self._text = begun.removeprefix(tags.end)
            self._json += "{}" if self._empty else "}"
            self.done = True
        elif tags.skip and begun.startswith(tags.skip):
            self._text = begun[len(tags.skip) :]
        else:
            marks = (tags.key, tags.end, tags.until, tags.skip)
            self.failed = not any(mark.startswith(begun) for mark in marks)
            return False
        return True

    def _in_key(self) -> bool:
        head, found, _ = self._text[:_LONGEST].partition(self._tags.key_end)
        key = _KEY.fullmatch(head)
        if not found or not key:
            self.failed = bool(found) or len(self._text) >= _LONGEST
            return False
        self._text = self._text[len(head) + len(found) :]
        self._types = self._declared(key[2]) or types_of(
            self._calls.offered.get(self._name), key[1]
        )
        self._json += f"{'{' if self._empty else ', '}{json.dumps(key[1], ensure_ascii=False)}: "
        self._empty, self._state = False, self._before_value
        return True

    def _declared(self, attributes: str | None) -> frozenset[str]:
        """The type as the call itself says it: `string="false"`, `type="number"`."""
        told = _TYPE.search(attributes or "")
        if told is None:
            return frozenset()
        if told[1] in ("true", "string"):
            return frozenset({"string"})
        return TYPES - {"string"}

    def _before_value(self) -> bool:
        tags = self._tags
        begun = self._text.lstrip() if tags.value else self._text
        if not begun.startswith(tags.value):
            self.failed = not tags.value.startswith(begun)
            return False
        text = begun[len(tags.value) :]
        if len(text) < len(tags.around) and tags.around.startswith(text):
            return False
        self._text = text.removeprefix(tags.around)
        streams = self._types == {"string"} and not tags.cdata
        self._json += '"' if streams else ""
        self._state = self._in_string if streams else self._in_value
        return True

    def _in_string(self) -> bool:
        text, found, rest = self._text.partition(self._tags.value_end)
        if found:
            self._json += _escaped(text.removesuffix(self._tags.around)) + '"'
            self._text, self._state = rest, self._between
            return True
        safe = partial(text, self._tags.value_end)
        around = self._tags.around
        safe -= len(around) if around and text[:safe].endswith(around) else 0
        self._json += _escaped(text[:safe])
        self._text = text[safe:]
        return False

    def _in_value(self) -> bool:
        end = self._tags.value_end
        if self._tags.cdata and self._text.lstrip().startswith(_CDATA):
            end = "]]>" + end
        text, found, rest = self._text.partition(end)
        if not found:
            return False
        if end != self._tags.value_end:
            text = text.lstrip()[len(_CDATA) :]
        text = text.removesuffix(self._tags.around)
        string = self._types == {"string"}
        self._json += f'"{_escaped(text)}"' if string else value_json(text, self._types)
        self._text, self._state = rest, self._between
        return True


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
