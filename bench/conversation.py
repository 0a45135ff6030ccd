"""One conversation in each dialect's own words, and what a model says to it, token by token."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.workloads import words

Body = dict[str, Any]

TOOLS = {
    "get_weather": ("The weather of a city", {"city": "string", "unit": "string"}),
    "search_mail": ("Messages that have all words", {"query": "string", "limit": "integer"}),
    "create_event": (
        "An entry in the calendar",
        {"title": "string", "start": "string", "minutes": "integer", "place": "string"},
    ),
}


@dataclass(frozen=True)
class Turn:
    """`call`: the function's name and arguments, in an assistant's turn or, as what it gave back
    is its text, in a tool's."""

    role: str
    text: str
    call: tuple[str, dict[str, Any]] | None = None
    id: str = ""


def long() -> tuple[Turn, ...]:
    """Twenty messages, two of them calls and two their results."""
    source = random.Random("conversation")
    turns = [Turn("system", words(source, 60))]
    for number in range(8):
        turns.append(Turn("user", words(source, 40)))
        if number in (2, 5):
            call = ("get_weather", {"city": words(source, 1), "unit": "celsius"})
            turns.append(Turn("assistant", "", call, f"call{number:05}"))
            turns.append(Turn("tool", words(source, 30), call, f"call{number:05}"))
        if number < 7:
            turns.append(Turn("assistant", words(source, 50)))
    return tuple(turns)


def short() -> tuple[Turn, ...]:
    return (Turn("user", words(random.Random("question"), 20)),)


# What the model answers; a piece is a token.
def tokens(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\s*\S{1,6}|\s+$", text))


def said() -> tuple[str, ...]:
    return tokens(words(random.Random("answer"), 256))


def called() -> tuple[str, ...]:
    """Thoughts, a text, and a call."""
    source = random.Random("call")
    arguments = {"title": words(source, 12), "start": "2024-05-01T09:00", "minutes": 45}
    call = json.dumps({"name": "create_event", "arguments": arguments})
    return tokens(
        f"<think>\n{words(source, 100)}\n</think>\n\n{words(source, 100)}\n"
        f"<tool_call>\n{call}\n</tool_call>"
    )


def schema(properties: Mapping[str, str]) -> Body:
    fields = {
        name: {"type": type, "description": f"its {name}"} for name, type in properties.items()
    }
    return {"type": "object", "properties": fields, "required": list(properties)}


def openai(turns: Sequence[Turn], tools: bool) -> Body:
    body: Body = {"messages": [openai_message(turn) for turn in turns], "stream": True}
    if tools:
        body["tools"] = openai_tools()
    return body


def openai_tools() -> list[Body]:
    return [
        {
            "type": "function",
            "function": {"name": name, "description": text, "parameters": schema(properties)},
        }
        for name, (text, properties) in TOOLS.items()
    ]


def openai_message(turn: Turn) -> Body:
    if turn.call is None:
        return {"role": turn.role, "content": turn.text}
    if turn.role == "tool":
        return {"role": "tool", "tool_call_id": turn.id, "content": turn.text}
    name, arguments = turn.call
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": turn.id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def ollama(turns: Sequence[Turn], tools: bool) -> Body:
    messages = []
    for turn in turns:
        message: Body = {"role": turn.role, "content": turn.text}
        if turn.call is not None:
            name, arguments = turn.call
            if turn.role == "tool":
                message["tool_name"] = name
            else:
                message["tool_calls"] = [{"function": {"name": name, "arguments": arguments}}]
        messages.append(message)
    return {"messages": messages, "tools": openai_tools() if tools else []}


def anthropic(turns: Sequence[Turn], tools: bool) -> Body:
    body: Body = {"max_tokens": 1024, "stream": True, "messages": []}
    for turn in turns:
        if turn.role == "system":
            body["system"] = turn.text
        elif turn.call is None:
            body["messages"].append({"role": turn.role, "content": turn.text})
        elif turn.role == "tool":
            part = {"type": "tool_result", "tool_use_id": turn.id, "content": turn.text}
            body["messages"].append({"role": "user", "content": [part]})
        else:
            name, arguments = turn.call
            use = {"type": "tool_use", "id": turn.id, "name": name, "input": arguments}
            body["messages"].append({"role": "assistant", "content": [use]})
    if tools:
        body["tools"] = [
            {"name": name, "description": text, "input_schema": schema(properties)}
            for name, (text, properties) in TOOLS.items()
        ]
    return body


def responses(turns: Sequence[Turn], tools: bool) -> Body:
    items: list[Body] = []
    for turn in turns:
        if turn.call is None:
            items.append({"role": turn.role, "content": turn.text})
        elif turn.role == "tool":
            result = {"type": "function_call_output", "call_id": turn.id, "output": turn.text}
            items.append(result)
        else:
            name, arguments = turn.call
            call = {"name": name, "arguments": json.dumps(arguments), "call_id": turn.id}
            items.append({"type": "function_call", **call})
    body: Body = {"input": items, "stream": True}
    if tools:
        body["tools"] = [{"type": "function", **tool["function"]} for tool in openai_tools()]
    return body


def question(turns: Sequence[Turn]) -> str:
    return "\n".join(turn.text for turn in turns)


Chat = Callable[[Sequence[Turn], bool], Body]
CHATS: dict[str, tuple[str, Chat]] = {
    "openai chat": ("/v1/chat/completions", openai),
    "openai responses": ("/v1/responses", responses),
    "ollama chat": ("/api/chat", ollama),
    "anthropic messages": ("/v1/messages", anthropic),
    "vllm chat": ("/vllm/v1/chat/completions", openai),
    "tgi chat": ("/tgi/v1/chat/completions", openai),
}
TEXTS: dict[str, tuple[str, Callable[[str], Body]]] = {
    "openai completions": ("/v1/completions", lambda text: {"prompt": text, "stream": True}),
    "ollama generate": ("/api/generate", lambda text: {"prompt": text}),
    "tgi generate": ("/generate_stream", lambda text: {"inputs": text}),
    "llama-server completion": ("/completion", lambda text: {"prompt": text, "stream": True}),
}
