"""llama-server's paths."""

from __future__ import annotations

from typing import Final

from tests.fuzz import fields
from tests.fuzz.constraints import schema
from tests.fuzz.endpoint import Endpoint, Fields, chat, embeddings, get, unsupported
from tests.fuzz.fields import FLAG, few, ids, one, prompt

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
