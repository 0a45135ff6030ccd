"""vLLM's paths."""

from __future__ import annotations

from typing import Final

from tests.fuzz import fields
from tests.fuzz.endpoint import Endpoint, chat, completion, embeddings, get, unsupported
from tests.fuzz.fields import FLAG, few, ids, messages, one, prompt, prompts
from tests.fuzz.of_anthropic import ANTHROPIC, anthropic_messages
from tests.fuzz.of_openai import RESPONSE, response_input

VLLM: Final = [
    chat("vllm", "/vllm/v1/chat/completions", 10),
    completion("vllm", "/vllm/v1/completions", 8),
    Endpoint(
        "vllm",
        "/vllm/v1/chat/completions/batch",
        {"messages": lambda random: [messages(random) for _ in range(2)], "max_tokens": few},
        fields.CHAT,
        weight=2,
    ),
    embeddings("vllm", "/vllm/v1/embeddings"),
    Endpoint(
        "vllm",
        "/vllm/tokenize",
        {"prompt": prompt},
        {"return_token_strs": FLAG, "add_special_tokens": FLAG, "model": one(*fields.MODELS)},
        weight=3,
    ),
    Endpoint("vllm", "/vllm/tokenize", {"messages": messages}, fields.CHAT, weight=2),
    Endpoint("vllm", "/vllm/detokenize", {"tokens": ids}, {"model": one(*fields.MODELS)}, weight=2),
    Endpoint("vllm", "/detokenize", {"tokens": ids}),
    Endpoint("vllm", "/tokenize", {"prompt": prompt}),
    Endpoint(
        "vllm",
        "/vllm/score",
        {"text_1": prompt, "text_2": lambda random: [prompt(random), prompt(random)]},
        {"model": one(*fields.MODELS), "truncate_prompt_tokens": one(-1, 4, 0)},
        weight=3,
    ),
    *[
        Endpoint(
            "vllm",
            path,
            {"query": prompt, "documents": lambda random: [prompt(random), {"text": "x"}]},
            {"top_n": one(0, 1, 99), "return_documents": FLAG, "max_tokens_per_doc": one(0, 3)},
            unsupported=True,
        )
        for path in ("/vllm/rerank", "/v1/rerank", "/v2/rerank")
    ],
    Endpoint("vllm", "/vllm/invocations", {"prompt": prompts, "max_tokens": few}),
    Endpoint("vllm", "/vllm/invocations", {"messages": messages, "max_tokens": few}),
    *get("vllm", "/vllm/v1/models", "/vllm/version", "/vllm/load", "/vllm/health", "/load"),
    *[Endpoint("vllm", path) for path in ("/vllm/sleep", "/vllm/wake_up", "/abort_requests")],
    Endpoint(
        "vllm",
        "/vllm/v1/load_lora_adapter",
        {"lora_name": one("", "demo", "x"), "lora_path": one("", "x.gguf", "../x", "/etc/passwd")},
    ),
    Endpoint("vllm", "/v1/unload_lora_adapter", {"lora_name": one("", "x")}),
    Endpoint(
        "vllm",
        "/vllm/v1/responses",
        {"input": response_input, "max_output_tokens": few},
        RESPONSE,
        weight=3,
    ),
    Endpoint(
        "anthropic",
        "/vllm/v1/messages",
        {"messages": anthropic_messages, "max_tokens": few},
        ANTHROPIC,
        weight=3,
    ),
    *unsupported("vllm", "/vllm/pooling", "/classify"),
]
