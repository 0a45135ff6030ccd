"""POST /v1/completions: JSON → requests, one for each prompt. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.dialects.fields import Fields, integer
from service.dialects.formats import parse_format
from service.dialects.openai.chat_request import (
    MAX_ANSWERS,
    parse_stream_options,
    prompt_logprobs,
)
from service.dialects.openai.extras import parse_extras
from service.dialects.sampling import (
    NONE,
    parse_sampling,
    parse_standing,
    parse_truncation,
    top_logprobs,
)
from service.generation import GenerationRequest, Infill, Text, Tokens

MAX_PROMPTS: Final = 1024


@dataclass(frozen=True)
class CompletionOptions:
    n: int
    best_of: int
    # One for each prompt, empty strings where nothing is echoed; and where ids are, whose text takes
    # the model to know.
    echoes: tuple[str, ...]
    echo: bool = False
    # max_tokens 0: the prompt is only scored, and the one token that was sampled is left out.
    scoring: bool = False
    logprobs: int | None = None
    include_usage: bool = False
    continuous_usage: bool = False
    token_ids_for_pieces: bool = False
    token_ids: bool = False


def parse_completions(
    fields: Fields,
    *,
    id: str,
    arrived: float,
    endpoint: str,
    default_max_tokens: int | None,
    timeout: float | None = None,
    dialect: str = "openai",
    defaults: Mapping[str, Any] = NONE,
) -> tuple[list[GenerationRequest], CompletionOptions]:
    prompts = parse_prompts(fields)
    suffix = fields.text("suffix") or ""
    if suffix and not all(isinstance(prompt, str) for prompt in prompts):
        raise fields.bad("suffix", "needs the prompt as text")
    options = parse_completion_options(fields, prompts)
    limit = fields.integer("max_tokens", low=0, high=2**31 - 1)
    if limit == 0 and not options.scoring:
        raise fields.bad("max_tokens", "must be at least 1, or 0 together with echo")
    stream = fields.flag("stream")
    logprobs = options.logprobs
    asked_prompt = prompt_logprobs(fields, stream)
    # The best are found by their log-probabilities, whether those are shown or not.
    needed = options.best_of > options.n
    extras = parse_extras(fields)
    given: dict[str, Any] = {"max_tokens": default_max_tokens, **defaults, **extras.sampling}
    if limit is not None:
        given["max_tokens"] = max(limit, 1)
    sampling = parse_sampling(
        fields,
        **given,
        logprobs=0 if needed and logprobs is None else logprobs,
        token_ids=options.token_ids,
        prompt_logprobs=logprobs
        if options.echo and prompts[0] != "" and asked_prompt is None
        else asked_prompt,
    )
    model = fields.model()
    shape = parse_format(fields)
    special = fields.flag("add_special_tokens", True)
    requests = [
        GenerationRequest(
            id=f"{id}-{number}" if number else id,
            model=model,
            input=input_of(prompt, suffix, special),
            arrived=arrived,
            dialect=dialect,
            endpoint=endpoint,
            sampling=sampling,
            response_format=shape,
            n=options.best_of,
            stream=stream,
            timeout=timeout,
            truncation=parse_truncation(fields),
            keep_alive=extras.keep_alive,
            load=extras.load,
            **parse_standing(fields),
        )
        for number, prompt in enumerate(prompts)
    ]
    return requests, options


def input_of(prompt: str | Tokens, suffix: str, special: bool) -> Text | Tokens | Infill:
    """A suffix is only for models that were trained to fill in; others refuse it by that name."""
    if isinstance(prompt, Tokens):
        return prompt
    return Infill(prompt, suffix) if suffix else Text(prompt, special)


def parse_prompts(
    fields: Fields, key: str = "prompt", most: int = MAX_PROMPTS
) -> list[str | Tokens]:
    """A string, strings, token ids, or lists of token ids."""
    value = fields.get(key)
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise fields.bad(key, "must be a string, or an array of strings or of token ids")
    if not isinstance(value[0], str | list):
        return [Tokens(ids(fields, key, value))]
    if len(value) > most:
        raise fields.bad(key, f"must not have more than {most} elements")
    prompts: list[str | Tokens] = []
    for number, element in enumerate(value):
        if isinstance(element, str):
            prompts.append(element)
        elif isinstance(element, list):
            prompts.append(Tokens(ids(fields, f"{key}.{number}", element)))
        else:
            raise fields.bad(f"{key}.{number}", "must be a string or an array of token ids")
    return prompts


def ids(fields: Fields, key: str, values: list[Any]) -> tuple[int, ...]:
    for number, value in enumerate(values):
        # The usual case inline: a prompt may have a million of them.
        if type(value) is not int or not 0 <= value < 2**31:
            integer(fields, f"{key}.{number}", value, 0, 2**31 - 1)
    return tuple(values)


def parse_completion_options(fields: Fields, prompts: Sequence[str | Tokens]) -> CompletionOptions:
    n = fields.integer("n", low=1, high=MAX_ANSWERS) or 1
    best_of = fields.integer("best_of", low=1, high=MAX_ANSWERS) or n
    if best_of < n:
        raise fields.bad("best_of", "must not be smaller than n")
    stream = fields.flag("stream")
    if best_of > n and stream:
        raise fields.bad("best_of", "cannot be streamed: it takes all answers to choose from them")
    echo = fields.flag("echo")
    include, continuous = parse_stream_options(fields, stream)
    return CompletionOptions(
        n=n,
        best_of=best_of,
        echoes=tuple(p if echo and isinstance(p, str) else "" for p in prompts),
        echo=echo,
        scoring=echo and fields.get("max_tokens") == 0,
        logprobs=top_logprobs(fields, "logprobs"),
        include_usage=include,
        continuous_usage=continuous,
        token_ids_for_pieces=fields.flag("return_tokens_as_token_ids"),
        token_ids=fields.flag("return_token_ids"),
    )
