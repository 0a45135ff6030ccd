"""Every wrong kind of value in every field of these endpoints is a 4xx that names the field, in
less than a second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.dialects.fakes import FakeRuntime
from tests.dialects.serving import serving
from tests.dialects.test_hostile_bodies import raw

MESSAGE = {"role": "user", "content": "hi"}

# A kind of field → what it cannot hold.
WRONG: dict[str, list[Any]] = {
    "text": [1, 1.5, True, [], {}],
    "integer": ["x", 1.5, True, [], {}],
    "number": ["x", True, [], {}],
    "flag": ["x", 1, [], {}],
    "object": ["x", 1, True, []],
    "objects": ["x", 1, True, {}, ["x"], [1], [[]], [None]],
    "texts": [1, True, {}, [1], [[]], [None]],
    "word": [1, True, [], {}, "nonsense"],
}
SAMPLING: dict[str, str] = {
    "model": "text",
    "temperature": "number",
    "top_p": "number",
    "top_k": "integer",
    "min_p": "number",
    "seed": "integer",
    "stream": "flag",
    "presence_penalty": "number",
    "mirostat": "integer",
    "dry_multiplier": "number",
    "ignore_eos": "flag",
}
# path → (a body that is answered, its fields)
ENDPOINTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "/v1/messages": (
        {"messages": [MESSAGE], "max_tokens": 4},
        SAMPLING
        | {
            "max_tokens": "integer",
            "messages": "objects",
            "stop_sequences": "texts",
            "tools": "objects",
            "tool_choice": "object",
            "thinking": "object",
            "output_config": "object",
            "output_format": "object",
        },
    ),
    "/v1/messages/count_tokens": (
        {"messages": [MESSAGE]},
        {"model": "text", "messages": "objects", "tools": "objects", "thinking": "object"},
    ),
    "/v1/responses": (
        {"input": "hi"},
        SAMPLING
        | {
            "instructions": "text",
            "max_output_tokens": "integer",
            "previous_response_id": "text",
            "tools": "objects",
            "tool_choice": "word",
            "parallel_tool_calls": "flag",
            "reasoning": "object",
            "text": "object",
            "include": "texts",
            "truncation": "word",
            "store": "flag",
            "metadata": "object",
            "top_logprobs": "integer",
            "options": "object",
        },
    ),
    "/v1/responses/input_tokens": (
        {"input": "hi"},
        {"model": "text", "instructions": "text", "tools": "objects", "reasoning": "object"},
    ),
    "/v1/embeddings": (
        {"input": "hi"},
        {
            "model": "text",
            "encoding_format": "word",
            "dimensions": "integer",
            "truncate_prompt_tokens": "integer",
            "normalize": "flag",
            "add_special_tokens": "flag",
        },
    ),
    "/v1/chat/completions": (
        {"messages": [MESSAGE]},
        {
            "options": "object",
            "num_ctx": "integer",
            "format": "word",
            "think": "word",
            "keep_alive": "word",
            "n_predict": "integer",
            "return_progress": "flag",
            "functions": "objects",
            "parallel_tool_calls": "flag",
        },
    ),
    "/v1/completions": ({"prompt": "hi"}, {"suffix": "text", "best_of": "integer"}),
    "/completion": (
        {"prompt": "hi"},
        SAMPLING
        | {
            "n_predict": "integer",
            "n_probs": "integer",
            "stop": "texts",
            "return_tokens": "flag",
            "response_fields": "texts",
            "grammar": "text",
        },
    ),
    "/infill": (
        {"input_prefix": "a", "input_suffix": "b"},
        {
            "input_prefix": "text",
            "input_suffix": "text",
            "input_extra": "objects",
            "prompt": "text",
            "n_predict": "integer",
        },
    ),
    "/apply-template": ({"messages": [MESSAGE]}, {"model": "text", "messages": "objects"}),
    "/embedding": ({"content": "hi"}, {"model": "text", "embd_normalize": "integer"}),
    "/models/load": ({"model": "demo"}, {"model": "text"}),
    "/models/unload": ({"model": "demo"}, {"model": "text"}),
    "/llama-server/tokenize": (
        {"content": "hi"},
        {"add_special": "flag", "parse_special": "flag", "with_pieces": "flag", "model": "text"},
    ),
}
# What is among the things that such a field takes, and not wrong there.
TAKEN = {
    ("/v1/chat/completions", "think"): {"True"},
    ("/v1/chat/completions", "keep_alive"): {"1"},
    ("/v1/chat/completions", "format"): {"{}", "True"},
}


def hostile(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    body, fields = ENDPOINTS[path]
    for name, kind in fields.items():
        for value in WRONG[kind]:
            if repr(value) not in TAKEN.get((path, name), ()):
                yield name, {**body, name: value}
        # Any negative seed is a random one.
        if kind == "integer" and name != "seed":
            yield name, {**body, name: -(10**18)}


def said(answer: httpx.Response) -> str:
    body = answer.json()
    error = body["error"]
    if body.get("type") == "error":
        assert error.keys() >= {"type", "message"}
    return f"{error.get('param')} {error['message']}"


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_wrong_kind_of_value_is_refused_by_the_name_of_its_field(path: str) -> None:
    wrong = []
    with serving(FakeRuntime()) as url, httpx.Client(base_url=url, timeout=10) as client:
        answered = client.post(path, json=ENDPOINTS[path][0])
        for name, body in hostile(path):
            started = time.monotonic()
            answer = client.post(path, json=body)
            seconds = time.monotonic() - started
            refused = 400 <= answer.status_code < 500
            if not (refused and name in said(answer) and seconds < 1):
                wrong.append((name, body[name], answer.status_code, answer.text[:200]))

    assert answered.status_code == 200
    assert wrong == []


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/completion"])
def test_a_body_that_no_honest_client_sends_is_refused_in_the_dialects_shape(path: str) -> None:
    wrong = []
    with serving(FakeRuntime()) as url, httpx.Client(base_url=url, timeout=10) as client:
        for body in raw():
            headers = {"content-encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {}
            answer = client.post(path, content=body, headers=headers)
            if not 400 <= answer.status_code < 500 or not said(answer):
                wrong.append((body[:80], answer.status_code, answer.text[:100]))

    assert wrong == []
