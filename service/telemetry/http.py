"""One pure ASGI middleware: gives each request its id, and counts and logs its end.

It stands outside of everything else, so that what it reports is what went out. The layers inside
write what they learn (dialect, model, tokens) into the request's `Exchange`.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import MutableHeaders
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.events import Finished
from service.telemetry.logs import request_id, trace_id
from service.telemetry.recorder import OTHER, UNKNOWN, Recorder
from service.telemetry.tracing import trace_of

if TYPE_CHECKING:
    from service.telemetry.spans import RequestSpan, Spans

logger = logging.getLogger("service.request")

CLIENT_GONE: Final = 499
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Asked every few seconds by machines: not worth a line each.
QUIET: Final = frozenset(
    {"/metrics", "/metrics/compat/vllm", "/health", "/health/live", "/health/ready", "/ping"}
)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
_PARAM = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(slots=True)
class Exchange:
    """What is known of one request and its answer. `failure` is a status that came too late for
    the status line: the answer had begun and ended with an error in its own dialect."""

    id: str
    arrived: float
    api: str | None = None
    model: str = UNKNOWN
    stream: bool = False
    status: int = 0
    failure: int | None = None
    error: str | None = None
    gone: bool = False
    size: int = 0
    finished: list[Finished] = field(default_factory=list)
    # Answers to each prompt, of which a request may have several.
    n: int = 1
    ignored: list[str] = field(default_factory=list)
    # The name, never the key, of the API key that the client has shown.
    key_name: str | None = None
    # Where requests are traced.
    span: RequestSpan | None = None

    @property
    def code(self) -> int:
        return CLIENT_GONE if self.gone else self.failure or self.status

    @property
    def refusal(self) -> str | None:
        """The code of an error before the first token: once there was one, it is a failure."""
        answered = any(end.usage.generation_tokens for end in self.finished)
        return None if answered else self.error

    @property
    def traceparent(self) -> str | None:
        return None if self.span is None else self.span.traceparent


def exchange_of(scope: Scope) -> Exchange:
    exchange: Exchange = scope["llm.exchange"]
    return exchange


# Renders an exception that nothing inside caught, and gives back the status it had.
CrashPage = Callable[[Scope, Receive, Send], Awaitable[None]]


class Telemetry:
    def __init__(
        self,
        app: ASGIApp,
        recorder: Recorder,
        crash_page: CrashPage,
        draining: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        spans: Spans | None = None,
    ) -> None:
        self.app = app
        self.recorder = recorder
        self.crash_page = crash_page
        self.draining = draining
        self.clock = clock
        self.spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(inbound_id(scope) or uuid.uuid4().hex, self.clock())
        scope["llm.exchange"] = exchange
        token = request_id.set(exchange.id)
        if self.spans is not None:
            exchange.span = self.spans.open(scope["headers"], scope["method"], exchange.arrived)
            trace_id.set(trace_of(exchange.span.traceparent))
        complete = False

        async def listen() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not complete:
                exchange.gone = True
            return message

        async def answer(message: Message) -> None:
            nonlocal complete
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                self.add_headers(message, exchange)
            else:
                exchange.size += len(message.get("body", b""))
                complete = not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, listen, answer)
        except Exception:
            logger.exception("A request failed unexpectedly")
            if exchange.status:
                # uvicorn closes the connection, which is all that can still be said.
                exchange.failure = 500
                raise
            await self.crash_page(scope, listen, answer)
        finally:
            if not complete and exchange.status:
                exchange.gone = exchange.gone or exchange.failure is None
            self.report(scope, exchange)
            request_id.reset(token)
            if self.spans is not None:
                trace_id.set(None)

    def add_headers(self, message: Message, exchange: Exchange) -> None:
        headers = MutableHeaders(scope=message)
        headers["X-Request-Id"] = exchange.id
        if exchange.api is not None:
            elapsed = self.clock() - exchange.arrived
            headers["openai-processing-ms"] = str(round(elapsed * 1000))
            if exchange.traceparent is not None:
                headers["traceparent"] = exchange.traceparent
        if names := [name for name in exchange.ignored if _PARAM.fullmatch(name)]:
            headers["X-Ignored-Params"] = ", ".join(names[:32])
        if self.draining():
            # An idle connection would otherwise be cut under the client's next request.
            headers["Connection"] = "close"

    def report(self, scope: Scope, exchange: Exchange) -> None:
        elapsed = self.clock() - exchange.arrived
        endpoint = endpoint_of(scope)
        method = scope["method"] if scope["method"] in METHODS else OTHER
        self.recorder.on_http(endpoint, method, exchange.code, exchange.size)
        if exchange.api is not None:
            self.recorder.on_answer(
                exchange.api,
                endpoint,
                exchange.model,
                exchange.code,
                exchange.stream,
                elapsed,
                exchange.id,
                exchange.traceparent,
            )
            if (refusal := exchange.refusal) is not None:
                self.recorder.on_rejection(exchange.api, exchange.model, refusal)
            if exchange.span is not None:
                name, ended = f"{method} {endpoint}", exchange.arrived + elapsed
                attributes = attributes_of(exchange, method, endpoint)
                exchange.span.close(name, attributes, exchange.code, ended)
        level = logging.DEBUG if endpoint in QUIET and exchange.code < 400 else logging.INFO
        if logger.isEnabledFor(level):
            message = f"{scope['method']} {scope['path'][:256]} {exchange.code}"
            logger.log(level, message, extra={"fields": line_of(exchange, endpoint, elapsed)})


def inbound_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value).decode("ascii")
    return None


def endpoint_of(scope: Scope) -> str:
    route = scope.get("route")
    return route.path if isinstance(route, Route) else OTHER


def attributes_of(exchange: Exchange, method: str, endpoint: str) -> dict[str, str | int | bool]:
    """As OpenTelemetry's conventions for HTTP have them, and who asked for which model."""
    attributes: dict[str, str | int | bool] = {
        "http.request.method": method,
        "http.route": endpoint,
        "http.response.status_code": exchange.code,
        "url.scheme": "http",
        "llm.api": exchange.api or "",
        "llm.request.id": exchange.id,
        "gen_ai.request.model": exchange.model,
        "gen_ai.request.stream": exchange.stream,
    }
    if exchange.code >= 400:
        attributes["error.type"] = exchange.error or str(exchange.code)
    return attributes


def line_of(exchange: Exchange, endpoint: str, elapsed: float) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "request_id": exchange.id,
        "endpoint": endpoint,
        "status": exchange.code,
        "duration_seconds": round(elapsed, 6),
        "bytes": exchange.size,
    }
    if exchange.api is not None:
        fields |= {"api": exchange.api, "model": exchange.model, "stream": exchange.stream}
    if exchange.key_name is not None:
        fields["key_name"] = exchange.key_name
    if exchange.error is not None:
        fields["error"] = exchange.error
    if exchange.ignored:
        fields["ignored_params"] = [name[:64] for name in exchange.ignored[:32]]
    if exchange.finished:
        fields |= tokens_of(exchange)
    return fields


def tokens_of(exchange: Exchange) -> dict[str, Any]:
    first = exchange.finished[0]
    timings = first.timings
    prompts = {end.index // exchange.n: end.usage for end in reversed(exchange.finished)}.values()
    fields: dict[str, Any] = {
        "prompt_tokens": sum(usage.prompt_tokens for usage in prompts),
        "cached_tokens": sum(usage.cached_tokens for usage in prompts),
        "generation_tokens": sum(f.usage.generation_tokens for f in exchange.finished),
        "finish_reason": ",".join(dict.fromkeys(f.reason.value for f in exchange.finished)),
    }
    if timings.scheduled is not None:
        fields["queue_seconds"] = round(timings.scheduled - timings.queued, 6)
    if timings.first_token is not None:
        fields["ttft_seconds"] = round(timings.first_token - exchange.arrived, 6)
    return fields
