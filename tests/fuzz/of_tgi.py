"""TGI's paths."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tests.fuzz.constraints import regex, schema
from tests.fuzz.endpoint import Endpoint, Fields, chat, completion, get
from tests.fuzz.fields import FLAG, drawn, few, one, prompt


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
