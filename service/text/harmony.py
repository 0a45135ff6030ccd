"""gpt-oss writes messages, each on a channel, where other models write tags round their thoughts.

    <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>

The prompt ends with `<|start|>assistant`, so an answer begins in a header: the recipient
(`to=functions.NAME`, before or after the channel), the channel and a content type, then
`<|message|>`. `analysis` is thought; `final`, and `commentary` to nobody, are answer. A message
to a recipient is a tool call, which is passed on in one spelling for the tool parser to read:

    <|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{…}<|call|>

Muse Glimmer writes the same without channels: a message to itself is thought, one to the user is
answer, and one to a tool has the call in tags of its own.

    to=self<|message|>…<|eom|><|start|>assistant to=user<|message|>…<|eot|>

Source: OpenAI's "harmony response format", and the chat templates of gpt-oss and Muse Glimmer.
"""

from __future__ import annotations

import re
from typing import Literal

from service.text.markers import partial

_MESSAGE = "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>")
_MUSE_ENDS = ("<|eom|>", "<|eot|>", "<|start|>")
_STARTS = ("<|start|>", "<|channel|>", "<|message|>", "to=")
_RECIPIENT = re.compile(r"\bto=(\S+?)(?=[\s<]|$)")
_CHANNEL = re.compile(r"<\|channel\|>\s*([a-z]+)")

CALL_OPENER = "<|channel|>commentary to="
CALL_MIDDLE = " <|constrain|>json<|message|>"
CALL_CLOSER = "<|call|>"

# No header is that long: what pretends to be one is an answer without a header.
_LONGEST_HEADER = 256


class HarmonyParser:
    """Sorts whole messages by their headers; with `inside` the prompt ended in an analysis, with
    `begun` in an answer."""

    ends: tuple[str, ...] = _ENDS

    def __init__(self, inside: bool = False, *, begun: bool = False) -> None:
        self._held = ""
        self._in_header = not (inside or begun)
        self._kind: Literal["reasoning", "content"] = "reasoning" if inside else "content"
        self._closer = ""

    @property
    def inside(self) -> bool:
        return not self._in_header and self._kind == "reasoning"

    def feed(self, text: str) -> list[tuple[Literal["reasoning", "content"], str]]:
        if not self._held and not self._in_header and "<" not in text:
            return [(self._kind, text)] if text else []
        out: list[tuple[Literal["reasoning", "content"], str]] = []
        self._held += text
        while self._held:
            step = self._header if self._in_header else self._body
            released, more = step()
            if released:
                out.append((self._kind, released))
            if not more:
                break
        return out

    def flush(self) -> list[tuple[Literal["reasoning", "content"], str]]:
        """The end of the answer. A header without a message says nothing, and is dropped."""
        text, self._held = self._held, ""
        if self._in_header and ("<|start|>" in text or "<|channel|>" in text):
            text = ""
        text += self._closer
        self._closer = ""
        return [(self._kind, text)] if text else []

    def _header(self) -> tuple[str, bool]:
        window = self._held[: _LONGEST_HEADER + len(_MESSAGE)]
        header, found, _ = window.partition(_MESSAGE)
        if not _begins_header(window) or (not found and len(window) < len(self._held)):
            self._kind, self._in_header = "content", False
            return "", True
        if not found:
            return "", False
        self._held, self._in_header = self._held[len(header) + len(_MESSAGE) :], False
        return self._open(header), True

    def _open(self, header: str) -> str:
        """The text that stands for a header: none, except for a tool call's."""
        channel = _CHANNEL.search(header)
        recipient = _RECIPIENT.search(header)
        if recipient:
            self._kind, self._closer = "content", CALL_CLOSER
            return CALL_OPENER + recipient[1] + CALL_MIDDLE
        self._kind = "reasoning" if channel and channel[1] == "analysis" else "content"
        return ""

    def _body(self) -> tuple[str, bool]:
        ends = [(at, end) for end in self.ends if (at := self._held.find(end)) >= 0]
        if not ends:
            safe = min(partial(self._held, end) for end in self.ends)
            body, self._held = self._held[:safe], self._held[safe:]
            return body, False
        at, end = min(ends)
        body, self._held = self._held[:at] + self._closer, self._held[at + len(end) :]
        self._in_header, self._closer = True, ""
        return body, True


class MuseParser(HarmonyParser):
    ends = _MUSE_ENDS

    def _open(self, header: str) -> str:
        recipient = _RECIPIENT.search(header)
        self._kind = "reasoning" if recipient and recipient[1] == "self" else "content"
        return ""


def _begins_header(text: str) -> bool:
    begun = text.lstrip()
    return any(begun.startswith(start) or start.startswith(begun) for start in _STARTS)
