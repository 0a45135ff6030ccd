"""Bodies that no honest client sends to vLLM's paths: each is a 4xx in vLLM's shape, at once."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx

from tests.dialects.fakes import FakeRuntime
from tests.dialects.serving import serving
from tests.dialects.test_hostile_bodies import MESSAGE, raw, specific, wrong_kinds

KINDS: list[Any] = ["x", 1, 1.5, True, [], {}, [[]], [{}], [None]]
HEADERS = {"content-type": "application/json"}


def refused(client: httpx.Client, path: str, content: bytes) -> str | None:
    """What is wrong with the answer, if something is."""
    started = time.monotonic()
    response = client.post(path, content=content, headers=HEADERS)
    seconds = time.monotonic() - started
    error = response.json().get("error", {}) if response.content else {}
    proper = isinstance(error, dict) and error.get("code") == response.status_code
    if 400 <= response.status_code < 500 and proper and error["message"] and seconds < 1:
        return None
    return f"{path} {content[:80]!r} {response.status_code} {seconds:.1f} {response.text[:100]}"


def test_every_hostile_chat_is_refused_at_once() -> None:
    objects = [{"messages": [MESSAGE], **body} for body in [*wrong_kinds(), *specific()]]
    bodies = [*raw(), *(json.dumps(each).encode() for each in objects)]
    with serving(FakeRuntime()) as url, httpx.Client(base_url=url, timeout=10) as client:
        wrong = [refused(client, "/vllm/v1/chat/completions", body) for body in bodies]

    assert len(bodies) > 150
    assert [each for each in wrong if each] == []


def test_every_hostile_body_of_the_other_paths_is_refused_at_once() -> None:
    cases: list[tuple[str, dict[str, Any]]] = []
    fields: dict[str, dict[str, list[Any]]] = {
        "/tokenize": {
            "prompt": [1, 1.5, True, [], {}],
            "messages": ["x", 1, True, {}, [1], [{}]],
            "return_token_strs": ["x", 1, [], {}],
            "add_special_tokens": ["x", 1, [], {}],
            "model": [1, True, [], {}, "x" * 1000],
        },
        "/detokenize": {"tokens": ["x", 1, 1.5, True, {}, [[]], [{}], ["a"], [-1], [2**40]]},
        "/v1/chat/completions/batch": {"messages": KINDS},
        "/v1/completions": {
            "return_token_ids": ["x", 1, [], {}],
            "truncate_prompt_tokens": ["x", 0.5, [], {}, 0, -2],
            "truncation_side": ["x", 1, [], {}],
            "allowed_token_ids": ["x", 1, {}, ["a"], [-1]],
            "request_id": [1, True, [], {}, "a b", "x" * 65],
        },
        "/invocations": {"x": [1], "input": [1, True, {}, [], [{}]], "query": [1, []]},
    }
    for path, kinds in fields.items():
        for name, values in kinds.items():
            usual = {"prompt": "x"} if path in ("/tokenize", "/v1/completions") else {}
            if name == "messages":
                usual = {}
            cases += [("/vllm" + path, {**usual, name: value}) for value in values]
    with serving(FakeRuntime()) as url, httpx.Client(base_url=url, timeout=10) as client:
        wrong = [refused(client, path, json.dumps(body).encode()) for path, body in cases]

    assert len(cases) > 50
    assert [each for each in wrong if each] == []
