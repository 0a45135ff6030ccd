"""Anthropic's paths."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tests.fuzz import fields
from tests.fuzz.constraints import schema
from tests.fuzz.endpoint import Endpoint, Fields, get
from tests.fuzz.fields import FLAG, few, one, prompt


def block(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"type": "text", "text": prompt(random)},
            {"type": "text", "text": prompt(random), "cache_control": {"type": "ephemeral"}},
            {"type": "image", "source": {"type": "base64", "media_type": "a/b", "data": "!"}},
            {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}},
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": prompt(random)},
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "nonsense"},
        )
    )


def anthropic_messages(random: Random) -> list[dict[str, Any]]:
    turns = [
        {"role": random.choice(("user", "assistant")), "content": [block(random)]}
        for _ in range(random.randrange(3))
    ]
    return [*turns, {"role": "user", "content": random.choice(fields.WORDS)}]


def anthropic_tools(random: Random) -> list[dict[str, Any]]:
    return [{"name": "add", "description": "", "input_schema": schema(random)}]


ANTHROPIC: Final[Fields] = {
    **fields.SAMPLING,
    "model": one(*fields.MODELS),
    "temperature": one(0, 0.5, 1),
    "system": one("be kind", [{"type": "text", "text": "x"}], [], ""),
    "stop_sequences": one(["a"], [], ["\n"] * 3),
    "stream": FLAG,
    "tools": anthropic_tools,
    "tool_choice": one({"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "add"}),
    "thinking": one({"type": "enabled", "budget_tokens": 8}, {"type": "disabled"}),
    "output_config": one({"effort": "low"}, {"format": {"type": "json_schema", "schema": {}}}),
    "metadata": one({"user_id": "x"}),
}


MESSAGES: Final = Endpoint(
    "anthropic",
    "/v1/messages",
    {"messages": anthropic_messages, "max_tokens": few},
    ANTHROPIC,
    weight=10,
)
ANTHROPICS: Final = [
    MESSAGES,
    Endpoint("anthropic", "/anthropic/v1/messages", MESSAGES.needs, ANTHROPIC, weight=3),
    Endpoint(
        "anthropic",
        "/v1/messages/count_tokens",
        {"messages": anthropic_messages},
        ANTHROPIC,
        weight=3,
    ),
    *get("anthropic", "/anthropic/v1/models", "/anthropic/v1/models/demo"),
]
