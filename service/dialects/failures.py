"""What went wrong, before a dialect puts it into its own words; and the pages made of it.

The same value is a JSON body with a status while the status line is still to be sent, and a frame
of the stream after that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.dialects.framing import json_response
from service.errors import ContextOverflow, ServiceError
from service.events import Finished, FinishReason
from service.telemetry.http import CLIENT_GONE, exchange_of


@dataclass(frozen=True)
class Failure:
    status: int
    message: str
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    retryable: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    # Numbers that programs want beside the sentence.
    numbers: dict[str, int] = field(default_factory=dict)


# Finished.code → the status that it would have had before the first byte.
LATE_STATUSES: Final = {
    "draining": 503,
    "queue_timeout": 503,
    "unloaded": 503,
    "timeout": 504,
    "slow_reader": CLIENT_GONE,
    "cancelled": CLIENT_GONE,
}


def of_error(error: ServiceError) -> Failure:
    numbers = {}
    if isinstance(error, ContextOverflow):
        numbers = {"n_prompt_tokens": error.prompt_tokens, "n_ctx": error.context_length}
    return Failure(
        error.status,
        error.message,
        error.code,
        error.param,
        error.retry_after,
        error.retryable,
        headers=dict(error.headers),
        numbers=numbers,
    )


def of_http(error: HTTPException, scope: Scope) -> Failure:
    message = error.detail
    if error.status_code == 404:
        message = f"There is no {scope['method']} {scope['path'][:256]}"
    elif error.status_code == 405:
        message = f"{scope['path'][:256]} does not take {scope['method']}"
    return Failure(error.status_code, message, headers=dict(error.headers or {}))


def of_finished(event: Finished) -> Failure | None:
    """None for an answer that ended well, or was cut short with something to show."""
    if event.reason is FinishReason.TIMEOUT and event.usage.generation_tokens > 0:
        return None
    if event.reason is FinishReason.CANCELLED:
        return Failure(CLIENT_GONE, "The request was cancelled", "cancelled")
    if event.reason not in (FinishReason.ERROR, FinishReason.TIMEOUT):
        return None
    code = event.code or "internal_error"
    status = LATE_STATUSES.get(code, 500)
    message = event.error or "The generation failed"
    return Failure(status, message, code, retryable=status == 503)


def unexpected(request_id: str) -> Failure:
    """Says nothing of what happened: that is in the log, under the same id."""
    message = f"The server had an internal error. Its log has more under request id {request_id}."
    return Failure(500, message, "internal_error")


class GenerationFailed(Exception):
    """Carries the failure of an answer that was to be sent whole."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


# A dialect's status and body for a failure.
Wording = Callable[[Failure], tuple[int, dict[str, Any]]]


class ErrorPages:
    """Renders what endpoints raise, in the dialect that read the request, else the path's.

    `wordings` are (path prefix, wording), the first that fits; the last has the prefix "". Where
    several dialects share a path, what the request holds decides, and who read it answers.
    """

    def __init__(self, wordings: Sequence[tuple[str, Wording]]) -> None:
        self.wordings = wordings

    def page(self, scope: Scope, failure: Failure) -> Response:
        exchange = exchange_of(scope)
        exchange.error = failure.code or str(failure.status)
        status, body = self.wording(f"/{exchange.api}/", scope["path"])(failure)
        return json_response(body, status, headers_of(failure))

    def wording(self, own: str, path: str) -> Wording:
        for prefix, words in self.wordings:
            if prefix == own:
                return words
        return next(words for prefix, words in self.wordings if path.startswith(prefix))

    async def service_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return self.page(request.scope, of_error(error))

    async def http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return self.page(request.scope, of_http(error, request.scope))

    async def generation_failed(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, GenerationFailed)
        return self.page(request.scope, error.failure)

    async def client_gone(self, request: Request, error: Exception) -> Response:
        # Nobody reads it; it is there for the counters.
        exchange_of(request.scope).gone = True
        return Response(status_code=CLIENT_GONE)

    async def crash(self, scope: Scope, receive: Receive, send: Send) -> None:
        failure = unexpected(exchange_of(scope).id)
        await self.page(scope, failure)(scope, receive, send)


def headers_of(failure: Failure) -> dict[str, str]:
    headers = dict(failure.headers)
    if failure.status in (429, 503):
        headers["Retry-After"] = str(math.ceil(failure.retry_after or 1))
    if failure.status >= 500 and not failure.retryable:
        # The official clients would otherwise try twice more what cannot succeed.
        headers["x-should-retry"] = "false"
    return headers
