"""The paths of each dialect, and bodies that they are meant to answer.

`wording` is the dialect that words what fails there. `unsupported` are paths that say 501 on
purpose, for every request of this method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from tests.fuzz import fields
from tests.fuzz.constraints import regex, schema
from tests.fuzz.fields import FLAG, drawn, few, ids, messages, one, prompt, prompts
from tests.fuzz.values import Make, text

Fields = Mapping[str, Make]


@dataclass(frozen=True)
class Endpoint:
    """`needs` are fields that every body has, `may` those of which each has some."""

    wording: str
    path: str
    needs: Fields = field(default_factory=dict)
    may: Fields = field(default_factory=dict)
    method: str = "POST"
    weight: int = 1
    unsupported: bool = False

    def body(self, random: Random) -> dict[str, Any] | None:
        if self.method != "POST" and not self.needs:
            return None
        return {name: make(random) for name, make in self.needs.items()} | drawn(
            random, self.may, random.choice((0, 1, 2, 5))
        )


def get(wording: str, *paths: str) -> list[Endpoint]:
    return [Endpoint(wording, path, method="GET") for path in paths]


def unsupported(wording: str, *paths: str, method: str = "POST") -> list[Endpoint]:
    return [Endpoint(wording, path, method=method, unsupported=True) for path in paths]


def chat(wording: str, path: str, weight: int = 8) -> Endpoint:
    needs = {"messages": messages, "max_tokens": few}
    return Endpoint(wording, path, needs, fields.CHAT, weight=weight)


def completion(wording: str, path: str, weight: int = 5) -> Endpoint:
    needs = {"prompt": prompts, "max_tokens": few}
    return Endpoint(wording, path, needs, fields.COMPLETION, weight=weight)


def embeddings(wording: str, path: str, key: str = "input") -> Endpoint:
    may = {
        "model": one(*fields.MODELS),
        "encoding_format": one("float", "base64", "int8"),
        "dimensions": one(1, 64, 128, 10**6),
        "normalize": FLAG,
        "truncate_prompt_tokens": one(-1, 2),
        "add_special_tokens": FLAG,
    }
    return Endpoint(wording, path, {key: prompts}, may, weight=2)


def item(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"role": "user", "content": prompt(random)},
            {"role": "user", "content": [{"type": "input_text", "text": prompt(random)}]},
            {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": prompt(random)},
            {"type": "reasoning", "summary": [], "encrypted_content": None},
            {"type": "item_reference", "id": "x"},
        )
    )


def flat_tools(random: Random) -> list[dict[str, Any]]:
    return [{"type": random.choice(("function", "web_search")), **fields.function(random)}]


RESPONSE: Final[Fields] = {
    **fields.SAMPLING,
    "model": one(*fields.MODELS),
    "instructions": prompt,
    "stream": FLAG,
    "store": FLAG,
    "tools": flat_tools,
    "tool_choice": fields.tool_choice,
    "text": lambda random: {"format": fields.response_format(random)},
    "reasoning": one({"effort": "low"}, {"effort": "none", "summary": "auto"}, {"effort": "x"}),
    "previous_response_id": one("resp_none", "", "x" * 300),
    "include": one([], ["message.output_text.logprobs"], ["nonsense"]),
    "truncation": one("auto", "disabled"),
    "top_logprobs": one(0, 3),
    "background": one(False),
    "metadata": one({}, {"a": "b"}),
}


def response_input(random: Random) -> Any:
    asked = {"role": "user", "content": "hi"}
    return random.choice(
        (prompt(random), [asked], [item(random) for _ in range(3)] + [asked], [item(random)])
    )


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


def grammar(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"type": "json", "value": schema(random)},
            {"type": "regex", "value": regex(random)},
            {"type": "json_schema", "value": {"name": "x", "schema": schema(random)}},
            {"type": "json", "value": '{"properties": {"a": {}}}'},
        )
    )


def parameters(random: Random) -> dict[str, Any]:
    return drawn(random, PARAMETERS, 6) | {"max_new_tokens": few(random)}


PARAMETERS: Final[Fields] = {
    "best_of": one(1, 1, 2),
    "do_sample": FLAG,
    "temperature": one(0.5, 0.7, 1.0, 1e-9, 0),
    "top_k": one(1, 40, 10**6, 0),
    "top_p": one(0.5, 0.9, 1.0, 0.0),
    "typical_p": one(0.5, 0.9, 1e-9, 1.0),
    "repetition_penalty": one(1.0, 1.5, 0.01, 0),
    "frequency_penalty": one(-2, 0, 2, 2, 3),
    "return_full_text": FLAG,
    "stop": one(["a"], [], ["a"] * 5),
    "truncate": one(1, 2, 0, 10**6),
    "watermark": FLAG,
    "details": FLAG,
    "decoder_input_details": FLAG,
    "seed": one(0, 2**64 - 1, -1),
    "top_n_tokens": one(0, 5, 6),
    "grammar": grammar,
    "adapter_id": one("", "x"),
}

OPENAI: Final = [
    chat("openai", "/v1/chat/completions", 14),
    chat("openai", "/openai/v1/chat/completions", 2),
    chat("openai", "/api/chat/completions", 1),
    chat("openai", "/v1/chat/completions/input_tokens", 1),
    completion("openai", "/v1/completions", 8),
    embeddings("openai", "/v1/embeddings"),
    Endpoint(
        "openai",
        "/v1/responses",
        {"input": response_input, "max_output_tokens": few},
        RESPONSE,
        weight=8,
    ),
    Endpoint("openai", "/v1/responses/input_tokens", {"input": response_input}, RESPONSE),
    *get("openai", "/v1/models", "/v1/models/demo", "/v1/models/org%2Fdemo", "/v1/models/nope"),
    *get("openai", "/v1/responses/resp_none", "/openai/v1/models", "/v1/models/"),
    Endpoint("openai", "/v1/responses/resp_none", method="DELETE"),
    Endpoint("openai", "/v1/responses/resp_none/cancel"),
    *unsupported("openai", "/v1/moderations", "/v1/images/generations", "/v1/audio/speech"),
    *unsupported("openai", "/v1/files", "/v1/batches", method="GET"),
]
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
    *unsupported("vllm", "/vllm/pooling", "/classify"),
]
TGI: Final = [
    *[
        Endpoint("tgi", path, {"inputs": prompt, "parameters": parameters}, weight=weight)
        for path, weight in (
            ("/generate", 10), ("/generate_stream", 8), ("/tgi/generate", 3), ("/tgi", 2),
        )
    ],
    *[
        Endpoint(
            "tgi", path, {"inputs": prompt, "parameters": parameters}, {"stream": FLAG}, weight=3
        )
        for path in ("/", "/tgi/", "/hf/v1/completions", "/tgi/invocations")
    ],
    chat("tgi", "/tgi/v1/chat/completions", 6),
    completion("tgi", "/tgi/v1/completions", 4),
    chat("tgi", "/chat_tokenize", 2),
    Endpoint("tgi", "/tgi/tokenize", {"inputs": prompt}, {"parameters": parameters}, weight=2),
    Endpoint("tgi", "/tokenize", {"inputs": prompt}),
    Endpoint(
        "tgi",
        "/vertex",
        {"instances": lambda random: [{"inputs": prompt(random), "parameters": parameters(random)}]},
        weight=2,
    ),
    *get("tgi", "/info", "/tgi/info", "/info?model=nope", "/tgi/health", "/tgi/v1/models", "/tgi/"),
]  # fmt: skip
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
PROMPT_PARTS: Final = ("a", ["a", 1, "b"], [1, 2], ["a", "b"], [[1], "x"])
LLAMA: Final[Fields] = {
    **fields.SAMPLING,
    "stream": FLAG,
    "n_probs": one(0, 2, 20),
    "grammar": fields.LOOSE["grammar"],
    "json_schema": schema,
    "return_tokens": FLAG,
    "return_progress": FLAG,
    "response_fields": one([], ["content"], ["timings/prompt_n", "nope"], ["/"]),
    "logit_bias": lambda random: random.choice(
        (fields.biases(random), [[1, 2.0], ["word", False]], [["", 1]], [[5, "x"]])
    ),
    "n_keep": one(-1, 0, 4),
    "n_discard": one(0, -1, 2**31),
    "t_max_predict_ms": one(0, 5),
    "cache_prompt": FLAG,
    "id_slot": one(-1, 0, 99),
    "samplers": one([], ["top_k"], "x"),
    "lora": one([], [{"id": 0, "scale": 1}]),
}
LLAMA_SERVER: Final = [
    Endpoint(
        "llama-server",
        "/completion",
        {
            "prompt": lambda random: random.choice((prompt(random), *PROMPT_PARTS)),
            "n_predict": few,
        },
        LLAMA,
        weight=12,
    ),
    Endpoint(
        "llama-server",
        "/llama-server/completions",
        {"prompt": prompt, "n_predict": few},
        LLAMA,
        weight=2,
    ),
    Endpoint(
        "llama-server",
        "/infill",
        {"input_prefix": prompt, "input_suffix": prompt, "n_predict": few},
        {
            **LLAMA,
            "input_extra": one([], [{"text": "x", "filename": "a.py"}], [{}]),
            "prompt": prompt,
        },
        weight=3,
    ),
    chat("llama-server", "/apply-template", 3),
    Endpoint(
        "llama-server",
        "/llama-server/tokenize",
        {"content": lambda random: random.choice((prompt(random), *PROMPT_PARTS))},
        {"add_special": FLAG, "parse_special": FLAG, "with_pieces": FLAG},
        weight=3,
    ),
    Endpoint("llama-server", "/tokenize", {"content": prompt}, {"with_pieces": FLAG}),
    Endpoint("llama-server", "/llama-server/detokenize", {"tokens": ids}, weight=2),
    embeddings("llama-server", "/embedding", "content"),
    embeddings("llama-server", "/embeddings"),
    chat("llama-server", "/llama-server/v1/chat/completions", 2),
    *get("llama-server", "/props", "/slots", "/slots?fail_on_no_slot=1", "/lora-adapters"),
    *get("llama-server", "/models", "/running", "/props?model=nope", "/llama-server/models"),
    Endpoint("llama-server", "/models/load", {"model": one("demo", "nope", "")}),
    Endpoint("llama-server", "/models/unload", {"model": one("nope", "", "demo")}),
    *unsupported("llama-server", "/props", "/slots/0?action=erase", "/slots/99"),
]
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

DIALECTS: Final[Mapping[str, Sequence[Endpoint]]] = {
    "openai": OPENAI,
    "ollama": OLLAMA,
    "vllm": VLLM,
    "tgi": TGI,
    "anthropic": ANTHROPICS,
    "llama-server": LLAMA_SERVER,
    "seed": SEED,
}
