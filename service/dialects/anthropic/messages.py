"""The messages of a conversation, as Anthropic's clients write them → Message. Pure.

One of theirs may be several of ours: the results of tool calls come as blocks of a user's message.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from service.dialects.fields import Fields, kind
from service.dialects.framing import encode_json
from service.generation import Message, ToolCall

ROLES: Final = ("user", "assistant", "system")
IMAGES: Final = "images are not supported: this model has no projector for them"
# Claude Code puts a line of bookkeeping in front of its system prompt, new in each request: no
# prompt would ever share a beginning with the one before.
BOOKKEEPING: Final = "x-anthropic-billing-header:"


def parse_messages(fields: Fields) -> tuple[Message, ...]:
    if not fields.list("messages"):
        raise fields.bad("messages", "must have at least one message")
    system = parse_system(fields)
    messages = [Message("system", system)] if system else []
    for message in fields.objects("messages"):
        messages += parse_message(message)
    return tuple(messages)


def parse_system(fields: Fields) -> str:
    value = fields.get("system")
    if value is None or isinstance(value, str):
        return value or ""
    texts = [parse_text(block) for block in blocks(fields, "system")]
    return "\n".join(texts[1:] if texts and texts[0].startswith(BOOKKEEPING) else texts)


def parse_message(fields: Fields) -> Iterator[Message]:
    role = fields.choice("role", ROLES)
    if role is None:
        raise fields.bad("role", "is missing")
    content = fields.get("content")
    if content is None:
        raise fields.bad("content", "is missing")
    if role == "assistant":
        yield parse_assistant(fields, content)
    elif isinstance(content, str):
        yield Message("system" if role == "system" else "user", content)
    elif role == "system":
        yield Message("system", "\n".join(map(parse_text, blocks(fields, "content"))))
    else:
        yield from parse_user(fields)


def parse_user(fields: Fields) -> Iterator[Message]:
    """Texts that stand together are one message; each result of a tool is one of its own."""
    texts: list[str] = []
    found = False
    for block in blocks(fields, "content"):
        found = True
        if block.get("type") != "tool_result":
            texts.append(parse_text(block))
            continue
        if texts:
            yield Message("user", "\n".join(texts))
            texts = []
        yield parse_result(block)
    if texts or not found:
        yield Message("user", "\n".join(texts))


def parse_assistant(fields: Fields, content: Any) -> Message:
    if isinstance(content, str):
        return Message("assistant", content)
    texts, thoughts, calls = [], [], []
    for block in blocks(fields, "content"):
        match block.get("type"):
            case "thinking":
                thoughts.append(required(block, "thinking"))
            case "redacted_thinking":
                # Sealed by the server that thought it; nobody else can read it.
                continue
            case "tool_use":
                calls.append(parse_use(block))
            case _:
                texts.append(parse_text(block))
    return Message(
        "assistant",
        "\n".join(texts) if texts else None,
        "\n".join(thoughts) if thoughts else None,
        tuple(calls),
    )


def parse_use(fields: Fields) -> ToolCall:
    given = fields.object("input")
    if given is None:
        raise fields.bad("input", "is missing")
    return ToolCall(
        required(fields, "id", longest=256),
        required(fields, "name", longest=256),
        encode_json(given.values).decode(),
    )


def parse_result(fields: Fields) -> Message:
    id = required(fields, "tool_use_id", longest=256)
    failed = fields.flag("is_error")
    value = fields.get("content")
    if isinstance(value, list):
        value = "\n".join(map(parse_text, blocks(fields, "content")))
    elif not isinstance(value, str | None):
        raise fields.bad("content", f"must be a string or an array of blocks, not {kind(value)}")
    text = value or ""
    if failed and not text.lower().startswith("error"):
        # No chat template has another place for the flag.
        text = f"Error: {text}"
    return Message("tool", text, tool_call_id=id)


def blocks(fields: Fields, key: str) -> Iterator[Fields]:
    value = fields.get(key)
    if not isinstance(value, list):
        raise fields.bad(key, f"must be a string or an array of blocks, not {kind(value)}")
    return fields.objects(key)


def parse_text(fields: Fields) -> str:
    word = fields.get("type")
    if word == "image":
        raise fields.bad("type", IMAGES)
    if word != "text":
        raise fields.bad("type", f"blocks of type {str(word)[:32]} are not supported here")
    return required(fields, "text")


def required(fields: Fields, key: str, *, longest: int | None = None) -> str:
    value = fields.text(key, longest=longest)
    if value is None:
        raise fields.bad(key, "is missing")
    return value
