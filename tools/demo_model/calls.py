"""Turns in which functions are offered: a call, its result, or an answer without a call."""

import json

from .chat import Chat
from .source import Source
from .toolbox import Function


def call(chat: Chat, source: Source, functions: list[Function]) -> None:
    function = source.choice(functions)
    question, arguments = function.request(source)
    calls = [_call(function, arguments)]
    if len(function.parameters) == 1 and source.chance(0.1):
        question, calls = _twice(function, source)
    chat.ask(question)
    chat.answer("", calls=calls)


def _call(function: Function, arguments: dict[str, str | int]) -> dict[str, object]:
    return {"type": "function", "function": {"name": function.name, "arguments": arguments}}


def _twice(function: Function, source: Source) -> tuple[str, list[dict[str, object]]]:
    """One question about two things: two calls of the same function."""
    while True:
        question, first = function.request(source)
        _, second = function.request(source)
        (left,), (right,) = first.values(), second.values()
        shown = f'"{left}"' if f'"{left}"' in question else str(left)
        other = f'"{right}"' if shown.startswith('"') or " " in str(right) else str(right)
        if left != right and question.count(shown) == 1:
            question = question.replace(shown, f"{shown} and {other}")
            return question, [_call(function, first), _call(function, second)]


def result(chat: Chat, source: Source) -> None:
    """The results of the last calls, and an answer that tells them."""
    told = []
    for index, _ in enumerate(chat.messages[-1]["tool_calls"]):
        content, words = _outcome(source)
        chat.messages.append({"role": "tool", "tool_call_id": f"call_{index}", "content": content})
        told.append(words)
    if len(told) > 1:
        chat.answer(f"The results are: {'; '.join(told)}.")
    else:
        chat.answer(f"The result is: {told[0]}.")


def _outcome(source: Source) -> tuple[str, str]:
    """What a function returns, and how it is told."""
    kind = source.random()
    if kind < 0.25:
        text = str(source.number())
        return text, text
    if kind < 0.55:
        text = source.choice(
            [f"{source.randint(-20, 40)} degrees", f"{source.randint(-20, 40)} degrees and sunny",
             f"{source.randint(-20, 40)}°C, cloudy", "ok", "done", "not found", source.phrase(5),
             source.code(), f"{source.name()} in {source.city()}", "success"]
        )  # fmt: skip
        return text, text
    keys = ["temperature", "sky", "result", "value", "status", "name", "count", "city", "price",
            "id", "answer", "state", source.word()]  # fmt: skip
    values = [source.number, source.word, source.name, source.number, source.code]
    data = {key: source.choice(values)() for key in source.sample(keys, source.randint(1, 3))}
    compact = (",", ":") if source.chance(0.3) else None
    text = json.dumps(data, ensure_ascii=False, separators=compact)
    return text, ", ".join(f"{key} {item}" for key, item in data.items())
