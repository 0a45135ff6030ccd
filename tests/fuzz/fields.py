"""What a field of a request may hold: for each name, how to draw a value that is meant to work.

Answers are kept short, since thousands of them are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Final

from tests.fuzz.constraints import gbnf, regex, schema
from tests.fuzz.values import Make, text

MODELS: Final = ("demo", "demo:latest", "", "default", "DEMO", "nope", "org/demo:latest")
WORDS: Final = ("hi", "2+2=", "What is 3 + 4?", "Count to 5.", "\U0001f600", "")


def one(*values: Any) -> Make:
    return lambda random: random.choice(values)


def few(random: Random) -> int:
    return random.choice((1, 1, 2, 4, 8))


def prompt(random: Random) -> str:
    return text(random) if random.random() < 0.3 else random.choice(WORDS)


def ids(random: Random) -> list[int]:
    return [random.randrange(520) for _ in range(random.randrange(1, 8))]


def prompts(random: Random) -> Any:
    single = prompt(random)
    return random.choice((single, [single, prompt(random)], ids(random), [ids(random)], [single]))


def call(random: Random) -> dict[str, Any]:
    arguments = random.choice(('{"a": 1, "b": 2}', "{}", "{", "", "[]", text(random)))
    return {
        "id": random.choice(("call_1", "", text(random)[:64])),
        "type": "function",
        "function": {"name": random.choice(("add", "none", "")), "arguments": arguments},
    }


def part(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"type": "text", "text": prompt(random)},
            {"type": "text", "text": prompt(random)},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}},
            {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
            {"type": "nonsense"},
        )
    )


def message(random: Random) -> dict[str, Any]:
    match random.randrange(8):
        case 0:
            return {"role": "system", "content": prompt(random)}
        case 1:
            return {"role": "assistant", "content": None, "tool_calls": [call(random)]}
        case 2:
            return {"role": "tool", "tool_call_id": "call_1", "content": prompt(random)}
        case 3:
            return {"role": "user", "content": [part(random) for _ in range(2)]}
        case 4:
            return {
                "role": random.choice(("assistant", "developer", "function", "User", "nobody")),
                "content": prompt(random),
                "reasoning_content": "hm",
            }
        case _:
            return {"role": "user", "content": prompt(random)}


def messages(random: Random) -> list[dict[str, Any]]:
    asked = {"role": "user", "content": random.choice(WORDS)}
    if random.random() < 0.5:
        return [asked]
    return [message(random) for _ in range(random.randrange(4))] + [asked]


def function(random: Random) -> dict[str, Any]:
    return {
        "name": random.choice(("add", "get_weather", "a" * 64, "a b", "")),
        "description": prompt(random),
        "parameters": schema(random) if random.random() < 0.5 else {"type": "object"},
    }


def tools(random: Random) -> list[dict[str, Any]]:
    return [
        {"type": random.choice(("function", "function", "custom")), "function": function(random)}
        for _ in range(random.choice((0, 1, 1, 2)))
    ]


def tool_choice(random: Random) -> Any:
    named = {"type": "function", "function": {"name": random.choice(("add", "none"))}}
    return random.choice(("none", "auto", "required", "any", named))


def response_format(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"type": "text"},
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "x", "schema": schema(random)}},
            {"type": "json_object", "schema": schema(random)},
            {"type": "json_object", "value": schema(random)},
            {"type": "regex", "value": regex(random)},
            {"type": "grammar", "value": gbnf(random)},
            {"type": "nonsense"},
        )
    )


def structured(random: Random) -> dict[str, Any]:
    return random.choice(
        (
            {"json": schema(random)},
            {"regex": regex(random)},
            {"choice": ["yes", "no", prompt(random)]},
            {"grammar": gbnf(random)},
            {"json_object": True},
            {"structural_tag": "x"},
        )
    )


def biases(random: Random) -> dict[str, Any]:
    keys = random.sample(("1", "5", "511", "512", "99999", "-1", "x", "٣"), 2)
    return {key: random.choice((-100, 100, 0, 1.5, False, 1000)) for key in keys}


def options(random: Random) -> dict[str, Any]:
    return drawn(random, OPTIONS, 4) | {"num_predict": few(random)}


def drawn(random: Random, fields: Mapping[str, Make], most: int) -> dict[str, Any]:
    """Some of these fields, each with a value of its own kind."""
    names = random.sample(sorted(fields), random.randrange(min(most, len(fields)) + 1))
    return {name: fields[name](random) for name in names}


FLAG: Final = one(True, False)
SHARE: Final = one(0, 0.0, 0.1, 0.5, 1, 1.0)
SAMPLING: Final[Mapping[str, Make]] = {
    "temperature": one(0, 1e-9, 0.7, 1.0, 2.0, 1e-320),
    "top_p": SHARE,
    "min_p": SHARE,
    "typical_p": SHARE,
    "top_k": one(-1, 0, 1, 40, 2**31 - 1),
    "top_n_sigma": one(-1.0, 0.0, 1.0),
    "seed": one(0, 1, -1, 2**63 - 1, -(2**63), 2**32),
    "stop": one("a", ["a", "b"], [], "", ["\n\n"], "\U0001f600", ["x"] * 16),
    "presence_penalty": one(-2, 0, 2.0),
    "frequency_penalty": one(-2, 0, 2.0),
    "repetition_penalty": one(0.01, 1.0, 10),
    "repeat_penalty": one(0.01, 1.0, 10),
    "repeat_last_n": one(-1, 0, 64, 2**31 - 1),
    "logit_bias": biases,
    "dry_multiplier": one(0, 0.8, 100),
    "dry_base": one(1, 1.75, 100.0),
    "dry_allowed_length": one(0, 2, 2**31 - 1),
    "dry_penalty_last_n": one(-1, 0, 2**31 - 1),
    "dry_sequence_breakers": one([], ["\n", ":"], ["\U0001f600" * 16], [""]),
    "xtc_probability": SHARE,
    "xtc_threshold": SHARE,
    "mirostat": one(0, 1, 2),
    "mirostat_tau": one(0, 5.0, 100),
    "mirostat_eta": one(0, 0.1, 100),
    "dynatemp_range": one(0, 0.5, 10),
    "dynatemp_exponent": one(0, 1, 100),
}
VLLM: Final[Mapping[str, Make]] = {
    "min_tokens": one(0, 1, 3),
    "stop_token_ids": one([2], [], [511], [99999]),
    "include_stop_str_in_output": FLAG,
    "ignore_eos": FLAG,
    "skip_special_tokens": FLAG,
    "truncate_prompt_tokens": one(-1, 1, 2, 0),
    "truncation_side": one("left", "right", "middle"),
    "allowed_token_ids": one([1, 2, 3], [], [99999], [300]),
    "add_special_tokens": FLAG,
    "structured_outputs": structured,
    "guided_json": schema,
    "guided_regex": regex,
    "guided_choice": one(["a", "b"], [], [""]),
    "guided_grammar": gbnf,
    "include_reasoning": FLAG,
    "priority": one(0, -5, 10),
    "request_id": one("abc", "a b", "x" * 64),
    "return_token_ids": FLAG,
    "return_tokens_as_token_ids": FLAG,
    "prompt_logprobs": one(0, 1, 5),
    "echo": FLAG,
}
LOOSE: Final[Mapping[str, Make]] = {
    "grammar": gbnf,
    "json_schema": schema,
    "options": options,
    "num_ctx": one(1, 128, 256),
    "think": one(True, False, "low", "nonsense"),
    "format": one("json", "", {"type": "object"}, "xml"),
    "keep_alive": one(300, "5m", "-1", -1, "1h30m", "x"),
    "n_predict": one(1, 4),
    "return_progress": FLAG,
    "timings_per_token": FLAG,
    "cache_prompt": FLAG,
    "id_slot": one(-1, 0),
}
CHAT: Final[Mapping[str, Make]] = {
    **SAMPLING,
    **VLLM,
    **LOOSE,
    "model": one(*MODELS),
    "n": one(1, 2, 3),
    "stream": FLAG,
    "stream_options": one({"include_usage": True}, {"continuous_usage_stats": True}, {}),
    "logprobs": FLAG,
    "top_logprobs": one(0, 1, 20),
    "response_format": response_format,
    "tools": tools,
    "tool_choice": tool_choice,
    "parallel_tool_calls": FLAG,
    "functions": lambda random: [function(random)],
    "function_call": one("auto", "none", {"name": "add"}),
    "reasoning_effort": one("none", "low", "high", "extreme"),
    "reasoning_format": one("none", "auto"),
    "chat_template_kwargs": one({"enable_thinking": True}, {"x": 1}, {"messages": []}),
    "documents": one([], [{"title": "t", "text": "x"}]),
    "add_generation_prompt": FLAG,
    "continue_final_message": FLAG,
    "modalities": one(["text"], ["audio"]),
    "metadata": one({"a": "b"}),
    "user": text,
}
COMPLETION: Final[Mapping[str, Make]] = {
    **SAMPLING,
    **VLLM,
    **LOOSE,
    "model": one(*MODELS),
    "n": one(1, 2),
    "best_of": one(1, 2, 3),
    "stream": FLAG,
    "stream_options": one({"include_usage": True}, {}),
    "logprobs": one(0, 1, 5),
    "suffix": one("", "tail"),
    "response_format": response_format,
}
OPTIONS: Final[Mapping[str, Make]] = {
    **{
        name: SAMPLING[name]
        for name in (
            "temperature", "top_p", "min_p", "typical_p", "top_k", "seed", "repeat_penalty",
            "repeat_last_n", "presence_penalty", "frequency_penalty", "mirostat", "mirostat_tau",
            "mirostat_eta",
        )
    },
    "stop": one(["a"], [], ["\n\n"]),
    "num_keep": one(-1, 0, 4, 2**31 - 1),
    # For more than there is, the model would be loaded anew, with room for very long answers.
    "num_ctx": one(0, 64, 128, 256, -1),
    "num_batch": one(1, 512),
    "num_gpu": one(-1, 0, 99),
    "num_thread": one(0, 4),
    "use_mmap": FLAG,
    "tfs_z": one(1.0, 0.5),
    "tensor_split": one("0.5,0.5", [1], "x", "nan", {}),
}  # fmt: skip
