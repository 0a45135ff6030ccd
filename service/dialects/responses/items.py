"""The input of a response, as OpenAI's clients write it → Message. Pure.

What a model said in one turn comes as several items: thoughts, text and calls. They are one
message again here, since that is what chat templates know.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from service.dialects.fields import Fields, kind
from service.dialects.openai.messages import ROLES
from service.generation import Message, ToolCall

PARTS: Final = ("input_text", "output_text", "text", "summary_text", "reasoning_text", "refusal")
NO_IMAGES: Final = "images are not supported: this model has no projector for them"


@dataclass
class Turn:
    """What the model said, until somebody else speaks."""

    thoughts: list[str] = field(default_factory=list)
    text: str | None = None
    calls: list[ToolCall] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not self.thoughts and self.text is None and not self.calls

    def message(self) -> Message:
        thoughts = "\n".join(self.thoughts) if self.thoughts else None
        return Message("assistant", self.text, thoughts, tuple(self.calls))


def parse_input(fields: Fields) -> tuple[Message, ...]:
    value = fields.get("input")
    if isinstance(value, str):
        return (Message("user", value),)
    if value is None:
        raise fields.bad("input", "is missing")
    if not isinstance(value, list):
        raise fields.bad("input", f"must be a string or an array of items, not {kind(value)}")
    if not value:
        raise fields.bad("input", "must have at least one item")
    return tuple(merged(fields.objects("input")))


def merged(items: Iterator[Fields]) -> Iterator[Message]:
    turn = Turn()
    for item in items:
        word = item.text("type", longest=64) or "message"
        said = Turn()
        other = None
        match word:
            case "message":
                message = parse_message(item)
                if message.role == "assistant":
                    said.text = message.content
                else:
                    other = message
            case "reasoning":
                said.thoughts = [parse_thoughts(item)]
            case "function_call":
                said.calls = [parse_call(item)]
            case "function_call_output":
                other = parse_output(item)
            case _:
                raise item.bad("type", f"items of type {word} are not supported")
        # Text after a call, and thoughts after either, are the next turn's.
        begun = turn.text is not None or bool(turn.calls)
        later = begun and (said.text is not None or bool(said.thoughts))
        if (other is not None or later) and not turn.empty:
            yield turn.message()
            turn = Turn()
        if other is not None:
            yield other
        turn.thoughts += said.thoughts
        turn.calls += said.calls
        turn.text = said.text if said.text is not None else turn.text
    if not turn.empty:
        yield turn.message()


def parse_message(fields: Fields) -> Message:
    word = fields.choice("role", ("user", "assistant", "system", "developer"))
    if word is None:
        raise fields.bad("role", "is missing")
    return Message(ROLES[word], parse_content(fields, "content"))


def parse_thoughts(fields: Fields) -> str:
    """In `content` as they are; `summary` is what is left where a server keeps them back."""
    for key in ("content", "summary"):
        if fields.list(key):
            return parse_content(fields, key)
    return ""


def parse_call(fields: Fields) -> ToolCall:
    arguments = fields.text("arguments")
    try:
        msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise fields.bad("arguments", "invalid tool call arguments: not JSON") from None
    return ToolCall(required(fields, "call_id"), required(fields, "name"), arguments or "{}")


def parse_output(fields: Fields) -> Message:
    return Message(
        "tool", parse_content(fields, "output"), tool_call_id=required(fields, "call_id")
    )


def parse_content(fields: Fields, key: str) -> str:
    value: Any = fields.get(key)
    if isinstance(value, str):
        return value
    if value is None:
        raise fields.bad(key, "is missing")
    if not isinstance(value, list):
        raise fields.bad(key, f"must be a string or an array of parts, not {kind(value)}")
    return "\n".join(map(parse_part, fields.objects(key)))


def parse_part(fields: Fields) -> str:
    word = fields.text("type", longest=64)
    if word == "input_image":
        raise fields.bad("type", NO_IMAGES)
    if word not in PARTS:
        raise fields.bad("type", f"parts of type {word} are not supported")
    key = "refusal" if word == "refusal" else "text"
    text = fields.text(key)
    if text is None:
        raise fields.bad(key, "is missing")
    return text


def required(fields: Fields, key: str) -> str:
    value = fields.text(key, longest=256)
    if not value:
        raise fields.bad(key, "is missing")
    return value
