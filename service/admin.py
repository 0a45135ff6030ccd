"""Health, readiness, metrics, and what the service is."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final, TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from exporters.readings import Latest
from service.catalog.catalog import RootState
from service.control.hardware import engine_gpus
from service.serving.health import health_body
from service.serving.runtime import ModelStatus, Runtime
from service.settings import Settings
from service.telemetry.compat import WithCopies
from service.telemetry.energy import EnergyLedger
from service.telemetry.engine_memory import by_device, engine_memory
from service.telemetry.exposition import Encoded, Exposition, render
from service.telemetry.mirror import StateCollector
from service.telemetry.recorder import Recorder
from service.telemetry.snapshot import Snapshot


class State(TypedDict):
    """What is found in `request.state`; the lifespan puts it there."""

    runtime: Runtime
    recorder: Recorder
    exposition: Exposition
    mirror: StateCollector
    monitors: Latest
    energy: EnergyLedger
    settings: Settings
    version: str


async def root(request: Request[State]) -> Response:
    accept = request.headers.get("accept", "*/*")
    if "text/html" in accept and request.method == "GET":
        # A browser. Others ask whether anybody is there, and none of them says that it reads pages.
        return RedirectResponse("/dashboard", 302)
    if "application/json" in accept and "*/*" not in accept:
        return JSONResponse(CARD)
    # What Ollama's own command looks for before anything else.
    return PlainTextResponse("Ollama is running")


async def live(request: Request[State]) -> Response:
    """Answers as long as the event loop turns; says nothing about models."""
    return PlainTextResponse("OK")


async def ready(request: Request[State]) -> Response:
    runtime = request.state["runtime"]
    if runtime.ready:
        return PlainTextResponse("OK")
    reason = "draining" if runtime.leaving or runtime.draining else "no model can serve"
    return PlainTextResponse(reason, 503, {"Retry-After": "5"})


async def health(request: Request[State]) -> Response:
    """The seed's summary. Every other client only reads the status code."""
    runtime = request.state["runtime"]
    body = health_body(runtime.draining, runtime.models())
    return JSONResponse(body, 503 if body["status"] == "unhealthy" else 200)


async def models_health(request: Request[State]) -> Response:
    """All models, the unusable ones with their reasons; and where they were looked for."""
    runtime = request.state["runtime"]
    models = [encode_status(status) for status in runtime.models()]
    roots = [encode_root(state) for state in runtime.roots()]
    return JSONResponse({"models": models, "roots": roots})


def encode_root(state: RootState) -> dict[str, Any]:
    return {
        "path": str(state.path),
        "kind": state.kind,
        "named": state.named,
        "models": state.models,
        "unusable": state.unusable,
        "problem": state.problem,
    }


async def model_health(request: Request[State]) -> Response:
    runtime = request.state["runtime"]
    status = runtime.status(request.path_params["model"])
    down = status.state in ("failed", "restarting")
    return JSONResponse(encode_status(status), 503 if down else 200)


def encode_status(status: ModelStatus) -> dict[str, Any]:
    return {
        "model": status.card.name,
        "state": status.state,
        "reason": status.reason,
        # For programs: why the files are no model for this server.
        "code": status.card.reason,
        "load_fraction": status.load_fraction,
        "running": status.running,
        "waiting": status.waiting,
        "queue_capacity": status.queue_capacity,
        "deaths": status.deaths,
    }


async def metrics(request: Request[State]) -> Response:
    exposition = request.state["exposition"]
    if request.state["settings"].vllm_metric_names:
        return await exposed(request, WithCopies(exposition, native=True))
    return await exposed(request, exposition)


async def vllm_metrics(request: Request[State]) -> Response:
    """For what knows vLLM's names only."""
    return await exposed(request, WithCopies(request.state["exposition"], native=False))


async def exposed(request: Request[State], source: Encoded) -> Response:
    recorder, runtime = request.state["recorder"], request.state["runtime"]

    settings, gpus = request.state["settings"], request.state["monitors"].gpus

    def snapshot() -> Snapshot:
        # What can never be loaded has no series: nothing of it would ever move.
        models = [m for m in runtime.models() if m.card.problem is None or m.pid is not None]
        recorder.know([model.card.name for model in models])
        for model in models:
            if model.state != "unloaded":
                recorder.expect(model.card.name)
        shown = engine_gpus(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
        memory, ledger = engine_memory(gpus, shown, models), request.state["energy"]
        ledger.add(gpus, memory, recorder.computed, settings.price_per_kwh)
        return Snapshot(
            runtime.ready,
            models,
            dict(recorder.latest_steps),
            dict(recorder.last_used),
            recorder.apis,
            by_device(gpus, memory),
            dict(ledger.joules),
            dict(ledger.cost),
        )

    request.state["mirror"].take(snapshot)
    accept = request.headers.get("accept", "")
    encoding = request.headers.get("accept-encoding", "")
    body, headers = await asyncio.to_thread(render, source, accept, encoding)
    return Response(body, headers=headers)


async def version(request: Request[State]) -> Response:
    return JSONResponse({"version": request.state["version"]})


async def ping(request: Request[State]) -> Response:
    return Response()


CARD: Final = {
    "service": "LLM Inference Service",
    "status": "running",
    "endpoints": {
        "dashboard": "/dashboard",
        "health": "/health",
        "metrics": "/metrics",
        "openai_chat": "/api/chat/completions",
        "openai_completions": "/v1/completions",
        "ollama_chat": "/api/chat",
        "ollama_generate": "/api/generate",
        "models": "/api/models",
    },
}

routes: Final = [
    Route("/", root),
    Route("/health", health),
    Route("/health/live", live),
    Route("/health/ready", ready),
    Route("/health/models", models_health),
    Route("/health/models/{model:path}", model_health),
    Route("/metrics", metrics),
    Route("/metrics/compat/vllm", vllm_metrics),
    Route("/version", version),
    Route("/ping", ping, methods=["GET", "POST"]),
]
