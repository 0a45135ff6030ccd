"""GET /models/sse: what happens to models, while it happens, in the events of llama-server's router.

Nothing is sent of what was before; a comment comes first, so that a client knows that it listens.
Models are few and looked at twice a second: no part of the service has to know that anyone does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service.dialects.framing import EVENT_STREAM, PING, encode_json, sse
from service.dialects.respond import PING_SECONDS
from service.dialects.state import State

if TYPE_CHECKING:
    from service.serving.runtime import ModelStatus, Runtime

POLL_SECONDS: Final = 0.5
# The router's words for what a model does.
STATES: Final = {"ready": "loaded", "loading": "loading", "restarting": "loading"}


@dataclass(frozen=True)
class Said:
    """What an event of a model says, and the process that it is said of."""

    data: dict[str, Any]
    pid: int | None = None


# By the model's name.
Known = Mapping[str, Said]


async def models_sse(request: Request[State]) -> Response:
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    changes = watched(request.state["runtime"])
    return StreamingResponse(changes, media_type=EVENT_STREAM, headers=headers)


async def watched(runtime: Runtime, seconds: float = POLL_SECONDS) -> AsyncIterator[bytes]:
    """Until the service stops."""
    known = seen(runtime.models())
    yield PING
    quiet = 0.0
    while not runtime.draining:
        await asyncio.sleep(seconds)
        quiet += seconds
        found = seen(runtime.models())
        for event in news(known, found):
            quiet = 0.0
            yield sse(encode_json(event))
        known = found
        if quiet >= PING_SECONDS:
            quiet = 0.0
            yield PING


def seen(models: Sequence[ModelStatus]) -> Known:
    return {status.card.name: Said(encode_status(status), status.pid) for status in models}


def encode_status(status: ModelStatus) -> dict[str, Any]:
    said: dict[str, Any] = {"status": STATES.get(status.state, "unloaded")}
    if said["status"] == "loading" and status.load_fraction is not None:
        stages = {"stages": ["text_model"], "current": "text_model"}
        said["progress"] = {**stages, "value": status.load_fraction}
    if status.state == "failed":
        said |= {"failed": True, "reason": status.reason}
    return said


def news(before: Known, after: Known) -> Iterator[dict[str, Any]]:
    for name in before.keys() - after.keys():
        yield {"model": name, "event": "model_remove"}
    if after.keys() - before.keys():
        yield {"model": "*", "event": "models_reload"}
    for name, said in after.items():
        was = before.get(name, said)
        if None not in (was.pid, said.pid) and was.pid != said.pid:
            # It was gone in between, for less time than anybody looked away.
            yield {"model": name, "event": "model_status", "data": {"status": "unloaded"}}
            yield {"model": name, "event": "model_status", "data": said.data}
        elif was.data != said.data:
            yield {"model": name, "event": "model_status", "data": said.data}
