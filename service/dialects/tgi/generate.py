"""TGI's own endpoints that generate: /generate, /generate_stream, / and its hosts' wrappings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response

from service.dialects.admission import admitted, identity, read_fields, tokenized
from service.dialects.answers import Answer, collect
from service.dialects.fields import Fields
from service.dialects.framing import json_response
from service.dialects.openai.chat_request import HARMLESS as CHAT_HARMLESS
from service.dialects.openai.chat_request import parse_chat
from service.dialects.respond import Stream, gathered, tell_cut, tell_ignored
from service.dialects.several import Several
from service.dialects.state import State
from service.dialects.tgi.encode import TokenEvents, encode_generation, encode_prefill
from service.dialects.tgi.request import HARMLESS, GenerateOptions, over_budget, parse_generate
from service.dialects.tgi.shapes import compute_type, timing_headers
from service.errors import ContextOverflow, InvalidRequest
from service.generation import GenerationRequest, Text
from service.telemetry.http import exchange_of

if TYPE_CHECKING:
    from service.serving.runtime import Generation

MAX_INSTANCES: Final = 128


async def generate(request: Request[State]) -> Response:
    return await generated(request, await read_fields(request, "tgi"), stream=False)


async def generate_stream(request: Request[State]) -> Response:
    return await generated(request, await read_fields(request, "tgi"), stream=True)


async def compat_generate(request: Request[State]) -> Response:
    return await compat(request, await read_fields(request, "tgi"))


async def compat(request: Request[State], fields: Fields) -> Response:
    """As the hosted API had it: `stream` in the body, and the answer in an array."""
    return await generated(request, fields, stream=fields.flag("stream"), listed=True)


async def generated(
    request: Request[State], fields: Fields, *, stream: bool, listed: bool = False
) -> Response:
    wanted, options = parse_generate(fields, **identity(request), stream=stream)
    tell_ignored(request, fields, HARMLESS)
    exchange_of(request.scope).ignored += options.ignored
    generation = await fitting(request, wanted, options)
    facts = generation.facts
    if stream:
        streamed = Stream(
            generation, TokenEvents(options, facts, generation.prompt_tokens), request
        )
        streamed.headers["x-compute-type"] = compute_type(facts)
        streamed.headers["x-compute-characters"] = str(len(options.inputs))
        return tell_cut(streamed, generation.cut_tokens)
    answers = collect(await gathered(request, generation))
    prefill = await scored(request, options, generation, answers) if options.prefill else []
    body = encode_generation(answers, options, facts, prefill)
    headers = timings(request, answers, generation, options.inputs)
    return tell_cut(
        json_response([body] if listed else body, headers=headers), generation.cut_tokens
    )


async def fitting(
    request: Request[State], wanted: GenerationRequest, options: GenerateOptions
) -> Generation:
    """Admitted, with room for all that was asked for: TGI promises no less."""
    try:
        generation = await admitted(request, wanted)
    except ContextOverflow as overflow:
        tokens, longest = overflow.prompt_tokens, overflow.context_length
        if tokens >= longest:
            # Whatever the answer's length.
            raise
        raise over_budget(tokens, longest, options) or overflow from None
    longest = generation.facts.n_ctx_seq
    if error := over_budget(generation.prompt_tokens, longest, options):
        # It cut the prompt where there was nothing to cut.
        await generation.aclose()
        raise error
    return generation


async def scored(
    request: Request[State],
    options: GenerateOptions,
    generation: Generation,
    answers: list[Answer],
) -> list[dict[str, Any]]:
    scores = next((a.prompt_logprobs for a in answers if a.prompt_logprobs is not None), ())
    found = await tokenized(request, generation.model, Text(options.inputs))
    pieces = dict(zip(found.tokens, found.pieces, strict=True))
    return encode_prefill(generation.prompt_ids, pieces, scores)


def timings(
    request: Request[State], answers: list[Answer], generation: Generation, inputs: str
) -> dict[str, str]:
    end = next((a.finished for a in answers if a.finished is not None), None)
    arrived = exchange_of(request.scope).arrived
    return timing_headers(end, generation.facts, len(inputs), arrived) if end else {}


async def vertex(request: Request[State]) -> Response:
    """Google's wrapping: many requests in one, and of each answer the text alone."""
    fields = await read_fields(request, "tgi")
    if not fields.list("instances", longest=MAX_INSTANCES):
        raise fields.bad("instances", "must have at least one element")
    wanted = [
        instance_of(request, instance, number)
        for number, instance in enumerate(fields.objects("instances"))
    ]
    tell_ignored(request, fields, ("parameters",))
    window = request.state["settings"].parallel_slots
    several = Several(wanted, lambda each: admitted(request, each), window)
    await several.start()
    answers = collect(await gathered(request, several))
    return json_response({"predictions": [answer.text for answer in answers]})


def instance_of(request: Request[State], fields: Fields, number: int) -> GenerationRequest:
    given = identity(request)
    given["id"] = f"{given['id']}-{number}" if number else given["id"]
    if "messages" in fields:
        wanted = parse_chat(fields, **given, dialect="tgi")
        if wanted.n != 1:
            raise fields.bad("n", "must be 1 where there are several instances")
    else:
        wanted, options = parse_generate(fields, **given, do_sample=True)
        exchange_of(request.scope).ignored += options.ignored
        if wanted.n != 1:
            raise InvalidRequest(
                "`best_of` != 1 is not allowed for this endpoint", param="parameters.best_of"
            )
    tell_ignored(request, fields, {*HARMLESS, *CHAT_HARMLESS})
    return wanted
