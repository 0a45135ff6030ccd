"""Ray Serve: the whole service once in each replica, a deployment for each model, and one address.

    python -m deploy.ray                                       on this machine
    RAY_USAGE_STATS_ENABLED=0 serve run deploy/ray/serve.yaml  on the nodes of a cluster

Ray places replicas, starts them anew, scales them and chooses among them. What is said to a client,
in whatever dialect, is what the service of a replica says: bytes go through as they are. Why it is
made like this is in docs/decisions/0031.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

import httpx
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from deploy.ray import routing
from deploy.ray.recipe import Model, Recipe
from deploy.ray.replica_service import ReplicaService, announce

# What comes to replicas beyond what their services have room for, so that those refuse it themselves.
ROOM: Final = 2
# A request of which nothing was answered yet goes to another replica, so many times in all.
ATTEMPTS: Final = 3
MAX_BODY_BYTES: Final = 32 * 1024 * 1024
START_SECONDS: Final = 600
HEALTH_SECONDS: Final = 5.0
RETRY_AFTER: Final = {"Retry-After": "1"}

Head = tuple[int, list[tuple[bytes, bytes]]]


class Replica:
    # Ray waits for it.
    async def __init__(  # type: ignore[misc]
        self, recipe: dict[str, Any], model: dict[str, Any]
    ) -> None:
        told, self._model = Recipe(**recipe), Model(**model)
        self._state = tempfile.TemporaryDirectory(prefix="llm-replica-")
        command = told.service(self._model, self._state.name)
        # Ray notices a replica that has ended, and starts another one.
        self._service = ReplicaService(told.host, command, on_end=lambda code: os._exit(1))
        self._transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))
        async with asyncio.timeout(START_SECONDS):
            # Once in a replica's life, so it may poll.
            while not await self._ready():  # noqa: ASYNC110
                await asyncio.sleep(0.5)
        if told.targets is not None:
            address = f"{told.host}:{self._service.port}"
            announce(Path(told.targets), address, self._service.pid, self._model.slug)

    async def forward(
        self, method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> AsyncIterator[Head | bytes]:
        """The head of the answer, then its body as it comes."""
        url = self._service.url + target
        answer = await self._transport.handle_async_request(
            httpx.Request(method, url, headers=headers, content=body)
        )
        try:
            yield answer.status_code, routing.passed_on(answer.headers.raw)
            async for chunk in answer.aiter_raw():
                yield chunk
        finally:
            # The service ends a request that nobody listens to any more.
            await answer.aclose()

    async def check_health(self) -> None:
        """Raises where the service does not answer, or has given its model up."""
        status, state = await self._asked(f"/health/models/{self._model.name}")
        if state.get("state") == "failed":
            raise RuntimeError(f"{self._model.name}: {state.get('reason')}")
        if status not in (200, 503):
            raise RuntimeError(f"{self._model.name}: its health is answered with {status}")

    async def _ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            status, state = await self._asked(f"/health/models/{self._model.name}")
            return status == 200 and state.get("state") == "ready"
        return False

    async def _asked(self, path: str) -> tuple[int, dict[str, Any]]:
        key = os.environ.get("LLM_API_KEY")
        async with httpx.AsyncClient(trust_env=False, timeout=HEALTH_SECONDS) as http:
            answer = await http.get(
                self._service.url + path, headers={"Authorization": f"Bearer {key}"} if key else {}
            )
        return answer.status_code, answer.json()


class Ingress:
    """`handles`: of the deployments, as the models stand in the recipe. The first gets what names no
    model, or one that nobody has, and says what it has to say to that."""

    def __init__(self, recipe: dict[str, Any], *handles: Any) -> None:
        models = Recipe(**recipe).models
        self._handles = [each.options(stream=True) for each in handles]
        self._by_name = {
            routing.key(name): handle
            for model, handle in zip(models, self._handles, strict=True)
            for name in (model.name, *model.aliases)
        }

    async def __call__(self, request: Request) -> Response:
        headers, path = request.headers.raw, request.scope["path"]
        inside = routing.list_in(request.method, path)
        target = quote(path, safe="/:@")
        if request.url.query:
            target += f"?{request.url.query}"
        try:
            body = await whole(request)
        except ClientDisconnect:
            return Response(status_code=499)
        if body is None:
            return JSONResponse({"error": f"More than {MAX_BODY_BYTES} bytes"}, 413)
        sent = (request.method, target, routing.passed_on(headers), body)
        if inside is not None and len(self._handles) > 1:
            return await self._lists(sent, inside)
        name = routing.model_of(headers, body)
        handle = self._by_name.get(name or "", self._handles[0])
        return await answered(handle, sent)

    async def _lists(self, sent: Any, inside: str) -> Response:
        """Of all models; the answer of the first that is none where there is one."""
        found = []
        for handle in self._handles:
            answer = await answered(handle, sent)
            if not isinstance(answer, StreamingResponse) or answer.status_code != 200:
                return answer
            parts = [
                bytes(chunk) async for chunk in cast(AsyncIterator[bytes], answer.body_iterator)
            ]
            found.append(json.loads(b"".join(parts)))
        return JSONResponse(routing.joined(found, inside))


async def whole(request: Request) -> bytes | None:
    """None where it is too long. Raises ClientDisconnect."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


async def answered(handle: Any, sent: Any) -> Response:
    """As a replica answers; 503 where none has room, or each one that was tried died over it."""
    why: Exception | None = None
    for _ in range(ATTEMPTS):
        answer = handle.forward.remote(*sent)
        try:
            status, headers = await anext(answer)
        except BackPressureError:
            return JSONResponse({"error": "Every replica is busy"}, 503, RETRY_AFTER)
        except (RayError, httpx.HTTPError, StopAsyncIteration) as error:
            why = error
            continue
        except asyncio.CancelledError:
            answer.cancel()
            raise
        response = StreamingResponse(body_of(answer), status)
        response.raw_headers = headers
        return response
    return JSONResponse({"error": f"No replica answers: {type(why).__name__}"}, 503, RETRY_AFTER)


async def body_of(answer: Any) -> AsyncIterator[bytes]:
    ended = False
    try:
        async for chunk in answer:
            yield chunk
        ended = True
    finally:
        if not ended:
            answer.cancel()


def application(args: dict[str, Any]) -> serve.Application:
    recipe = Recipe(**args)
    handles = [deployment(recipe, model) for model in recipe.models]
    ingress = serve.deployment(Ingress).options(
        name="ingress",
        num_replicas=1,
        max_ongoing_requests=10_000,
        ray_actor_options={"num_cpus": 0},
    )
    return ingress.bind(args, *handles)


def deployment(recipe: Recipe, model: Model) -> Any:
    capacity = model.slots + model.queue
    scaling: dict[str, Any] = {"num_replicas": model.replicas}
    if model.max_replicas is not None:
        scaling = {
            "autoscaling_config": {
                "min_replicas": model.replicas,
                "max_replicas": model.max_replicas,
                "target_ongoing_requests": model.slots,
            }
        }
    made = serve.deployment(Replica).options(
        name=model.slug,
        max_ongoing_requests=ROOM * capacity,
        max_queued_requests=ROOM * ROOM * capacity,
        graceful_shutdown_timeout_s=90,
        health_check_period_s=2,
        health_check_timeout_s=2 * HEALTH_SECONDS,
        ray_actor_options={"num_cpus": model.cpus, "num_gpus": model.gpus},
        **scaling,
    )
    return made.bind(recipe.model_dump(), model.model_dump())
