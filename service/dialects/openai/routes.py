"""The OpenAI dialect: /v1/chat/completions, completions, responses, embeddings, models.

Unprefixed, /v1 is a superset: OpenAI's shapes and errors, and beside them the parameters and
fields that clients of vLLM and llama-server know.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.dialects.admission import admitted, identity, read_fields, tokenized
from service.dialects.answers import collect
from service.dialects.dialect import Dialect
from service.dialects.failures import Failure
from service.dialects.fields import Fields
from service.dialects.gone import unless_gone
from service.dialects.manner import OPENAI, Manner, identified
from service.dialects.model_defaults import defaults_for
from service.dialects.openai import models as openai_models
from service.dialects.openai.chat_encode import encode_chat, encode_prompt, shown
from service.dialects.openai.chat_request import HARMLESS, parse_chat, parse_options
from service.dialects.openai.completions_encode import encode_completions
from service.dialects.openai.completions_request import parse_completions
from service.dialects.openai.embeddings import embeddings
from service.dialects.openai.extras import beyond, parse_extras, without_effect
from service.dialects.openai.shapes import (
    Envelope,
    encode_error,
    fingerprint,
)
from service.dialects.prompt_progress import Watched
from service.dialects.respond import Answers, Stream, gathered, json, tell_cut, tell_ignored
from service.dialects.responses import routes as responses
from service.dialects.several import Several
from service.dialects.state import State
from service.errors import InvalidRequest
from service.generation import Chat, GenerationRequest, Tokens
from service.telemetry.http import exchange_of

if TYPE_CHECKING:
    from service.serving.runtime import Generation


async def chat_completions(request: Request[State]) -> Response:
    return await chat(request, await read_fields(request, "openai"))


async def chat(request: Request[State], fields: Fields, manner: Manner = OPENAI) -> Response:
    names = manner.reasoning_fields or request.state["settings"].reasoning_fields
    options = parse_options(fields, names)
    wanted = parse_chat(
        fields,
        **identified(request, fields),
        dialect=manner.name,
        prefills=manner.prefills,
        defaults=defaults_for(request, fields),
    )
    progress, with_prompt = fields.flag("return_progress"), fields.flag("return_prompt_text")
    tell_ignored(request, fields, HARMLESS)
    if fields.flag("echo") and not options.echo:
        exchange_of(request.scope).ignored.append("echo")
    if progress and not wanted.stream:
        exchange_of(request.scope).ignored.append("return_progress")
    generation = await admitted(request, wanted)
    tell_extras(request, fields, generation, wanted)
    envelope = envelope_of("chatcmpl", wanted, generation)
    text = generation.prompt_text if with_prompt else None
    told = encode_prompt(options, generation.prompt_ids, text)
    if wanted.stream:
        chunks = manner.chat_chunks(envelope, options, generation.prompt_tokens, wanted.n, told)
        answers: Answers = generation
        if progress:
            look = partial(request.state["runtime"].progress, wanted.id)
            answers = Watched(generation, look, chunks.tell)
        return tell_cut(Stream(answers, chunks, request), generation.cut_tokens)
    events = await gathered(request, generation)
    found = collect(shown(events, options))
    body = encode_chat(envelope, found, options, told)
    return tell_cut(json(manner.finished(body, found), events), generation.cut_tokens)


async def completions(request: Request[State]) -> Response:
    return await complete(request, await read_fields(request, "openai"))


async def complete(request: Request[State], fields: Fields, manner: Manner = OPENAI) -> Response:
    settings = request.state["settings"]
    wanted, options = parse_completions(
        fields,
        default_max_tokens=settings.completions_default_max_tokens,
        dialect=manner.name,
        defaults=defaults_for(request, fields),
        **identified(request, fields),
    )
    tell_ignored(request, fields, HARMLESS)
    if options.echo:
        options = replace(options, echoes=await echoed(request, wanted, options.echoes))
    numbers = {each.id: number for number, each in enumerate(wanted)}
    prompt_ids: dict[int, Sequence[int]] = {}
    prompt_tokens: dict[int, int] = {}
    cut: list[int] = []

    async def admit(each: GenerationRequest) -> Generation:
        generation = await admitted(request, each)
        prompt_ids[numbers[each.id]] = generation.prompt_ids
        prompt_tokens[numbers[each.id]] = generation.prompt_tokens
        cut.append(generation.cut_tokens)
        return generation

    answers: Answers
    if len(wanted) == 1:
        answers = first = await admit(wanted[0])
    else:
        answers = several = Several(wanted, admit, settings.parallel_slots)
        first = await several.start()
    tell_extras(request, fields, first, wanted[0])
    if "think" in fields:
        # Nobody thinks in the middle of a text.
        exchange_of(request.scope).ignored.append("think")
    envelope = envelope_of("cmpl", wanted[0], first)
    if wanted[0].stream:
        chunks = manner.completion_chunks(envelope, options, prompt_ids, prompt_tokens)
        return tell_cut(Stream(answers, chunks, request), sum(cut))
    events = await gathered(request, answers)
    found = collect(events)
    body = encode_completions(envelope, found, options, prompt_ids)
    return tell_cut(json(manner.finished(body, found), events), sum(cut))


async def echoed(
    request: Request[State], wanted: Sequence[GenerationRequest], echoes: Sequence[str]
) -> tuple[str, ...]:
    """With the text of prompts that are ids. Raises InvalidRequest for ids that are none."""
    runtime = request.state["runtime"]
    exchange_of(request.scope).model = runtime.resolve(wanted[0].model or None).name
    found = []
    for each, echo in zip(wanted, echoes, strict=True):
        if isinstance(each.input, Tokens):
            telling = runtime.detokenize(each.model, each.input.ids)
            try:
                echo = await unless_gone(request.receive, telling)
            except InvalidRequest as error:
                raise InvalidRequest(error.message, param="prompt") from None
        found.append(echo)
    return tuple(found)


def tell_extras(
    request: Request[State], fields: Fields, generation: Generation, wanted: GenerationRequest
) -> None:
    names = without_effect(parse_extras(fields), generation.facts)
    able = request.state["runtime"].capabilities(generation.card)
    names += [name for name in beyond(wanted.input, able) if name in fields]
    exchange_of(request.scope).ignored += names


async def count_tokens(request: Request[State]) -> Response:
    """llama-server's: how long the prompt of such a request would be."""
    fields = await read_fields(request, "openai")
    wanted = parse_chat(fields, **identity(request))
    assert isinstance(wanted.input, Chat)
    counted = await tokenized(request, wanted.model, wanted.input)
    return json({"object": "response.input_tokens", "input_tokens": len(counted.tokens)})


def envelope_of(kind: str, wanted: GenerationRequest, generation: Generation) -> Envelope:
    card, facts = generation.card, generation.facts
    return Envelope(
        id=f"{kind}-{wanted.id}",
        created=int(time.time()),
        # The client's own word for it comes back, as Ollama and vLLM do it.
        model=wanted.model or generation.model,
        fingerprint=fingerprint(
            facts.engine_version,
            card.digest or card.path,
            card.size_bytes,
            facts.n_seq,
            facts.n_batch,
            facts.kv_layout,
            facts.gpu_offload,
        ),
    )


def worded(failure: Failure) -> tuple[int, dict[str, Any]]:
    return failure.status, encode_error(failure)


async def not_supported(request: Request[State]) -> Response:
    raise HTTPException(501, f"{request.url.path} is not supported by this server")


# What OpenAI has and a server of text models has not: 501, which no client takes for a typing error.
ABSENT: Final = (
    "/v1/moderations",
    "/v1/images/{rest:path}",
    "/v1/audio/{rest:path}",
    "/v1/files",
    "/v1/files/{rest:path}",
    "/v1/batches",
    "/v1/batches/{rest:path}",
    "/v1/fine_tuning/{rest:path}",
)

_ROUTES: Final = [
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/chat/completions/input_tokens", count_tokens, methods=["POST"]),
    Route("/v1/embeddings", embeddings, methods=["POST"]),
    *responses.routes,
    *openai_models.routes,
    *[Route(path, not_supported, methods=["GET", "POST", "DELETE"]) for path in ABSENT],
]

DIALECT: Final = Dialect("openai", _ROUTES, worded)

# The last is the path that Open WebUI has for chats.
at_root: Final = [*_ROUTES, Route("/api/chat/completions", chat_completions, methods=["POST"])]
