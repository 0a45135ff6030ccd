"""Ollama's paths."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tests.fuzz import fields
from tests.fuzz.constraints import schema
from tests.fuzz.endpoint import Endpoint, Fields, get
from tests.fuzz.fields import FLAG, few, ids, one, prompt
from tests.fuzz.values import text


def ollama_message(random: Random) -> dict[str, Any]:
    return {
        "role": random.choice(("user", "system", "assistant", "tool", "USER", "x")),
        "content": prompt(random),
        **random.choice(
            (
                {},
                {},
                {"thinking": "hm"},
                {"images": ["iVBORw0KGgo="]},
                {"tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
                {"tool_name": "add"},
            )
        ),
    }


GENERATING: Final[Fields] = {
    "stream": FLAG,
    "format": lambda random: random.choice(("json", "", schema(random), "xml")),
    "keep_alive": one(300, "5m", "-1", -1, "1h30m", "0.5s", "x", "10000000h"),
    "think": one(True, False, "low", "nonsense"),
    "truncate": FLAG,
    "shift": FLAG,
    "logprobs": FLAG,
    "top_logprobs": one(0, 1, 20, 21, -1),
    "_debug_render_only": FLAG,
}
OLLAMA_CHAT: Final[Fields] = {**GENERATING, "tools": fields.tools}
OLLAMA_GENERATE: Final[Fields] = {
    **GENERATING,
    "suffix": one("", "tail"),
    "system": prompt,
    "template": one("", "{{ .Prompt }}", "{{ .System }} {{ .Prompt }}", "{{", "{{ .No }}"),
    "context": ids,
    "raw": FLAG,
    "images": one([], ["!"], ["iVBORw0KGgo="]),
}
OLLAMA_MODEL: Final = one("demo", "demo", "demo:latest", "nope", "", "a//b", ":")


OLLAMA: Final = [
    Endpoint(
        "ollama",
        "/api/chat",
        {
            "model": OLLAMA_MODEL,
            "messages": lambda random: [ollama_message(random) for _ in range(few(random))],
            "options": fields.options,
        },
        OLLAMA_CHAT,
        weight=12,
    ),
    Endpoint(
        "ollama",
        "/api/generate",
        {"model": OLLAMA_MODEL, "prompt": prompt, "options": fields.options},
        OLLAMA_GENERATE,
        weight=12,
    ),
    Endpoint(
        "ollama",
        "/ollama/api/chat",
        {
            "model": one("demo"),
            "messages": lambda random: [ollama_message(random)],
            "options": fields.options,
        },
        OLLAMA_CHAT,
        weight=3,
    ),
    Endpoint(
        "ollama",
        "/api/embed",
        {
            "model": OLLAMA_MODEL,
            "input": lambda random: random.choice((prompt(random), [prompt(random)] * 3, [], "")),
        },
        {
            "truncate": FLAG,
            "dimensions": one(0, 8, 128, 10**6),
            "options": fields.options,
            "keep_alive": GENERATING["keep_alive"],
        },
        weight=3,
    ),
    Endpoint("ollama", "/api/embeddings", {"model": OLLAMA_MODEL, "prompt": prompt}),
    Endpoint(
        "ollama",
        "/api/show",
        {"model": OLLAMA_MODEL},
        {"name": OLLAMA_MODEL, "verbose": FLAG, "system": text, "options": fields.options},
        weight=3,
    ),
    *get("ollama", "/api/tags", "/api/ps", "/api/version", "/api/status", "/ollama/api/tags"),
    Endpoint("ollama", "/api/tags", method="HEAD"),
    Endpoint("ollama", "/api/me"),
    # None of these comes to anything here: what a model of a client's would be called, and which one
    # a request without a name then means, would depend on the order of requests.
    Endpoint("ollama", "/api/pull", {"model": OLLAMA_MODEL}, {"insecure": FLAG, "stream": FLAG}),
    Endpoint("ollama", "/api/push", {"model": OLLAMA_MODEL}, {"insecure": FLAG, "stream": FLAG}),
    Endpoint(
        "ollama",
        "/api/create",
        {"model": OLLAMA_MODEL, "from": one("nope")},
        {
            "system": text,
            "template": text,
            "license": text,
            "parameters": fields.options,
            "quantize": one("q4_0", "Q8_0", "q99", ""),
            "files": one({}, {"a.gguf": "sha256:" + "0" * 64}, {"a": "../a"}),
            "stream": FLAG,
        },
        weight=3,
    ),
    Endpoint("ollama", "/api/copy", {"source": one("nope"), "destination": text}),
    Endpoint("ollama", "/api/delete", {"model": OLLAMA_MODEL}, method="DELETE"),
    Endpoint("ollama", "/api/blobs/sha256:00"),
    Endpoint("ollama", "/api/blobs/%00"),
]
