"""llama-server's /completion and /infill."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from service.dialects.admission import admitted, identity, read_fields, tokenized
from service.dialects.answers import collect
from service.dialects.fields import Fields
from service.dialects.llama_server.encode import CompletionChunks, Envelope, encode_completion
from service.dialects.llama_server.request import (
    HARMLESS,
    Options,
    Prompt,
    parse_completion,
    parse_infill,
    parse_prompts,
    skip_idle,
)
from service.dialects.llama_server.shapes import NAME
from service.dialects.model_defaults import defaults_for
from service.dialects.prompt_progress import Watched
from service.dialects.respond import Answers, Stream, gathered, json, tell_ignored
from service.dialects.several import Several
from service.dialects.state import State
from service.generation import GenerationRequest, Infill, Text, Tokens

if TYPE_CHECKING:
    from service.serving.runtime import Generation


def asked_of(request: Request[State], fields: Fields) -> dict[str, Any]:
    return {**identity(request), "defaults": defaults_for(request, fields)}


async def completion(request: Request[State]) -> Response:
    fields = await read_fields(request, NAME)
    prompts = parse_prompts(fields)
    wanted, options = parse_completion(fields, prompts, **asked_of(request, fields))
    skip_idle(fields)
    tell_ignored(request, fields, HARMLESS)
    wanted = await biased(request, wanted, options)
    inputs = [await joined(request, wanted.model, prompt) for prompt in prompts]
    return await answered(request, wanted, inputs, options)


async def infill(request: Request[State]) -> Response:
    fields = await read_fields(request, NAME)
    prefix, suffix, extra, begun = parse_infill(fields)
    wanted, options = parse_completion(fields, (), **asked_of(request, fields))
    skip_idle(fields)
    tell_ignored(request, fields, HARMLESS)
    wanted = await biased(request, wanted, options)
    # The order of the three parts is the model's; what it makes of them can be looked at.
    found = await tokenized(request, wanted.model, Infill(prefix, suffix))
    return await answered(request, wanted, [Text(extra + found.prompt + begun)], options)


async def answered(
    request: Request[State],
    wanted: GenerationRequest,
    inputs: list[Text | Tokens],
    options: Options,
) -> Response:
    requests = [
        replace(wanted, id=f"{wanted.id}-{number}" if number else wanted.id, input=input)
        for number, input in enumerate(inputs)
    ]
    answers: Answers
    if len(requests) == 1:
        answers = first = await admitted(request, requests[0])
    else:
        window = request.state["settings"].parallel_slots
        answers = several = Several(requests, lambda each: admitted(request, each), window)
        first = await several.start()
    envelopes = [
        envelope_of(each, first, await shown(request, each), index)
        for index, each in enumerate(requests)
    ]
    if wanted.stream:
        chunks = CompletionChunks(envelopes[0], options)
        if options.progress:
            look = partial(request.state["runtime"].progress, wanted.id)
            answers = Watched(answers, look, chunks.tell)
        return Stream(answers, chunks, request)
    events = await gathered(request, answers)
    bodies = [
        encode_completion(envelopes[answer.index], answer, options) for answer in collect(events)
    ]
    return json(bodies if options.several else bodies[0], events)


def envelope_of(
    wanted: GenerationRequest, generation: Generation, prompt: str, index: int
) -> Envelope:
    return Envelope(
        model=wanted.model or generation.model,
        prompt=prompt,
        prompt_tokens=generation.prompt_tokens,
        n_ctx=generation.facts.n_ctx_seq,
        sampling=wanted.sampling,
        index=index,
        stream=wanted.stream,
    )


async def shown(request: Request[State], wanted: GenerationRequest) -> str:
    """The prompt as text."""
    match wanted.input:
        case Text(prompt=prompt):
            return prompt
        case Tokens(ids=ids):
            return await request.state["runtime"].detokenize(wanted.model, ids)
    raise AssertionError(wanted.input)


async def joined(request: Request[State], model: str, prompt: Prompt) -> Text | Tokens:
    """The parts of a prompt in a row: only the first of them begins a text."""
    if len(prompt) == 1 and isinstance(prompt[0], str):
        return Text(prompt[0])
    ids: list[int] = []
    for number, part in enumerate(prompt):
        if isinstance(part, str):
            found = await tokenized(request, model, Text(part, add_special_tokens=number == 0))
            ids += found.tokens
        else:
            ids += part
    return Tokens(tuple(ids))


async def biased(
    request: Request[State], wanted: GenerationRequest, options: Options
) -> GenerationRequest:
    """With the biases of words, which are those of each of their tokens."""
    if not options.word_biases:
        return wanted
    biases: dict[int, float] = {}
    for word, bias in options.word_biases:
        found = await tokenized(request, wanted.model, Text(word, add_special_tokens=False))
        biases |= dict.fromkeys(found.tokens, bias)
    sampling = replace(wanted.sampling, logit_bias=biases | wanted.sampling.logit_bias)
    return replace(wanted, sampling=sampling)
