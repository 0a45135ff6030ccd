"""From an HTTP request to what the runtime took on: its body read, its prompt admitted.

Whatever is wrong with a request still has a status line here; from `respond` on it may have none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec.structs import replace
from starlette.requests import Request

from service.dialects.body import read_array, read_object
from service.dialects.fields import Fields
from service.dialects.gone import unless_gone
from service.dialects.sampling import timeout_of
from service.dialects.state import State
from service.generation import Chat, EmbeddingRequest, GenerationRequest, Infill, Text
from service.telemetry.http import Exchange, exchange_of

if TYPE_CHECKING:
    from service.serving.runtime import Embeddings, Generation, Tokenized

ADDRESS: Final = re.compile(r"https?://([^/]+)", re.IGNORECASE)

R = TypeVar("R", GenerationRequest, EmbeddingRequest)


async def read_fields(request: Request[State], api: str) -> Fields:
    """The first step of every generating endpoint."""
    exchange_of(request.scope).api = api
    await request.state["turnstile"].turn()
    limit = request.state["settings"].max_body_bytes
    body = await read_object(request.scope, request.receive, limit)
    if is_address(body.get("model"), request.headers.get("host", "")):
        body["model"] = ""
    return Fields(body)


async def read_elements(request: Request[State], api: str, name: str) -> Fields:
    """As `read_fields`, where the body is a list: it is the field `name`."""
    exchange_of(request.scope).api = api
    await request.state["turnstile"].turn()
    limit = request.state["settings"].max_body_bytes
    return Fields({name: await read_array(request.scope, request.receive, limit)})


def is_address(model: object, host: str) -> bool:
    """HuggingFace's client in JavaScript sends the address that it asks where no model is named."""
    match = ADDRESS.match(model) if isinstance(model, str) else None
    return match is not None and match[1].lower() == host.lower()


async def admitted(request: Request[State], wanted: GenerationRequest) -> Generation:
    """Raises ServiceError, or ClientGone where the client did not wait for it."""
    runtime = request.state["runtime"]
    exchange = exchange_of(request.scope)
    exchange.stream, exchange.n = wanted.stream, wanted.n
    # For the labels of what may be refused next; the name in `wanted` is the client's word.
    exchange.model = runtime.resolve(wanted.model or None).name
    return await unless_gone(request.receive, runtime.admit(traced(exchange, wanted)))


async def embedded(request: Request[State], wanted: EmbeddingRequest) -> Embeddings:
    """Raises as `admitted` does: vectors come all at once, so what fails has a status line."""
    runtime = request.state["runtime"]
    exchange = exchange_of(request.scope)
    exchange.model = runtime.resolve(wanted.model or None).name
    return await unless_gone(request.receive, runtime.embed(traced(exchange, wanted)))


def traced(exchange: Exchange, wanted: R) -> R:
    """What is computed for a traced request belongs to its trace."""
    if exchange.traceparent is None:
        return wanted
    return replace(wanted, traceparent=exchange.traceparent)


async def tokenized(request: Request[State], model: str, input: Chat | Text | Infill) -> Tokenized:
    runtime = request.state["runtime"]
    exchange_of(request.scope).model = runtime.resolve(model or None).name
    return await unless_gone(request.receive, runtime.tokenize(model, input))


def identity(request: Request[State]) -> dict[str, Any]:
    """What a GenerationRequest has from the HTTP request around it."""
    exchange = exchange_of(request.scope)
    limit = request.state["settings"].request_timeout
    return {
        "id": exchange.id,
        "arrived": exchange.arrived,
        "endpoint": request.scope["route"].path,
        "timeout": timeout_of(request.headers.get("x-request-timeout"), limit),
    }
