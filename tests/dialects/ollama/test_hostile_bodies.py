"""Bodies that no honest client of Ollama sends: each is a 4xx in its shape, in less than a second."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from tests.dialects.fakes import FakeRuntime
from tests.dialects.serving import serving
from tests.dialects.test_hostile_bodies import raw

CHAT = "/api/chat"
GENERATE = "/api/generate"
EMBED = "/api/embed"
LEGACY = "/api/embeddings"
SHOW = "/api/show"
MESSAGE = {"role": "user", "content": "hi"}
LEAST: dict[str, dict[str, Any]] = {
    CHAT: {"model": "demo", "messages": [MESSAGE]},
    GENERATE: {"model": "demo", "prompt": "hi"},
    EMBED: {"model": "demo", "input": "hi"},
    LEGACY: {"model": "demo", "prompt": "hi"},
    SHOW: {"model": "demo"},
}
BOTH = (CHAT, GENERATE)

TEXT: list[Any] = [1, 1.5, True, [], {}, ["x"]]
FLAG: list[Any] = ["true", 1, 0, [], {}]
INTEGER: list[Any] = ["1", 1.5, True, [], {}, 10**18]
OBJECT: list[Any] = ["x", 1, True, []]
ARRAY: list[Any] = ["x", 1, True, {}, [1], ["x"], [[]], [None], [{}]]

# path, field, wrong values
FIELDS: list[tuple[tuple[str, ...], str, list[Any]]] = [
    (tuple(LEAST), "model", TEXT),
    (BOTH, "stream", FLAG),
    (BOTH, "logprobs", FLAG),
    (BOTH, "top_logprobs", [*INTEGER, -1, 21]),
    (BOTH, "format", ["xml", 1, True, []]),
    (BOTH, "think", ["hard", 1, [], {}]),
    (BOTH, "truncate", FLAG),
    (BOTH, "shift", FLAG),
    (BOTH, "_debug_render_only", FLAG),
    ((*BOTH, EMBED, LEGACY), "options", OBJECT),
    ((*BOTH, EMBED, LEGACY), "keep_alive", ["", "5x", "five", True, [], {}]),
    ((GENERATE, LEGACY), "prompt", TEXT),
    ((GENERATE,), "suffix", TEXT),
    ((GENERATE,), "system", TEXT),
    ((GENERATE,), "template", [*TEXT, "{{", "{{ range .Messages }}{{ end }}"]),
    ((GENERATE,), "context", ["x", 1, True, {}, ["1"], [-1], [1.5], [2**40], [[1]], [None]]),
    ((GENERATE,), "raw", FLAG),
    ((GENERATE,), "images", [*ARRAY, ["aGk="]]),
    ((CHAT,), "messages", ARRAY),
    ((CHAT,), "tools", ARRAY),
    ((EMBED,), "input", [1, True, {}, [1], [["x"]], [None], [{}], ["x"] * 3000]),
    ((EMBED,), "truncate", FLAG),
    ((EMBED,), "dimensions", [*INTEGER, -1]),
    ((SHOW,), "verbose", FLAG),
    ((SHOW,), "system", TEXT),
    ((SHOW,), "options", OBJECT),
]
MESSAGES: dict[str, list[Any]] = {
    "role": [*TEXT, "robot", ""],
    "content": [1, True, {}, ["x"], [MESSAGE]],
    "thinking": TEXT,
    "images": [*ARRAY, ["aGk="]],
    "tool_calls": ARRAY,
    "tool_name": TEXT,
    "tool_call_id": TEXT,
}
CALLS: dict[str, list[Any]] = {
    "name": [*TEXT, "", "x" * 300],
    "arguments": ["{}", 1, True, []],
    "index": ["0", 1.5, True, [], {}],
}
OPTIONS: dict[str, list[Any]] = {
    **dict.fromkeys(
        ["num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch",
         "num_gpu", "main_gpu", "num_thread", "draft_num_predict", "mirostat", "num_gqa"],
        ["1", True, [], {}, 1e300],
    ),
    **dict.fromkeys(
        ["temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty",
         "frequency_penalty", "mirostat_tau", "mirostat_eta", "tfs_z"],
        ["1", True, [], {}, 1e300],
    ),
    **dict.fromkeys(["use_mmap", "use_mlock", "numa", "low_vram", "f16_kv"], ["true", 1, [], {}]),
    "stop": ["x", 1, True, {}, [1], [[]], ["x"] * 100, ["x" * 300]],
    "repeat_penalty": [0, -1],
}  # fmt: skip


def named() -> Iterator[tuple[str, dict[str, Any], str]]:
    """(path, body, the field that the error must name)"""
    for paths, field, values in FIELDS:
        for path in paths:
            yield from ((path, {**LEAST[path], field: value}, field) for value in values)
    for field, values in MESSAGES.items():
        for value in values:
            yield CHAT, {"model": "demo", "messages": [{**MESSAGE, field: value}]}, field
    for field, values in CALLS.items():
        for value in values:
            call = {"function": {"name": "f", field: value}}
            message = {"role": "assistant", "tool_calls": [call]}
            yield CHAT, {"model": "demo", "messages": [message]}, field
    for field, values in OPTIONS.items():
        for value in values:
            for path in BOTH:
                yield path, {**LEAST[path], "options": {field: value}}, field


def specific() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in ("../../etc/passwd", "x" * 100_000, "\x00", "a\nb", ":", "/", "http://x:y//"):
        yield from ((path, {**least, "model": name}) for path, least in LEAST.items())
    yield GENERATE, {"model": "demo", "prompt": "x", "raw": True, "system": "y"}
    yield GENERATE, {"model": "demo", "prompt": "x", "template": "{{ (" * 8000}
    yield GENERATE, {"model": "demo", "prompt": "x" * 10**6, "template": "{{.Prompt}}" * 2500}
    yield GENERATE, {"model": "demo", "prompt": "x", "keep_alive": "9" * 10_000}
    yield CHAT, {**LEAST[CHAT], "format": {"description": "x" * 100_000}}
    yield CHAT, {**LEAST[CHAT], "tools": [{"function": {"name": "f"}}] * 10_000}
    yield CHAT, {**LEAST[CHAT], "messages": [MESSAGE, {}] * 5000}


def test_a_wrong_type_of_any_field_is_refused_by_its_name() -> None:
    wrong = []
    bodies = list(named())
    with serving(FakeRuntime()) as url, httpx.Client(base_url=url, timeout=10) as client:
        for path, body, field in bodies:
            response = client.post(path, json=body)
            error = response.json().get("error", "")
            known = field == "model" and "model" in error
            shaped = list(response.json()) == ["error"] and (known or field in error)
            if not 400 <= response.status_code < 500 or not shaped:
                wrong.append((path, str(body)[:120], response.status_code, response.text[:200]))

    assert len(bodies) >= 300
    assert wrong == []


def test_every_hostile_body_is_refused_at_once() -> None:
    bodies = [(path, json.dumps(body).encode()) for path, body in specific()]
    bodies += [(CHAT, body) for body in raw()]
    wrong = []
    with serving(FakeRuntime()) as url, httpx.Client(base_url=url, timeout=10) as client:
        for path, body in bodies:
            headers = {"content-encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {}
            started = time.monotonic()
            response = client.post(path, content=body, headers=headers)
            seconds = time.monotonic() - started
            if not 400 <= response.status_code < 500 or seconds >= 1:
                wrong.append((path, body[:80], response.status_code, seconds, response.text[:100]))
            assert list(response.json()) == ["error"]

    assert wrong == []
