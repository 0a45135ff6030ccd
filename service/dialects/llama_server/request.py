"""POST /completion and /infill: JSON → requests, one for each prompt. Pure.

Tokens and text may be mixed in one prompt, and logit_bias may name words: both take a tokenizer,
so what is read here are parts, and `llama_server` puts them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from service.dialects.fields import Fields, integer, kind, number
from service.dialects.formats import parse_format
from service.dialects.openai.completions_request import MAX_PROMPTS, ids
from service.dialects.sampling import MAX_BIASES, MAX_TOP, NONE, parse_lora, parse_sampling
from service.generation import GenerationRequest, Text

# What llama-server samples with where nothing is said.
DEFAULTS: Final[dict[str, Any]] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "repeat_last_n": 64,
}
# Accepted, and without effect: any slot, any cache gives the same text, and timings always come
# with the last chunk.
HARMLESS: Final = frozenset(("cache_prompt", "id_slot", "timings_per_token"))
# They would constrain the answer, or are not text.
REFUSED: Final = ("image_data", "multimodal_data")
# Values that ask for nothing. The context is never shifted: an answer ends where it is full.
IDLE: Final[dict[str, tuple[Any, ...]]] = {
    "n_keep": (0, -1),
    "n_discard": (0,),
    "n_indent": (0,),
    "min_keep": (0,),
    "t_max_predict_ms": (0, -1),
    "t_max_prompt_ms": (0, -1),
    "post_sampling_probs": (False,),
    "return_progress": (False,),
    "penalize_nl": (False,),
    "samplers": ([],),
}

# A prompt: text, or token ids and texts in a row.
Part = str | tuple[int, ...]
Prompt = tuple[Part, ...]


@dataclass(frozen=True)
class Options:
    """What concerns the answer's wire shape, and what takes a tokenizer to be read."""

    prompts: tuple[Prompt, ...]
    # Several answers come as an array, even if there is one.
    several: bool = False
    return_tokens: bool = False
    # n_predict 0: the prompt is computed and cached; the one token that was sampled is left out.
    prompt_only: bool = False
    response_fields: tuple[str, ...] = ()
    # How far the prompt is, told in a stream.
    progress: bool = False
    # (text, bias): each of its tokens gets it.
    word_biases: tuple[tuple[str, float], ...] = ()


def parse_completion(
    fields: Fields,
    prompts: tuple[Prompt, ...],
    *,
    id: str,
    arrived: float,
    endpoint: str,
    timeout: float | None = None,
    defaults: Mapping[str, Any] = NONE,
) -> tuple[GenerationRequest, Options]:
    """The request has no prompt yet."""
    for key in REFUSED:
        if fields.get(key):
            raise fields.bad(key, "only text is supported: this model has no projector")
    limit = fields.integer("n_predict", low=-2, high=2**31 - 1)
    if limit is None:
        limit = fields.integer("max_tokens", low=-2, high=2**31 - 1)
    biases, words = parse_biases(fields)
    several = isinstance(fields.get("prompt"), list) and len(prompts) > 1
    stream = fields.flag("stream")
    if several and stream:
        raise fields.bad("stream", "several prompts cannot be streamed")
    # A stream tells them in any case.
    return_tokens = fields.flag("return_tokens") or stream
    probabilities = fields.integer("n_probs", low=0, high=MAX_TOP)
    known = {key: value for key, value in fields.values.items() if key != "logit_bias"}
    read = fields.altered(known)
    sampling = parse_sampling(
        read,
        **DEFAULTS
        | dict(defaults)
        | {
            "max_tokens": None if limit is None or limit < 0 else max(limit, 1),
            "logprobs": probabilities or None,
            "logit_bias": biases or None,
            "token_ids": return_tokens or None,
        },
    )
    shape, adapters = parse_format(read), parse_lora(read)
    request = GenerationRequest(
        id=id,
        model=fields.model(),
        input=Text(""),
        arrived=arrived,
        dialect="llama-server",
        endpoint=endpoint,
        sampling=sampling,
        response_format=shape,
        stream=stream,
        timeout=timeout,
        adapters=adapters,
    )
    return request, Options(
        prompts,
        several,
        return_tokens,
        limit == 0,
        fields.strings("response_fields", most=64, longest=256),
        fields.flag("return_progress") and stream,
        words,
    )


def parse_prompts(fields: Fields) -> tuple[Prompt, ...]:
    """One text; one row of token ids, texts among them or not; or a list of such prompts."""
    value = fields.get("prompt")
    if isinstance(value, str):
        return ((value,),)
    if isinstance(value, dict):
        return (parse_object(fields, "prompt", value),)
    if not isinstance(value, list) or not value:
        raise fields.bad("prompt", "must be a string, or an array of strings or of token ids")
    if any(isinstance(part, int) for part in value):
        return (parse_row(fields, "prompt", value),)
    if len(value) > MAX_PROMPTS:
        raise fields.bad("prompt", f"must not have more than {MAX_PROMPTS} elements")
    return tuple(parse_element(fields, f"prompt.{at}", each) for at, each in enumerate(value))


def parse_element(fields: Fields, key: str, value: Any) -> Prompt:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, dict):
        return parse_object(fields, key, value)
    if not isinstance(value, list):
        raise fields.bad(key, f"must be a string or an array of token ids, not {kind(value)}")
    return parse_row(fields, key, value)


def parse_object(fields: Fields, key: str, value: dict[str, Any]) -> Prompt:
    """{"prompt_string": text}, beside which media could stand."""
    if value.get("multimodal_data"):
        raise fields.bad(key, "only text is supported: this model has no projector")
    text = value.get("prompt_string")
    if not isinstance(text, str):
        raise fields.bad(f"{key}.prompt_string", f"must be a string, not {kind(text)}")
    return (text,)


def parse_row(fields: Fields, key: str, values: list[Any]) -> Prompt:
    parts: list[Part] = []
    row: list[Any] = []
    for at, value in enumerate([*values, None]):
        if isinstance(value, str) or at == len(values):
            if row:
                parts.append(ids(fields, key, row))
                row = []
            if isinstance(value, str):
                parts.append(value)
        elif isinstance(value, bool) or not isinstance(value, int):
            raise fields.bad(f"{key}.{at}", f"must be a token id or a string, not {kind(value)}")
        else:
            row.append(value)
    return tuple(parts)


def parse_biases(fields: Fields) -> tuple[dict[int, float], tuple[tuple[str, float], ...]]:
    """An object, or an array of pairs; of ids, or of texts; false is a ban."""
    value = fields.get("logit_bias")
    if value is None:
        return {}, ()
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list):
        raise fields.bad("logit_bias", f"must be an object or an array, not {kind(value)}")
    if len(pairs) > MAX_BIASES:
        raise fields.bad("logit_bias", f"must not have more than {MAX_BIASES} elements")
    biases: dict[int, float] = {}
    words: list[tuple[str, float]] = []
    for at, pair in enumerate(pairs):
        key = f"logit_bias.{at}"
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise fields.bad(key, "must be a token and its bias")
        token, bias = pair
        banned = bias is False
        amount = float("-inf") if banned else number(fields, key, bias, -1000.0, 1000.0)
        if isinstance(token, str) and not (token.isascii() and token.isdigit() and len(token) < 10):
            if len(token) > 256:
                raise fields.bad(key, "must not be longer than 256 characters")
            words.append((token, amount))
        else:
            number_ = int(token) if isinstance(token, str) else token
            biases[integer(fields, key, number_, 0, 2**31 - 1)] = amount
    return biases, tuple(words)


def parse_infill(fields: Fields) -> tuple[str, str, str, str]:
    """The text before and after what is wanted, what stands in front of it all, and how the
    answer begins."""
    prefix = fields.text("input_prefix")
    if prefix is None:
        raise fields.bad("input_prefix", "is missing")
    suffix = fields.text("input_suffix")
    if suffix is None:
        raise fields.bad("input_suffix", "is missing")
    extra = ""
    for chunk in fields.objects("input_extra"):
        text = chunk.text("text")
        if text is None:
            raise chunk.bad("text", "is missing")
        chunk.text("filename")
        # As llama-server writes it for models that know no marks of files.
        extra += f"\n\n--- snippet ---\n\n{text}"
    return prefix, suffix, extra, fields.text("prompt") or ""


def skip_idle(fields: Fields) -> None:
    """These ask for what happens anyway, so there is nothing to tell of them."""
    for key, idle in IDLE.items():
        if fields.values.get(key) in idle:
            fields.skip((key,))
