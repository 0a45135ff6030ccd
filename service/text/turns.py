"""Messages and tools in the shape that chat templates expect, which is OpenAI's with a few quirks.

Arguments of a call are a mapping, since HuggingFace's templates print them with `tojson`; and
`content` is always text, since templates look into it without asking whether there is any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from itertools import takewhile
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from service.generation import Message, Tool, ToolCall
from service.text.tool_format import ToolFormat

_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")


class Manners(Struct, frozen=True):
    """What a template wants otherwise than most.

    reasoning_keys: the names it reads an earlier turn's thoughts by. short_ids: it refuses call
    ids other than nine letters and digits (Mistral's). arguments_as_text: it prints arguments as
    they are. system: it takes a system message. calls_as: it shows the model no calls, so that
    they have to be written into the text, in this format. single_calls: it refuses two calls in a
    turn. tools_in_system: it looks for the tools in the system message (Phi-4-mini's).
    wordy_schemas: it takes for granted what schemas may leave out (Command-R's).
    """

    reasoning_keys: tuple[str, ...] = ()
    short_ids: bool = False
    arguments_as_text: bool = False
    system: bool = True
    calls_as: ToolFormat | None = None
    single_calls: bool = False
    tools_in_system: bool = False
    wordy_schemas: bool = False


def manners_of(source: str) -> Manners:
    """What the source of a template tells at sight; the rest takes a rendering."""
    keys = [key for key in _REASONING_KEYS if re.search(rf"(?:\.|['\"]){key}\b", source)]
    return Manners(
        reasoning_keys=tuple(keys),
        short_ids="length != 9" in source,
        tools_in_system=bool(re.search(r"['\"]tools['\"] in \w", source)),
        wordy_schemas=".additionalProperties)" in source,
    )


def turns(messages: tuple[Message, ...], manners: Manners) -> list[dict[str, Any]]:
    if manners.single_calls:
        messages = tuple(_one_call_at_a_time(messages))
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    shaped = [_turn(message, names, manners) for message in messages]
    if shaped and shaped[0]["role"] == "system" and not manners.system:
        return _without_system(shaped)
    return shaped


def tool_shapes(tools: tuple[Tool, ...], manners: Manners) -> list[dict[str, Any]]:
    """Copies throughout: a template may change lists, and the request is not its own."""
    shaped: list[dict[str, Any]] = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": _copy(tool.parameters) or {"type": "object", "properties": {}},
            },
        }
        for tool in tools
    ]
    if manners.wordy_schemas:
        _fill_in(shaped)
    return shaped


def _copy(value: Any) -> Any:
    """Of what came as JSON: objects, arrays, and what has nothing inside."""
    if type(value) is dict:
        return {key: _copy(below) for key, below in value.items()}
    return [_copy(below) for below in value] if type(value) is list else value


def with_tools(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The system message, or an empty one in front, carries the functions as JSON."""
    listed = json.dumps([tool["function"] for tool in tools], ensure_ascii=False)
    if not messages or messages[0]["role"] != "system":
        messages = [{"role": "system", "content": ""}, *messages]
    return [{**messages[0], "tools": listed}, *messages[1:]]


def _fill_in(shaped: list[dict[str, Any]]) -> None:
    pending: list[Any] = list(shaped)
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if node.get("type") == "object":
                node.setdefault("additionalProperties", {})
            if "type" in node:
                node.setdefault("description", "")
            pending += node.values()
        elif isinstance(node, list):
            pending += node


def _one_call_at_a_time(messages: tuple[Message, ...]) -> Iterator[Message]:
    """Each call in a turn of its own, with its result after it."""
    pending = list(messages)
    while pending:
        message = pending.pop(0)
        if len(message.tool_calls) < 2:
            yield message
            continue
        results = list(takewhile(lambda each: each.role == "tool", pending))
        del pending[: len(results)]
        for call in message.tool_calls:
            yield replace(message, tool_calls=(call,))
            message = replace(message, content=None, reasoning=None)
            found = [each for each in results if each.tool_call_id == call.id]
            yield from found
            results = [each for each in results if each not in found]
        yield from results


def _turn(message: Message, names: dict[str, str], manners: Manners) -> dict[str, Any]:
    """Keys are absent where there is nothing to say: templates ask `'tool_calls' in message`."""
    shaped: dict[str, Any] = {"role": message.role, "content": message.content or ""}
    if message.tool_calls and manners.calls_as:
        shaped["content"] += manners.calls_as.text(message.tool_calls)
    elif message.tool_calls:
        shaped["tool_calls"] = [_call(call, manners) for call in message.tool_calls]
    if message.reasoning:
        shaped |= dict.fromkeys(manners.reasoning_keys, message.reasoning)
    if "thinking" in shaped and message.tool_calls and message.content:
        del shaped["thinking"]  # gpt-oss refuses both beside a call
    if message.tool_call_id is not None:
        shaped["tool_call_id"] = _id(message.tool_call_id, manners)
    name = message.name or names.get(message.tool_call_id or "")
    if name:
        shaped["name"] = name
    return shaped


def _call(call: ToolCall, manners: Manners) -> dict[str, Any]:
    arguments = call.arguments if manners.arguments_as_text else _mapping(call.arguments)
    function = {"name": call.name, "arguments": arguments}
    return {"id": _id(call.id, manners), "type": "function", "function": function}


def _mapping(arguments: str) -> Any:
    """The arguments as a mapping, or as they are where the model wrote no JSON object."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def _id(call_id: str, manners: Manners) -> str:
    if not manners.short_ids or (len(call_id) == 9 and call_id.isalnum()):
        return call_id
    return sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:9]


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The system message in front of the first user's text."""
    system, *rest = messages
    for at, message in enumerate(rest):
        if message["role"] == "user":
            joined = {**message, "content": f"{system['content']}\n\n{message['content']}"}
            return [*rest[:at], joined, *rest[at + 1 :]]
    return [{**system, "role": "user"}, *rest]
