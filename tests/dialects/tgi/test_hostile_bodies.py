"""Every wrong type of every field that TGI has is a 422 in TGI's shape that names the field."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx

from tests.dialects.fakes import FakeRuntime
from tests.dialects.serving import serving
from tests.dialects.test_hostile_bodies import raw

HUGE = 10**18
NUMBERS = [
    "temperature", "repetition_penalty", "frequency_penalty", "top_p", "typical_p",
]  # fmt: skip
INTEGERS = ["best_of", "top_k", "max_new_tokens", "truncate", "seed", "top_n_tokens"]
FLAGS = ["do_sample", "return_full_text", "watermark", "details", "decoder_input_details"]
NO_TEXT: list[Any] = [1, 1.5, True, [], {}, ["x"]]


def parameters() -> Iterator[tuple[str, Any]]:
    kinds: dict[str, list[Any]] = {
        **dict.fromkeys(NUMBERS, ["x", True, [], {}, -HUGE]),
        **dict.fromkeys(INTEGERS, ["x", True, [], {}, 0.5, -HUGE]),
        **dict.fromkeys(FLAGS, ["x", 1, 0.5, [], {}]),
        "stop": [1, True, {}, [1], [[]], ["x"] * 5, ["x" * 257]],
        "adapter_id": NO_TEXT,
        "grammar": ["x", 1, True, []],
    }
    yield from ((name, value) for name, values in kinds.items() for value in values)
    schemas: list[Any] = [1, [], "{", "[" * 100_000, {"properties": {"x" * 70_000: {}}}, {}]
    yield from (("grammar", {"type": "json", "value": schema}) for schema in schemas)
    patterns: list[Any] = [[], 1, {}, "(a", "a{1000000}"]
    yield from (("grammar", {"type": "regex", "value": pattern}) for pattern in patterns)


def test_every_wrong_parameter_is_refused_at_once_by_name() -> None:
    wrong: list[Any] = []
    cases = list(parameters())
    with serving(FakeRuntime()) as url, httpx.Client(base_url=url, timeout=10) as client:
        for name, value in cases:
            body = {"inputs": "hi", "parameters": {name: value}}
            started = time.monotonic()
            response = client.post("/generate", json=body)
            seconds = time.monotonic() - started
            error = response.json().get("error", "")
            if response.status_code != 422 or seconds >= 1 or name not in error:
                wrong.append((name, str(value)[:60], response.status_code, seconds, error))

    assert len(cases) > 100
    assert wrong == []


def test_every_wrong_body_is_refused_at_once_in_tgis_shape() -> None:
    kinds: dict[str, list[Any]] = {
        "inputs": [None, "", *NO_TEXT],
        "parameters": ["x", 1, True, []],
        "stream": ["x", 1, [], {}],
        "model": [1, True, [], {}, "x" * 1000],
    }
    bodies = [{"inputs": "x", name: value} for name, values in kinds.items() for value in values]
    wrong: list[Any] = []
    with serving(FakeRuntime()) as url, httpx.Client(base_url=url, timeout=10) as client:
        for path in ("/", "/tgi/"):
            for body in bodies:
                response = client.post(path, json=body)
                if response.status_code != 422 or response.json()["error_type"] != "validation":
                    wrong.append((path, body, response.status_code, response.text[:100]))
        for content in raw():
            response = client.post("/generate", content=content)
            if not 400 <= response.status_code < 500 or "error_type" not in response.json():
                wrong.append(("/generate", content[:60], response.status_code, response.text[:100]))

    assert wrong == []


def test_every_wrong_chat_is_refused_in_tgis_shape() -> None:
    message = {"role": "user", "content": "hi"}
    values: dict[str, list[Any]] = {
        "messages": [None, "x", 1, [], {}, [1], [{}]],
        "temperature": ["x", [], {}, True, -1, 3],
        "tools": ["x", 1, {}, [1], [{}]],
        "response_format": ["x", 1, [], {}],
        "stream": ["x", 1, [], {}],
        "stop": [1, {}, [1]],
        "seed": ["x", 0.5, []],
        "max_tokens": ["x", 0, -1, []],
    }
    cases = [(name, {name: value}) for name, kinds in values.items() for value in kinds]
    wrong: list[Any] = []
    with serving(FakeRuntime()) as url, httpx.Client(base_url=url, timeout=10) as client:
        for name, fields in cases:
            body = {"messages": [message], **fields}
            response = client.post("/tgi/v1/chat/completions", json=body)
            if response.status_code != 422 or name not in response.json()["error"]:
                wrong.append((name, fields, response.status_code, response.text[:100]))

    assert wrong == []
