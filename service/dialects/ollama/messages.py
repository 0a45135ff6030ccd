"""The messages of a chat, as Ollama's clients write them → Message. Pure.

Ollama tells a tool's answer by the tool's name, most chat templates by the call's id. Ids that
clients left out are therefore numbered, and each answer gets the id of the call that it is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from service.dialects.fields import Fields, kind
from service.dialects.framing import encode_json
from service.dialects.openai.tools import MAX_TOOLS, parse_tool
from service.generation import Message, Role, Tool, ToolCall

ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
MAX_NAME: Final = 256


def parse_messages(fields: Fields) -> tuple[Message, ...]:
    return tuple(paired(parse_message(message) for message in fields.objects("messages")))


def parse_message(fields: Fields) -> Message:
    word = fields.text("role")
    if word is None:
        raise fields.bad("role", "is missing")
    role = ROLES.get(word.lower())
    if role is None:
        raise fields.bad("role", f"must be one of {', '.join(ROLES)}")
    refuse_images(fields)
    calls = tuple(parse_call(call) for call in fields.objects("tool_calls"))
    thoughts = fields.text("thinking")
    return Message(
        role=role,
        content=fields.text("content") or "",
        reasoning=thoughts if role == "assistant" else None,
        tool_calls=calls if role == "assistant" else (),
        tool_call_id=fields.text("tool_call_id", longest=MAX_NAME) or None,
        name=fields.text("tool_name", longest=MAX_NAME) or None,
    )


def parse_call(fields: Fields) -> ToolCall:
    function = fields.object("function")
    if function is None:
        raise fields.bad("function", "is missing")
    name = function.text("name", longest=MAX_NAME)
    if not name:
        raise function.bad("name", "is missing")
    function.integer("index")
    arguments = function.get("arguments")
    if not isinstance(arguments, dict | None):
        raise function.bad("arguments", f"must be an object, not {kind(arguments)}")
    id = fields.text("id", longest=MAX_NAME)
    return ToolCall(id or "", name, encode_json(arguments or {}).decode())


def paired(messages: Iterable[Message]) -> Iterator[Message]:
    waiting: list[ToolCall] = []
    number = 0
    for message in messages:
        calls = []
        for call in message.tool_calls:
            number += 1
            calls.append(call if call.id else replace(call, id=f"call_{number}"))
        if calls:
            message = replace(message, tool_calls=tuple(calls))
            waiting = calls
        elif message.role == "tool":
            asked = answered(message, waiting)
            if asked is not None:
                waiting = [call for call in waiting if call is not asked]
                message = replace(message, tool_call_id=asked.id, name=message.name or asked.name)
        yield message


def answered(message: Message, waiting: list[ToolCall]) -> ToolCall | None:
    """The call that a tool's message is the answer to: by id, by name, or simply the next."""
    if message.tool_call_id is not None:
        return next((call for call in waiting if call.id == message.tool_call_id), None)
    named = [call for call in waiting if message.name in (None, call.name)]
    return named[0] if named else None


def refuse_images(fields: Fields) -> None:
    """No model here looks at pictures: to leave one out would be to answer another question."""
    images = fields.list("images")
    for index, image in enumerate(images or ()):
        if not isinstance(image, str):
            raise fields.bad(f"images.{index}", f"must be a string of base64, not {kind(image)}")
    if images:
        raise fields.bad("images", "images are not supported by this model")


def parse_tools(fields: Fields) -> tuple[Tool, ...]:
    fields.list("tools", longest=MAX_TOOLS)
    return tuple(parse_tool(tool) for tool in fields.objects("tools"))
