"""POST /generate and its relatives: JSON → GenerationRequest. Pure.

What TGI refuses it refuses in words of its own, and its clients match them; other clients have
learned to read the field's name off the beginning. Both get what they look for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from service.dialects.fields import UINT64, Fields
from service.dialects.formats import named_schema, regex, schema
from service.errors import InvalidRequest
from service.events import Finished, FinishReason
from service.generation import (
    AdapterChoice,
    GenerationRequest,
    ResponseFormat,
    SamplingParams,
    Text,
    Truncation,
)

MAX_BEST_OF: Final = 2
MAX_STOPS: Final = 4
MAX_STOP_LENGTH: Final = 256
MAX_TOP: Final = 5
MAX_PROMPTS: Final = 4
LAST: Final = 2**31 - 1

# Accepted, and without effect on the text: how to use the hosted service, and who asks.
HARMLESS: Final = frozenset({"options", "model_kwargs", "task"})


@dataclass(frozen=True)
class GenerateOptions:
    """What concerns the answer's wire shape alone. `full_text` goes before the answer's."""

    inputs: str
    max_new_tokens: int | None
    full_text: str = ""
    details: bool = False
    prefill: bool = False
    top_n_tokens: int = 0
    sampling: bool = False
    truncate: int | None = None
    ignored: tuple[str, ...] = ()

    def finish_reason(self, end: Finished) -> str:
        """TGI looks at the length first: an end token that comes last of all it does not see."""
        limit = self.max_new_tokens
        if limit is not None and end.usage.generation_tokens >= limit:
            return "length"
        if end.reason is not FinishReason.STOP:
            return "length"
        return "stop_sequence" if isinstance(end.stop, str) else "eos_token"

    def seed(self, end: Finished) -> int | None:
        """The seed that was used; none is where the likeliest token is always taken."""
        return end.seed if self.sampling else None


def parse_generate(
    fields: Fields,
    *,
    id: str,
    arrived: float,
    endpoint: str,
    timeout: float | None = None,
    stream: bool = False,
    do_sample: bool = False,
) -> tuple[GenerationRequest, GenerateOptions]:
    """`do_sample` is what the endpoint takes where the client does not say."""
    inputs = parse_inputs(fields)
    given = fields.object("parameters") or Fields({}, "parameters")
    options = parse_options(given, inputs, stream, do_sample)
    n = best_of(given, options.sampling, stream)
    adapter = given.text("adapter_id", longest=512)
    request = GenerationRequest(
        id=id,
        model=fields.model(),
        input=Text(inputs),
        arrived=arrived,
        dialect="tgi",
        endpoint=endpoint,
        sampling=parse_sampling(given, options, shown=stream or options.details or n > 1),
        response_format=parse_grammar(given),
        n=n,
        stream=stream,
        timeout=timeout,
        truncation=None if options.truncate is None else Truncation(options.truncate),
        adapters=(AdapterChoice(adapter),) if adapter else None,
    )
    # There is no key to mark the text with.
    unheeded = [given.name("watermark")] if given.flag("watermark") else []
    return request, replace(options, ignored=tuple(unheeded))


def parse_inputs(fields: Fields) -> str:
    inputs = fields.text("inputs")
    if inputs is None:
        hint = "; `prompt` is for /v1/completions" if "prompt" in fields else ""
        raise fields.bad("inputs", "is missing" + hint)
    if not inputs:
        raise InvalidRequest("`inputs` cannot be empty", param="inputs")
    return inputs


def parse_options(given: Fields, inputs: str, stream: bool, do_sample: bool) -> GenerateOptions:
    prefill = given.flag("decoder_input_details")
    if prefill and stream:
        raise refused(
            given,
            "decoder_input_details",
            "`decoder_input_details` == true is not supported when streaming tokens",
        )
    top = given.integer("top_n_tokens")
    if top is not None and not 0 <= top <= MAX_TOP:
        text = f"`top_n_tokens` must be >= 0 and <= {MAX_TOP}. Given: {top}"
        raise refused(given, "top_n_tokens", text)
    truncate = given.integer("truncate", high=LAST)
    if truncate is not None and truncate < 1:
        raise refused(given, "truncate", f"`truncate` must be strictly positive. Given: {truncate}")
    limit = given.integer("max_new_tokens", high=LAST)
    if limit is not None and limit < 1:
        raise refused(given, "max_new_tokens", "`max_new_tokens` must be strictly positive")
    said = any(given.get(key) is not None for key in ("temperature", "top_k", "top_p", "typical_p"))
    return GenerateOptions(
        inputs=inputs,
        max_new_tokens=limit,
        full_text=inputs if given.flag("return_full_text") else "",
        details=given.flag("details") or prefill,
        prefill=prefill,
        top_n_tokens=top or 0,
        sampling=given.flag("do_sample", do_sample) or said,
        truncate=truncate,
    )


def best_of(given: Fields, sampling: bool, stream: bool) -> int:
    wanted = given.integer("best_of")
    if wanted is None or wanted == 1:
        return 1
    if not 0 < wanted <= MAX_BEST_OF:
        text = f"`best_of` must be > 0 and <= {MAX_BEST_OF}. Given: {wanted}"
    elif stream:
        text = "`best_of` != 1 is not supported when streaming tokens"
    elif not sampling:
        text = "you must use sampling when `best_of` is > 1"
    elif "seed" in given:
        text = "`seed` must not be set when `best_of` > 1"
    else:
        return wanted
    raise refused(given, "best_of", text)


def parse_sampling(given: Fields, options: GenerateOptions, *, shown: bool) -> SamplingParams:
    """`shown`: the answer's tokens are wanted, or their likelihood is."""
    temperature = positive(given, "temperature")
    repetition = positive(given, "repetition_penalty")
    frequency = given.number("frequency_penalty")
    if frequency is not None and not -2.0 <= frequency <= 2.0:
        text = "`frequency_penalty` must be >= -2.0 and <= 2.0"
        raise refused(given, "frequency_penalty", text)
    top_k = given.integer("top_k", high=LAST)
    if top_k is not None and top_k < 1:
        raise refused(given, "top_k", "`top_k` must be strictly positive")
    return SamplingParams(
        max_tokens=options.max_new_tokens,
        temperature=(temperature or 1.0) if options.sampling else 0.0,
        top_k=top_k or 0,
        # TGI refuses 1.0, which says "off"; many clients send it.
        top_p=share(given, "top_p", also=1.0),
        typical_p=share(given, "typical_p"),
        repeat_penalty=repetition or 1.0,
        repeat_last_n=-1,
        frequency_penalty=frequency or 0.0,
        seed=given.integer("seed", low=0, high=UINT64),
        stop=parse_stops(given),
        # Unlike everybody else's, TGI's answers end with the stop string.
        include_stop=True,
        # A token that is shown has its own, also where no alternatives are wanted.
        logprobs=options.top_n_tokens if shown else None,
        prompt_logprobs=0 if options.prefill else None,
        token_ids=options.prefill,
        must_fit=True,
    )


def parse_stops(given: Fields) -> tuple[str, ...]:
    value = given.get("stop")
    if isinstance(value, list) and len(value) > MAX_STOPS:
        text = f"`stop` supports up to {MAX_STOPS} stop sequences. Given: {len(value)}"
        raise refused(given, "stop", text)
    found = given.strings("stop", most=MAX_STOPS, longest=MAX_STOP_LENGTH)
    return tuple(stop for stop in found if stop)


def parse_grammar(given: Fields) -> ResponseFormat:
    grammar = given.object("grammar")
    if grammar is None:
        return ResponseFormat()
    word = grammar.choice("type", ("json", "json_object", "regex", "json_schema"))
    if word is None:
        raise grammar.bad("type", "is missing")
    if "value" not in grammar:
        raise grammar.bad("value", "is missing")
    if word == "regex":
        return regex(grammar, "value")
    shape = schema(grammar, "value") if word != "json_schema" else value_schema(grammar)
    if not isinstance(shape.schema, dict) or "properties" not in shape.schema:
        raise refused(
            grammar, "value", "grammar is not valid: Grammar must have a 'properties' field"
        )
    return shape


def value_schema(grammar: Fields) -> ResponseFormat:
    config = grammar.object("value")
    if config is None or "schema" not in config:
        raise grammar.bad("value.schema", "is missing")
    return named_schema(config)


def positive(given: Fields, key: str) -> float | None:
    value = given.number(key)
    if value is not None and value <= 0:
        raise refused(given, key, f"`{key}` must be strictly positive")
    return value


def share(given: Fields, key: str, *, also: float | None = None) -> float:
    value = given.number(key)
    if value is None or value == also:
        return 1.0
    if not 0.0 < value < 1.0:
        raise refused(given, key, f"`{key}` must be > 0.0 and < 1.0")
    return value


def refused(given: Fields, key: str, text: str) -> InvalidRequest:
    return InvalidRequest(text, param=given.name(key))


def over_budget(tokens: int, longest: int, options: GenerateOptions) -> InvalidRequest | None:
    """What can be said only once the prompt's tokens are counted."""
    wanted, truncate = options.max_new_tokens or 0, options.truncate or 0
    if truncate >= longest:
        return InvalidRequest(
            f"`truncate` must be strictly positive and less than {longest}. Given: {truncate}",
            param="parameters.truncate",
        )
    if tokens + wanted > longest:
        return InvalidRequest(
            f"`inputs` tokens + `max_new_tokens` must be <= {longest}. "
            f"Given: {tokens} `inputs` tokens and {wanted} `max_new_tokens`",
            param="parameters.max_new_tokens",
        )
    return None
