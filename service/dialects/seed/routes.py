"""The service's own routes: its models, and the requests that it works on.

    GET  /api/models            what there is
    GET  /api/requests          what runs, and what ended not long ago; the newest first
    GET  /api/progress/{id}     how far one is; with ?stream=1 until it has ended
    POST /api/cancel/{id}       ends one, for its client too
    POST /api/dismiss/{id}      takes one off the list; it goes on
    POST /api/dismiss/completed takes all off that have ended

A request's id is in the header X-Request-Id of its answer, or is the client's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from service.access.caller import Scope, caller
from service.dialects.deeds import toward
from service.dialects.framing import EVENT_STREAM, PING, encode_json, json_response, sse
from service.dialects.respond import PING_SECONDS
from service.dialects.seed.encode import ENDED, encode_model, encode_progress
from service.dialects.state import State
from service.errors import ServiceError

if TYPE_CHECKING:
    from service.serving.runtime import Runtime

POLL_SECONDS: Final = 0.25
WORDS_FOR_YES: Final = frozenset({"1", "true", "yes"})


class RequestNotFound(ServiceError):
    status = 404
    code = "request_not_found"

    def __init__(self) -> None:
        super().__init__("Request not found")


async def models(request: Request[State]) -> Response:
    runtime = request.state["runtime"]
    found = [status for status in runtime.models() if status.card.problem is None]
    found.sort(key=lambda status: status.card.modified, reverse=True)
    entries = [encode_model(status, runtime.capabilities(status.card)) for status in found]
    return json_response({"models": entries})


async def requests(request: Request[State]) -> Response:
    newest = reversed(request.state["runtime"].journal())
    return json_response({"requests": [encode_progress(progress) for progress in newest]})


async def progress(request: Request[State]) -> Response:
    runtime, id = request.state["runtime"], request.path_params["id"]
    found = runtime.progress(id)
    if found is None:
        raise RequestNotFound
    if request.query_params.get("stream", "").lower() not in WORDS_FOR_YES:
        return json_response(encode_progress(found))
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(changes(runtime, id), headers=headers, media_type=EVENT_STREAM)


async def changes(runtime: Runtime, id: str) -> AsyncIterator[bytes]:
    """A frame whenever something has changed but the time, the last one with the end."""
    known: Any = None
    quiet = 0.0
    while (found := runtime.progress(id)) is not None:
        state = (found.state, found.processed_tokens, found.generated_tokens, found.queue_position)
        if state != known:
            known, quiet = state, 0.0
            yield sse(encode_json(encode_progress(found)))
        elif quiet >= PING_SECONDS:
            quiet = 0.0
            yield PING
        if found.state in ENDED:
            return
        await asyncio.sleep(POLL_SECONDS)
        quiet += POLL_SECONDS


async def cancel(request: Request[State]) -> Response:
    id = request.path_params["id"]
    with toward(request, "cancel", id):
        if not request.state["runtime"].cancel(id):
            raise RequestNotFound
    return json_response({"message": "Request cancelled"})


async def dismiss(request: Request[State]) -> Response:
    """The same answer each time, for whom the request is on no list any more."""
    id = request.path_params["id"]
    with toward(request, "dismiss", id):
        request.state["runtime"].dismiss(id)
    return json_response({"message": "Request dismissed"})


async def dismiss_completed(request: Request[State]) -> Response:
    """One's own; an administrator's are all, of which those of others are put on record."""
    runtime, who = request.state["runtime"], caller(request)
    ended = [progress for progress in runtime.journal() if progress.ended is not None]
    others = sum(progress.owner != who.name for progress in ended)
    count = runtime.dismiss_completed()
    if others and Scope.ADMIN in who.scopes:
        request.state["audit"].write(who, "dismiss", {"requests": (others, 0)}, "done")
    return json_response({"message": f"Dismissed {count} completed requests"})


at_root: Final = [
    Route("/api/models", models),
    Route("/api/requests", requests),
    Route("/api/progress/{id}", progress),
    Route("/api/cancel/{id}", cancel, methods=["POST"]),
    # Before the next one, which would take the word for an id.
    Route("/api/dismiss/completed", dismiss_completed, methods=["POST"]),
    Route("/api/dismiss/{id}", dismiss, methods=["POST"]),
]
