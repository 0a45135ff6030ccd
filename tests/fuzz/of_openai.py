"""OpenAI's paths."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tests.fuzz import fields
from tests.fuzz.endpoint import Endpoint, Fields, chat, completion, embeddings, get, unsupported
from tests.fuzz.fields import FLAG, few, one, prompt


def item(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"role": "user", "content": prompt(random)},
            {"role": "user", "content": [{"type": "input_text", "text": prompt(random)}]},
            {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": prompt(random)},
            {"type": "reasoning", "summary": [], "encrypted_content": None},
            {"type": "item_reference", "id": "x"},
        )
    )


def flat_tools(random: Random) -> list[dict[str, Any]]:
    return [{"type": random.choice(("function", "web_search")), **fields.function(random)}]


RESPONSE: Final[Fields] = {
    **fields.SAMPLING,
    "model": one(*fields.MODELS),
    "instructions": prompt,
    "stream": FLAG,
    "store": FLAG,
    "tools": flat_tools,
    "tool_choice": fields.tool_choice,
    "text": lambda random: {"format": fields.response_format(random)},
    "reasoning": one({"effort": "low"}, {"effort": "none", "summary": "auto"}, {"effort": "x"}),
    "previous_response_id": one("resp_none", "", "x" * 300),
    "include": one([], ["message.output_text.logprobs"], ["nonsense"]),
    "truncation": one("auto", "disabled"),
    "top_logprobs": one(0, 3),
    "background": one(False),
    "metadata": one({}, {"a": "b"}),
}


def response_input(random: Random) -> Any:
    asked = {"role": "user", "content": "hi"}
    return random.choice(
        (prompt(random), [asked], [item(random) for _ in range(3)] + [asked], [item(random)])
    )


OPENAI: Final = [
    chat("openai", "/v1/chat/completions", 14),
    chat("openai", "/openai/v1/chat/completions", 2),
    chat("openai", "/api/chat/completions", 1),
    chat("openai", "/v1/chat/completions/input_tokens", 1),
    completion("openai", "/v1/completions", 8),
    embeddings("openai", "/v1/embeddings"),
    Endpoint(
        "openai",
        "/v1/responses",
        {"input": response_input, "max_output_tokens": few},
        RESPONSE,
        weight=8,
    ),
    Endpoint("openai", "/v1/responses/input_tokens", {"input": response_input}, RESPONSE),
    *get("openai", "/v1/models", "/v1/models/demo", "/v1/models/org%2Fdemo", "/v1/models/nope"),
    *get("openai", "/v1/responses/resp_none", "/openai/v1/models", "/v1/models/"),
    Endpoint("openai", "/v1/responses/resp_none", method="DELETE"),
    Endpoint("openai", "/v1/responses/resp_none/cancel"),
    *unsupported("openai", "/v1/moderations", "/v1/images/generations", "/v1/audio/speech"),
    *unsupported("openai", "/v1/files", "/v1/batches", method="GET"),
]
