"""Requests to the real service, and what came back: what schemas are held against, ours and those
that others have published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

Body = Mapping[str, Any]
ASK: Final = [{"role": "user", "content": "What is 3 + 4?"}]
SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ADD: Final = {
    "name": "add",
    "description": "Adds two numbers",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}
CALL: Final = {"tools": [{"type": "function", "function": ADD}], "tool_choice": "required"}
STREAM: Final = {"stream": True, "stream_options": {"include_usage": True}}
CHAT: Final = {"model": "demo", "messages": ASK, "max_tokens": 24}
OLLAMA_CHAT: Final = {"model": "demo", "messages": ASK, "options": {"num_predict": 24}}
OLLAMA_TEXT: Final = {"model": "demo", "prompt": "hi", "options": {"num_predict": 8}}
RESPONSE: Final = {"model": "demo", "input": "What is 3 + 4?", "max_output_tokens": 24}
CLAUDE: Final = {"model": "demo", "messages": ASK, "max_tokens": 24}
DETAILS: Final = {"details": True, "decoder_input_details": True, "top_n_tokens": 2}
GENERATE: Final = {"inputs": "hi", "parameters": {"max_new_tokens": 4}}


@dataclass(frozen=True)
class Asked:
    """`path` as the dialect has it, `prefix` where it stands under one. `status` is expected."""

    dialect: str
    method: str
    path: str
    body: Body | None = None
    prefix: str = ""
    status: int = 200


@dataclass(frozen=True)
class Told:
    asked: Asked
    status: int
    media_type: str
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def post(
    dialect: str, path: str, *bodies: Body, prefix: str = "", status: int = 200
) -> list[Asked]:
    return [Asked(dialect, "POST", path, body, prefix, status) for body in bodies]


def get(dialect: str, *paths: str, prefix: str = "", status: int = 200) -> list[Asked]:
    return [Asked(dialect, "GET", path, None, prefix, status) for path in paths]


def chats(extra: Body) -> list[Body]:
    """The ways to ask for a chat in OpenAI's words."""
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    whole: list[Body] = [
        CHAT,
        {**CHAT, "n": 2},
        {**CHAT, "logprobs": True, "top_logprobs": 2},
        {**CHAT, "reasoning_effort": "low", "max_tokens": 64},
        {**CHAT, "response_format": shape},
        {**CHAT, **CALL, "max_tokens": 64},
    ]
    return [{**body, **extra} for body in whole]


WRONG: Final = {**CHAT, "temperature": "hot"}
ASKED: Final = [
    *post("openai", "/v1/chat/completions", *chats({}), *chats(STREAM)),
    *post("openai", "/v1/chat/completions", WRONG, status=400),
    *post("openai", "/v1/chat/completions", {**CHAT, "model": "nope"}, status=404),
    *post(
        "openai",
        "/v1/completions",
        {"model": "demo", "prompt": "hi"},
        {"model": "demo", "prompt": ["hi", "ho"], "n": 2, "logprobs": 2, "echo": True},
        {"model": "demo", "prompt": "hi", "logprobs": 1, **STREAM},
    ),
    *post(
        "openai",
        "/v1/embeddings",
        {"model": "demo", "input": ["a", "b"]},
        {"model": "demo", "input": "a", "encoding_format": "base64"},
    ),
    *get("openai", "/v1/models", "/v1/models/demo"),
    *post(
        "openai",
        "/v1/responses",
        RESPONSE,
        {**RESPONSE, "stream": True},
        {**RESPONSE, "reasoning": {"effort": "low"}, "max_output_tokens": 64},
        {**RESPONSE, "reasoning": {"effort": "low", "summary": "auto"}, "stream": True},
        {**RESPONSE, "tools": [{"type": "function", **ADD}], "tool_choice": "required"},
        {
            **RESPONSE,
            "tools": [{"type": "function", **ADD}],
            "tool_choice": "required",
            "stream": True,
        },
        {**RESPONSE, "max_output_tokens": 1},
    ),
    *post("openai", "/v1/responses/input_tokens", {"model": "demo", "input": "hi"}),
    *post("vllm", "/v1/chat/completions", *chats({}), *chats(STREAM), prefix="/vllm"),
    *post("vllm", "/v1/chat/completions", WRONG, prefix="/vllm", status=400),
    *post(
        "vllm",
        "/v1/completions",
        {"model": "demo", "prompt": "hi", "prompt_logprobs": 1, "return_token_ids": True},
        {"model": "demo", "prompt": "hi", **STREAM},
        prefix="/vllm",
    ),
    *post("vllm", "/tokenize", {"prompt": "hi", "return_token_strs": True}, prefix="/vllm"),
    *post("vllm", "/detokenize", {"tokens": [104, 105]}, prefix="/vllm"),
    *post("vllm", "/score", {"text_1": "a", "text_2": ["a", "b"]}, prefix="/vllm"),
    *get("vllm", "/v1/models", "/version", "/load", prefix="/vllm"),
    *post(
        "ollama",
        "/api/chat",
        *[
            {**body, **stream}
            for stream in ({}, {"stream": False})
            for body in (
                OLLAMA_CHAT,
                {**OLLAMA_CHAT, "think": True, "options": {"num_predict": 64}},
                {**OLLAMA_CHAT, "logprobs": True, "top_logprobs": 2},
                {**OLLAMA_CHAT, "format": SCHEMA},
                {**OLLAMA_CHAT, "tools": CALL["tools"]},
            )
        ],
    ),
    *post("ollama", "/api/chat", {**OLLAMA_CHAT, "model": "nope"}, status=404),
    *post(
        "ollama",
        "/api/generate",
        OLLAMA_TEXT,
        {**OLLAMA_TEXT, "stream": False},
        {**OLLAMA_TEXT, "stream": False, "raw": True},
        {"model": "demo"},
    ),
    *post("ollama", "/api/embed", {"model": "demo", "input": ["a", "b"]}),
    *post("ollama", "/api/embeddings", {"model": "demo", "prompt": "a"}),
    *post("ollama", "/api/show", {"model": "demo"}, {"model": "demo", "verbose": True}),
    *get("ollama", "/api/tags", "/api/ps", "/api/version", "/api/status"),
    *get("ollama", "/api/models", "/api/requests"),
    *post(
        "tgi",
        "/generate",
        GENERATE,
        {"inputs": "hi", "parameters": {"max_new_tokens": 4, **DETAILS}},
        {
            "inputs": "hi",
            "parameters": {"max_new_tokens": 4, "best_of": 2, "do_sample": True, "details": True},
        },
    ),
    *post("tgi", "/generate", {"inputs": ""}, status=422),
    *post(
        "tgi",
        "/generate_stream",
        GENERATE,
        {"inputs": "hi", "parameters": {"max_new_tokens": 4, "details": True, "top_n_tokens": 2}},
    ),
    *post("tgi", "/", GENERATE, {**GENERATE, "stream": True}),
    *post("tgi", "/tokenize", {"inputs": "hi"}, prefix="/tgi"),
    *post("tgi", "/chat_tokenize", {"messages": ASK}),
    *post("tgi", "/v1/chat/completions", *chats({}), *chats(STREAM), prefix="/tgi"),
    *post(
        "tgi",
        "/v1/completions",
        {"model": "tgi", "prompt": "hi", "max_tokens": 4},
        {"model": "tgi", "prompt": "hi", "max_tokens": 4, "stream": True},
        prefix="/tgi",
    ),
    *get("tgi", "/info", "/v1/models", prefix="/tgi"),
    *post(
        "anthropic",
        "/v1/messages",
        CLAUDE,
        {**CLAUDE, "stream": True},
        {**CLAUDE, "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 64},
        {**CLAUDE, "stop_sequences": ["7"], "stream": True},
        {
            **CLAUDE,
            "tools": [{"name": "add", "input_schema": ADD["parameters"]}],
            "tool_choice": {"type": "any"},
            "max_tokens": 64,
            "stream": True,
        },
    ),
    *post("anthropic", "/v1/messages", {"messages": ASK}, status=400),
    *post("anthropic", "/v1/messages/count_tokens", {"messages": ASK}),
    *get("anthropic", "/v1/models", "/v1/models/demo", prefix="/anthropic"),
    *post(
        "llama-server",
        "/completion",
        {"prompt": "hi", "n_predict": 4, "n_probs": 2, "return_tokens": True},
        {"prompt": ["hi", "ho"], "n_predict": 2},
        {"prompt": "hi", "n_predict": 4, "stream": True, "n_probs": 1},
    ),
    *post("llama-server", "/apply-template", {"messages": ASK}),
    *post("llama-server", "/embedding", {"content": "a"}),
    *post("llama-server", "/tokenize", {"content": "hi \U0001f600", "with_pieces": True}),
    *get("llama-server", "/props", "/slots", "/models", "/running", "/lora-adapters"),
]


def replies(url: str, asked: list[Asked]) -> Iterator[Told]:
    with httpx.Client(base_url=url, timeout=120) as client:
        for each in asked:
            answer = client.request(each.method, each.prefix + each.path, json=each.body)
            media_type = answer.headers.get("content-type", "").partition(";")[0]
            yield Told(each, answer.status_code, media_type, answer.content, answer.headers)
