"""Sampling parameters under all the names that OpenAI's, vLLM's and llama-server's clients use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from service.dialects.fields import INT64, UINT64, Fields, integer, number
from service.errors import InvalidRequest
from service.generation import AdapterChoice, SamplingParams, Thoughts, Truncation

NONE: Final[Mapping[str, Any]] = {}
MAX_STOPS: Final = 16
MAX_STOP_LENGTH: Final = 256
MAX_BIASES: Final = 1024
MAX_TOP: Final = 20
MAX_ALLOWED: Final = 65536
MAX_SALT: Final = 128
MOST_ADAPTERS: Final = 64
LARGEST_SCALE: Final = 100.0
MAX_WORDS: Final = 256
MAX_WORD_LENGTH: Final = 128
# llama.cpp reads no more of one. Each is held against the whole vocabulary, longer ones for longer:
# so many letters take two seconds with 150 000 tokens, if they are chosen to.
MAX_BREAKERS: Final = 16
MAX_BREAKER_LENGTH: Final = 40
MAX_BREAKERS_LENGTH: Final = 160
# vLLM's name for how many tokens thoughts may have, and llama-server's two.
BUDGETS: Final = ("thinking_token_budget", "reasoning_budget_tokens", "thinking_budget_tokens")

# They would constrain the answer, so to ignore one would be to break a promise.
REFUSED: Final = {
    "use_beam_search": "beam search is not supported",
    "prompt_embeds": "embeddings are not accepted as a prompt",
}


def parse_sampling(fields: Fields, **given: Any) -> SamplingParams:
    """`given` are the parameters that the endpoint names in its own way (max_tokens, logprobs),
    and its own defaults: what the fields say comes before them."""
    for key, reason in REFUSED.items():
        if fields.get(key):
            raise fields.bad(key, reason)
    repetition = fields.number("repetition_penalty", low=0.01, high=10.0)
    # vLLM's name looks at everything so far, llama-server's at a window.
    window = fields.integer("repeat_last_n", low=-1, high=2**31 - 1)
    found = {
        "min_tokens": fields.integer("min_tokens", low=0, high=2**31 - 1),
        "temperature": fields.number("temperature", low=0.0, high=2.0),
        "dynatemp_range": fields.number("dynatemp_range", low=0.0, high=10.0),
        "dynatemp_exponent": fields.number("dynatemp_exponent", low=0.0, high=100.0),
        "top_k": top_k(fields),
        "top_p": fields.number("top_p", low=0.0, high=1.0),
        "min_p": fields.number("min_p", low=0.0, high=1.0),
        "typical_p": fields.number("typical_p", low=0.0, high=1.0),
        "top_n_sigma": fields.number("top_n_sigma", low=-1.0, high=100.0),
        "repeat_penalty": repetition or fields.number("repeat_penalty", low=0.01, high=10.0),
        "repeat_last_n": -1 if repetition is not None and window is None else window,
        "presence_penalty": fields.number("presence_penalty", low=-2.0, high=2.0),
        "frequency_penalty": fields.number("frequency_penalty", low=-2.0, high=2.0),
        "dry_multiplier": fields.number("dry_multiplier", low=0.0, high=100.0),
        "dry_base": fields.number("dry_base", low=1.0, high=100.0),
        "dry_allowed_length": fields.integer("dry_allowed_length", low=0, high=2**31 - 1),
        "dry_penalty_last_n": fields.integer("dry_penalty_last_n", low=-1, high=2**31 - 1),
        "dry_sequence_breakers": breakers(fields),
        "xtc_probability": fields.number("xtc_probability", low=0.0, high=1.0),
        "xtc_threshold": fields.number("xtc_threshold", low=0.0, high=1.0),
        "mirostat": fields.integer("mirostat", low=0, high=2),
        "mirostat_tau": fields.number("mirostat_tau", low=0.0, high=100.0),
        "mirostat_eta": fields.number("mirostat_eta", low=0.0, high=100.0),
        "logit_bias": logit_bias(fields),
        # TGI's clients draw theirs from all that 64 bits can be.
        "seed": fields.integer("seed", low=-INT64 - 1, high=UINT64),
        "stop": stops(fields),
        "stop_token_ids": fields.integers("stop_token_ids", longest=MAX_STOPS * 4),
        "allowed_token_ids": fields.integers("allowed_token_ids", longest=MAX_ALLOWED),
        "bad_words": bad_words(fields),
        "include_stop": fields.claim("include_stop_str_in_output"),
        "ignore_eos": fields.claim("ignore_eos"),
        "skip_special_tokens": fields.claim("skip_special_tokens"),
    }
    stated = {key: value for key, value in found.items() if value is not None and value != ()}
    wanted = {key: value for key, value in given.items() if value is not None} | stated
    sampling = SamplingParams(**wanted)
    if sampling.max_tokens is not None and sampling.min_tokens > sampling.max_tokens > 0:
        raise fields.bad("min_tokens", "must not be larger than max_tokens")
    return sampling


def top_k(fields: Fields) -> int | None:
    """0 and -1 are both words for off."""
    value = fields.integer("top_k", low=-1, high=2**31 - 1)
    return None if value is None else max(value, 0)


def stops(fields: Fields) -> tuple[str, ...]:
    found = fields.strings("stop", most=MAX_STOPS, longest=MAX_STOP_LENGTH)
    return tuple(stop for stop in found if stop)


def breakers(fields: Fields) -> tuple[str, ...]:
    key = "dry_sequence_breakers"
    found = fields.strings(key, most=MAX_BREAKERS, longest=MAX_BREAKER_LENGTH)
    if sum(map(len, found)) > MAX_BREAKERS_LENGTH:
        raise fields.bad(key, f"must not have more than {MAX_BREAKERS_LENGTH} characters together")
    return found


def bad_words(fields: Fields) -> tuple[str, ...]:
    found = fields.strings("bad_words", most=MAX_WORDS, longest=MAX_WORD_LENGTH)
    for index, word in enumerate(found):
        if not word.strip():
            raise fields.bad(f"bad_words.{index}", "has no word in it")
    return found


def parse_thoughts(fields: Fields) -> Thoughts | None:
    """-1 is without a limit."""
    limits = [fields.integer(key, low=-1, high=2**31 - 1) for key in BUDGETS]
    limit = next((limit for limit in limits if limit is not None), -1)
    return None if limit < 0 else Thoughts(limit)


def parse_lora(fields: Fields) -> tuple[AdapterChoice, ...] | None:
    """llama-server's: [{"id": 0, "scale": 0.5}]. Those that are not named are not applied; an empty
    list asks for nothing."""
    fields.list("lora", longest=MOST_ADAPTERS)
    choices = []
    for each in fields.objects("lora"):
        number = each.integer("id", low=0, high=MOST_ADAPTERS)
        if number is None:
            raise each.bad("id", "is missing")
        scale = each.number("scale", low=-LARGEST_SCALE, high=LARGEST_SCALE)
        choices.append(AdapterChoice(number, scale or 0.0))
    return tuple(choices) or None


def parse_standing(fields: Fields) -> dict[str, Any]:
    """vLLM's words for where a request waits, and with whom it shares what was computed; and
    llama-server's for the adapters that are applied to it."""
    salt = fields.text("cache_salt", longest=MAX_SALT)
    if salt == "":
        raise fields.bad("cache_salt", "must not be empty")
    return {
        "cache_salt": salt or "",
        "priority": fields.integer("priority") or 0,
        "adapters": parse_lora(fields),
    }


def logit_bias(fields: Fields) -> dict[int, float] | None:
    biases = fields.object("logit_bias")
    if biases is None:
        return None
    if len(biases.whole()) > MAX_BIASES:
        raise fields.bad("logit_bias", f"must not have more than {MAX_BIASES} elements")
    found = {}
    for key in biases.values:
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            raise biases.bad(key[:64], "is not a token id")
        bias = number(biases, key, biases.values[key], -100.0, 100.0)
        # -100 is documented as a ban, which a finite bias is not.
        found[int(key)] = float("-inf") if bias == -100.0 else bias
    return found


def top_logprobs(fields: Fields, key: str) -> int | None:
    """How many alternatives of each token. vLLM's -1, the whole vocabulary, is refused as it is there
    unless its operator allows it: megabytes for each token, made while everybody else waits."""
    value = fields.get(key)
    if value == -1:
        most = f"must be between 0 and {MAX_TOP}, not -1: a whole vocabulary is not sent"
        raise fields.bad(key, most)
    return None if value is None else integer(fields, key, value, 0, MAX_TOP)


def parse_truncation(fields: Fields, side: Literal["left", "right"] = "left") -> Truncation | None:
    """vLLM's truncate_prompt_tokens: -1 is as many as fit. Where nobody says, `side` is cut off:
    of a prompt its beginning, of a text to embed its end."""
    limit = fields.integer("truncate_prompt_tokens", low=-1, high=2**31 - 1)
    wanted = fields.choice("truncation_side", ("left", "right")) or side
    if limit is None:
        return None
    if limit == 0:
        raise fields.bad("truncate_prompt_tokens", "must be at least 1, or -1 for all that fit")
    return Truncation(None if limit == -1 else limit, side="left" if wanted == "left" else "right")


def timeout_of(value: str | None, limit: float) -> float | None:
    """The X-Request-Timeout header, in seconds: may shorten the operator's limit."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not seconds > 0:
        raise InvalidRequest("X-Request-Timeout must be a number of seconds above 0")
    return min(seconds, limit)
