"""The service's own paths, but for those that change it."""

from __future__ import annotations

from typing import Final

from tests.fuzz.endpoint import Endpoint, chat, get
from tests.fuzz.fields import few, prompt, prompts
from tests.fuzz.of_tgi import parameters

SEED: Final = [
    *get("ollama", "/api/models", "/api/requests", "/api/progress/none", "/api/progress/%00"),
    *get("ollama", "/api/progress/none?stream=1", "/api/progress/abc?stream=1"),
    *[
        Endpoint("ollama", path)
        for path in (
            "/api/cancel/none", "/api/cancel/abc", "/api/dismiss/none", "/api/dismiss/completed",
        )
    ],
    *get("openai", "/health", "/health/live", "/health/ready", "/version", "/ping", "/nothing"),
    *get("openai", "/health/models/demo", "/health/models/nope", "/"),
    Endpoint("openai", "/ping"),
    chat("openai", "/api/chat/completions", 6),
    Endpoint(
        "tgi", "/hf/v1/completions", {"inputs": prompt, "parameters": parameters}, weight=4
    ),
    Endpoint("openai", "/invocations", {"prompt": prompts, "max_tokens": few}, weight=2),
    Endpoint("openai", "/invocations", {"input": prompts}),
]  # fmt: skip
