"""Requests of every dialect, and of every end that a request can have."""

from __future__ import annotations

import contextlib
from typing import Any, Final

import httpx

MESSAGES: Final = [{"role": "user", "content": "What is 7 plus 5?"}]
CHAT: Final = {"model": "demo", "messages": MESSAGES, "max_tokens": 12}
LONG: Final = {**CHAT, "max_tokens": 400, "ignore_eos": True, "stream": True}

ASKED: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True, "max_tokens": 64}),
    ("/v1/completions", {"model": "demo", "prompt": "a", "max_tokens": 4}),
    ("/v1/embeddings", {"model": "demo", "input": "a"}),
    ("/api/chat", {"model": "demo", "messages": MESSAGES, "options": {"num_predict": 8}}),
    ("/api/generate", {"model": "demo", "prompt": "a", "stream": False}),
    ("/v1/messages", CHAT),
    ("/generate", {"inputs": "a", "parameters": {"max_new_tokens": 4}}),
    ("/vllm/v1/chat/completions", CHAT),
    ("/completion", {"prompt": "a", "n_predict": 4}),
    # What is refused.
    ("/v1/chat/completions", {**CHAT, "model": "none-such"}),
    ("/v1/chat/completions", {**CHAT, "temperature": 99}),
    ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": "a b " * 9000}]}),
)


def all_dialects(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as http:
        for path, body in ASKED:
            http.post(path, json=body)
        with http.stream("POST", "/v1/chat/completions", json=LONG) as answer:
            next(answer.iter_bytes(), None)
        http.get("/api/tags")


def unload(url: str) -> None:
    """In Ollama's way, which the model's next request undoes."""
    with contextlib.suppress(httpx.ReadTimeout):
        httpx.post(url + "/api/generate", json={"model": "demo", "keep_alive": 0}, timeout=60)
