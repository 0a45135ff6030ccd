"""The messages of a chat, as OpenAI's clients write them → Message. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from service.dialects.fields import Fields, kind
from service.dialects.framing import encode_json
from service.generation import Message, Role, ToolCall

ROLES: Final[dict[str, Role]] = {
    "developer": "system",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def parse_messages(fields: Fields) -> tuple[Message, ...]:
    if not fields.list("messages"):
        raise fields.bad("messages", "must have at least one message")
    return tuple(parse_message(message) for message in fields.objects("messages"))


def parse_message(fields: Fields) -> Message:
    word = fields.choice("role", tuple(ROLES))
    if word is None:
        raise fields.bad("role", "is missing")
    role = ROLES[word]
    content = parse_content(fields)
    calls = parse_calls(fields) if role == "assistant" else ()
    if content is None and not calls and role != "assistant":
        raise fields.bad("content", "is missing")
    thoughts = fields.text("reasoning")
    older = fields.text("reasoning_content")
    name = fields.text("name", longest=256)
    return Message(
        role=role,
        content=content,
        reasoning=(older if thoughts is None else thoughts) if role == "assistant" else None,
        tool_calls=calls,
        # A `function` answer names what was called; there was one call at most.
        tool_call_id=name if word == "function" else fields.text("tool_call_id", longest=256),
        name=name,
    )


def parse_content(fields: Fields) -> str | None:
    value = fields.get("content")
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise fields.bad("content", f"must be a string or an array of parts, not {kind(value)}")
    texts = []
    for part in fields.objects("content"):
        word = part.text("type")
        if word not in ("text", "refusal"):
            raise part.bad("type", f"only text parts are supported, not {str(word)[:32]}")
        text = part.text(word)
        if text is None:
            raise part.bad(word, "is missing")
        texts.append(text)
    # vLLM joins them so for templates that take a message's content as one string.
    return "\n".join(texts)


def parse_calls(fields: Fields) -> tuple[ToolCall, ...]:
    calls = [
        parse_call(call, call.text("id", longest=256)) for call in fields.objects("tool_calls")
    ]
    older = fields.object("function_call")
    if older is not None and not calls:
        calls = [named_call(older, older.text("name") or "")]
    return tuple(calls)


def parse_call(fields: Fields, id: str | None) -> ToolCall:
    function = fields.object("function")
    if function is None:
        raise fields.bad("function", "is missing")
    return named_call(function, id or "")


def named_call(function: Fields, id: str) -> ToolCall:
    name = function.text("name", longest=256)
    if not name:
        raise function.bad("name", "is missing")
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        # Ollama's shape, which its users carry over.
        return ToolCall(id, name, encode_json(arguments).decode())
    if not isinstance(arguments, str | None):
        raise function.bad("arguments", "must be a string of JSON")
    try:
        msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise function.bad("arguments", "invalid tool call arguments: not JSON") from None
    return ToolCall(id, name, arguments or "{}")
