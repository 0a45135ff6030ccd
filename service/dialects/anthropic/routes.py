"""The Anthropic dialect: /v1/messages and /v1/messages/count_tokens.

Everything else below /v1 is worded as OpenAI has it; under the prefix, the list of models too is
in Anthropic's shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.dialects.admission import admitted, identity, read_fields, tokenized
from service.dialects.answers import collect
from service.dialects.anthropic.encode import Envelope, MessageEvents, encode_message, worded
from service.dialects.anthropic.request import HARMLESS, counted, parse_request, unheeded
from service.dialects.dialect import Dialect
from service.dialects.framing import iso
from service.dialects.model_defaults import defaults_for
from service.dialects.opening import Opening
from service.dialects.respond import Stream, gathered, json, tell_ignored
from service.dialects.state import State
from service.telemetry.http import exchange_of

if TYPE_CHECKING:
    from service.serving.runtime import ModelStatus


async def messages(request: Request[State]) -> Response:
    fields = await read_fields(request, "anthropic")
    wanted, options = parse_request(
        fields, **identity(request), defaults=defaults_for(request, fields)
    )
    tell_ignored(request, fields, HARMLESS)
    generation = await admitted(request, wanted)
    able = request.state["runtime"].capabilities(generation.card)
    exchange_of(request.scope).ignored += unheeded(fields, able)
    envelope = Envelope(
        id=f"msg_{wanted.id}",
        model=wanted.model or generation.model,
        prompt_tokens=generation.prompt_tokens,
    )
    if wanted.stream:
        return Stream(Opening(generation), MessageEvents(envelope, options), request)
    events = await gathered(request, generation)
    (answer,) = collect(events)
    return json(encode_message(envelope, answer, options), events)


async def count_tokens(request: Request[State]) -> Response:
    fields = await read_fields(request, "anthropic")
    model, chat = counted(fields)
    found = await tokenized(request, model, chat)
    return json({"input_tokens": len(found.tokens)})


async def list_models(request: Request[State]) -> Response:
    models = [
        encode_model(status)
        for status in request.state["runtime"].models()
        if status.card.problem is None
    ]
    ends = {"first_id": models[0]["id"], "last_id": models[-1]["id"]} if models else {}
    page = {"data": models, "has_more": False, "first_id": None, "last_id": None}
    return json(page | ends)


async def one_model(request: Request[State]) -> Response:
    return json(encode_model(request.state["runtime"].status(request.path_params["id"])))


def encode_model(status: ModelStatus) -> dict[str, Any]:
    card = status.card
    return {
        "type": "model",
        "id": card.name,
        "display_name": card.name,
        "created_at": iso(card.modified),
    }


class RequestId:
    """The header that Anthropic's clients read the request's id from."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["request-id"] = exchange_of(scope).id
            await send(message)

        await self.app(scope, receive, answer)


_named: Final = [Middleware(RequestId)]

at_root: Final = [
    Route("/v1/messages", messages, methods=["POST"], middleware=_named),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"], middleware=_named),
]

DIALECT: Final = Dialect(
    "anthropic",
    [
        *at_root,
        Route("/v1/models", list_models, middleware=_named),
        Route("/v1/models/{id:path}", one_model, middleware=_named),
    ],
    worded,
)
