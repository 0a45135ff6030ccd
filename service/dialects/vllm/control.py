"""What vLLM's operators call: health, load, version; and models put to sleep and woken up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.dialects import adapters
from service.dialects.admission import read_fields
from service.dialects.deeds import Deed, toward
from service.dialects.gone import unless_gone
from service.dialects.respond import json, tell_ignored
from service.dialects.state import State

MAX_REQUESTS: Final = 4096


class Versioned(State):
    version: str


async def health(request: Request[State]) -> Response:
    """Only the status says anything: the body is empty either way."""
    return Response(status_code=200 if request.state["runtime"].ready else 503)


async def version(request: Request[Versioned]) -> Response:
    return json({"version": request.state["version"]})


async def load(request: Request[State]) -> Response:
    models = request.state["runtime"].models()
    return json({"server_load": sum(model.running + model.waiting for model in models)})


async def metrics(request: Request[State]) -> Response:
    return RedirectResponse("/metrics")


async def no_such_task(request: Request[State]) -> Response:
    raise HTTPException(501, f"{request.url.path} needs a model for it, and there is none")


async def sleep(request: Request[State]) -> Response:
    """Unloads what is loaded, or the model that is named; a request wakes it as /wake_up does."""
    runtime = request.state["runtime"]
    named = request.query_params.get("model")
    names = [named] if named else [m.card.name for m in runtime.models() if m.state == "ready"]
    for name in names:
        with Deed(request, "unload", model=(name, None)):
            await unless_gone(request.receive, runtime.unload(name))
    return Response()


async def wake_up(request: Request[State]) -> Response:
    named = request.query_params.get("model", "")
    with Deed(request, "load", model=(None, named)):
        await unless_gone(request.receive, request.state["runtime"].load(named))
    return Response()


async def is_sleeping(request: Request[State]) -> Response:
    models = request.state["runtime"].models()
    return json({"is_sleeping": not any(model.state == "ready" for model in models)})


async def abort_requests(request: Request[State]) -> Response:
    """By the ids that answers have, with or without what stands before them."""
    fields = await read_fields(request, "vllm")
    wanted = fields.strings("request_ids", most=MAX_REQUESTS, longest=128)
    if not wanted:
        raise fields.bad("request_ids", "must have at least one element")
    tell_ignored(request, fields, ())
    runtime = request.state["runtime"]
    for word in wanted:
        id = word.removeprefix("chatcmpl-").removeprefix("cmpl-")
        with toward(request, "cancel", id):
            runtime.cancel(id)
    return Response()


async def no_reset(request: Request[State]) -> Response:
    raise HTTPException(501, "The prefix cache cannot be reset; /sleep and /wake_up empty it")


async def no_pause(request: Request[State]) -> Response:
    raise HTTPException(
        501, "There is no pause: /sleep lets what runs finish and unloads the model"
    )


async def no_server_info(request: Request[State]) -> Response:
    raise HTTPException(
        501, "There is no vLLM to describe; /api/dashboard/configure has the settings in force"
    )


Endpoint = Callable[[Request[State]], Awaitable[Response]]


def in_development(endpoint: Endpoint) -> Endpoint:
    """For routes that let anyone stop what others use: not there unless the operator says so."""

    async def guarded(request: Request[State]) -> Response:
        if not request.state["settings"].dev_routes:
            raise HTTPException(404)
        return await endpoint(request)

    return guarded


DEVELOPMENT: Final = [
    Route("/sleep", in_development(sleep), methods=["POST"]),
    Route("/wake_up", in_development(wake_up), methods=["POST"]),
    Route("/is_sleeping", in_development(is_sleeping)),
    Route("/abort_requests", in_development(abort_requests), methods=["POST"]),
    Route("/reset_prefix_cache", in_development(no_reset), methods=["POST"]),
    Route("/pause", in_development(no_pause), methods=["POST"]),
    Route("/resume", in_development(no_pause), methods=["POST"]),
    Route("/server_info", in_development(no_server_info)),
]

# What nobody else claims.
SHARED: Final = [
    Route("/load", load),
    Route("/pooling", no_such_task, methods=["POST"]),
    Route("/classify", no_such_task, methods=["POST"]),
    Route("/v1/load_lora_adapter", adapters.load, methods=["POST"]),
    Route("/v1/unload_lora_adapter", adapters.unload, methods=["POST"]),
    *DEVELOPMENT,
]

OWN: Final = [
    Route("/health", health),
    Route("/ping", health, methods=["GET", "POST"]),
    Route("/version", version),
    Route("/metrics", metrics),
    *SHARED,
]
