"""OpenAI's Responses API: /v1/responses, and what can be done with one that was made."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.dialects.admission import admitted, identity, read_fields, tokenized
from service.dialects.fields import Fields
from service.dialects.model_defaults import defaults_for
from service.dialects.openai.extras import beyond, parse_extras, without_effect
from service.dialects.opening import Opening
from service.dialects.respond import Stream, gathered, json, tell_cut, tell_ignored
from service.dialects.responses.encode import Envelope, ResponseEvents, encode_response
from service.dialects.responses.request import (
    HARMLESS,
    Asked,
    parse_response_chat,
    parse_response_request,
    unheeded,
)
from service.dialects.responses.store import ResponseNotFound, ResponseStore
from service.dialects.state import State
from service.errors import InvalidRequest
from service.generation import Message
from service.telemetry.http import exchange_of


async def create(request: Request[State]) -> Response:
    return await respond(request, await read_fields(request, "openai"), "openai")


async def respond(request: Request[State], fields: Fields, dialect: str) -> Response:
    store = request.state["responses"]
    defaults = defaults_for(request, fields)
    wanted, asked = parse_response_request(
        fields, store.conversation, **identity(request), defaults=defaults, dialect=dialect
    )
    tell_ignored(request, fields, HARMLESS)
    exchange_of(request.scope).ignored += unheeded(fields)
    generation = await admitted(request, wanted)
    idle = without_effect(parse_extras(fields), generation.facts)
    able = request.state["runtime"].capabilities(generation.card)
    idle += [name for name in beyond(wanted.input, able) if name in fields]
    exchange_of(request.scope).ignored += idle
    model = wanted.model or generation.model
    envelope = Envelope(f"resp_{wanted.id}", int(time.time()), model, asked)
    if wanted.stream:
        if asked.store:
            store.put(envelope.begun())
        answers = Opening(generation, partial(forget_unended, store, envelope.id))
        stream = Stream(answers, ResponseEvents(envelope, settling(store, asked)), request)
        return tell_cut(stream, generation.cut_tokens)
    events = await gathered(request, generation)
    response, said = encode_response(envelope, events)
    settling(store, asked)(response, said)
    return tell_cut(json(response, events), generation.cut_tokens)


def settling(
    store: ResponseStore, asked: Asked
) -> Callable[[dict[str, Any], Message | None], None]:
    def settle(response: dict[str, Any], said: Message | None) -> None:
        if asked.store:
            store.put(response, (*asked.conversation, said) if said is not None else None)

    return settle


def forget_unended(store: ResponseStore, id: str) -> None:
    """Its client left before it ended: nobody can want it."""
    if store.status(id) == "in_progress":
        store.delete(id)


async def retrieve(request: Request[State]) -> Response:
    if request.query_params.get("stream") == "true":
        raise InvalidRequest("A response that was made cannot be streamed again.", param="stream")
    return json(request.state["responses"].get(request.path_params["id"]))


async def delete(request: Request[State]) -> Response:
    id = request.path_params["id"]
    if not request.state["responses"].delete(id):
        raise ResponseNotFound(id, "response_id")
    return json({"id": id, "object": "response", "deleted": True})


async def cancel(request: Request[State]) -> Response:
    """Of a response that is being made. The stream that shows it ends with `cancelled` too."""
    id = request.path_params["id"]
    store = request.state["responses"]
    response = store.get(id)
    if response["status"] != "in_progress":
        raise InvalidRequest(f"The response '{id[:128]}' has ended already.", param="response_id")
    request.state["runtime"].cancel(id.removeprefix("resp_"))
    return json(response | {"status": "cancelled"})


async def count_tokens(request: Request[State]) -> Response:
    fields = await read_fields(request, "openai")
    chat, _ = parse_response_chat(fields, request.state["responses"].conversation)
    counted = await tokenized(request, fields.model(), chat)
    return json({"object": "response.input_tokens", "input_tokens": len(counted.tokens)})


of_stored: Final = [
    Route("/v1/responses/input_tokens", count_tokens, methods=["POST"]),
    Route("/v1/responses/{id}", retrieve),
    Route("/v1/responses/{id}", delete, methods=["DELETE"]),
    Route("/v1/responses/{id}/cancel", cancel, methods=["POST"]),
]

routes: Final = [Route("/v1/responses", create, methods=["POST"]), *of_stored]
