"""TGI's /v1/chat/completions and /v1/completions: OpenAI's requests, TGI's shapes."""

from __future__ import annotations

import time
from typing import Final

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from service.dialects.admission import admitted, identity, read_fields
from service.dialects.answers import collect
from service.dialects.fields import Fields
from service.dialects.framing import json_response
from service.dialects.openai.chat_request import HARMLESS, parse_chat, parse_options
from service.dialects.openai.completions_request import parse_completions
from service.dialects.openai.shapes import Envelope
from service.dialects.respond import Answers, Stream, gathered, tell_ignored
from service.dialects.several import Several
from service.dialects.state import State
from service.dialects.tgi.chat_encode import (
    ChatEvents,
    CompletionEvents,
    encode_chat,
    encode_completions,
)
from service.dialects.tgi.generate import timings
from service.dialects.tgi.request import MAX_PROMPTS
from service.dialects.tgi.shapes import FINGERPRINT
from service.generation import GenerationRequest, SamplingParams

# TGI's words for "the model that is here".
PLACEHOLDERS: Final = ("tgi", "dummy", "")
# What its completions have no place for.
NOT_TGIS: Final = ("suffix", "echo", "best_of", "logprobs", "prompt_logprobs")


async def chat_completions(request: Request[State]) -> Response:
    return await chat(request, await read_fields(request, "tgi"))


async def chat(request: Request[State], fields: Fields) -> Response:
    options = parse_options(fields, request.state["settings"].reasoning_fields)
    wanted = with_stops(parse_tgi_chat(request, fields))
    tell_ignored(request, fields, HARMLESS)
    generation = await admitted(request, wanted)
    envelope = envelope_of(wanted, generation.model)
    if wanted.stream:
        return Stream(generation, ChatEvents(envelope, options, wanted.n), request)
    answers = collect(await gathered(request, generation))
    return json_response(
        encode_chat(envelope, answers, options), headers=timings(request, answers, generation, "")
    )


def parse_tgi_chat(request: Request[State], fields: Fields) -> GenerationRequest:
    if "response_format" in fields and fields.list("tools"):
        raise fields.bad("tools", "Grammar and tools are mutually exclusive")
    return parse_chat(fields, **identity(request), dialect="tgi")


async def completions(request: Request[State]) -> Response:
    return await complete(request, await read_fields(request, "tgi"))


async def complete(request: Request[State], fields: Fields) -> Response:
    prompts = fields.get("prompt")
    if isinstance(prompts, list) and len(prompts) > MAX_PROMPTS:
        raise fields.bad(
            "prompt", f"Number of prompts exceeds the maximum allowed batch size of {MAX_PROMPTS}"
        )
    for key in NOT_TGIS:
        if fields.get(key):
            raise fields.bad(key, "is not supported under /tgi; /v1/completions has it")
    parsed, options = parse_completions(
        fields, **identity(request), default_max_tokens=None, dialect="tgi"
    )
    tell_ignored(request, fields, HARMLESS)
    wanted = [with_stops(each) for each in parsed]
    window = request.state["settings"].parallel_slots
    answers: Answers
    answers = several = Several(wanted, lambda each: admitted(request, each), window)
    first = await several.start()
    envelope = envelope_of(wanted[0], first.model)
    if wanted[0].stream:
        return Stream(answers, CompletionEvents(envelope), request)
    found = collect(await gathered(request, answers))
    return json_response(
        encode_completions(envelope, found, options), headers=timings(request, found, first, "")
    )


def with_stops(wanted: GenerationRequest) -> GenerationRequest:
    """TGI's answers end with the stop string that ended them, chats too."""
    sampling: SamplingParams = replace(wanted.sampling, include_stop=True)
    return replace(wanted, sampling=sampling)


def envelope_of(wanted: GenerationRequest, name: str) -> Envelope:
    model = name if wanted.model in PLACEHOLDERS else wanted.model
    return Envelope(id="", created=int(time.time()), model=model, fingerprint=FINGERPRINT)
