"""The figures of /metrics as JSON, for pages and scripts that read no Prometheus.

    GET /api/metrics/apis        how each API is doing
    GET /api/metrics/dashboard   that the service is well, its models, its requests

Names are those of the service that these routes come from, in both of its spellings.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.dialects.framing import iso, json_response
from service.dialects.seed.encode import ENDED, encode_model, encode_progress
from service.dialects.seed.gpu import encode_gpus
from service.dialects.state import State
from service.serving.health import health_body

if TYPE_CHECKING:
    from service.serving.runtime import ModelStatus, Progress, Runtime
    from service.telemetry.api_ledger import Account, Api

COLORS: Final = {
    "healthy": "#10b981",
    "warning": "#f59e0b",
    "error": "#ef4444",
    "unknown": "#6b7280",
}
# Requests that the dashboard lists: these many at most, of those that have ended the last ten.
LISTED: Final = 20
LISTED_ENDED: Final = 10


async def apis(request: Request[State]) -> Response:
    accounts = request.state["recorder"].ledger.accounts
    now = time.time()
    rows = [encode_api(api, account, now) for api, account in accounts.items()]
    # What nobody has used is not unwell.
    well = all(row["status"] in ("healthy", "unknown") for row in rows)
    return json_response(
        {
            "endpoints": rows,
            "timestamp": iso(now),
            "overallHealth": "healthy" if well else "degraded",
        }
    )


async def dashboard(request: Request[State]) -> Response:
    runtime, monitors, now = request.state["runtime"], request.state["monitors"], time.time()
    models = [status for status in runtime.models() if status.card.problem is None]
    return json_response(
        {
            "status": health_body(runtime.draining, runtime.models()),
            "requests": [encode_request(progress) for progress in listed(runtime)],
            "models": [
                encode_model(status, runtime.capabilities(status.card)) | architecture(status)
                for status in models
            ],
            "gpu_metrics": encode_gpus(monitors, now) if monitors.gpus is not None else None,
            "timestamp": iso(now),
        }
    )


def encode_api(api: Api, account: Account, now: float) -> dict[str, Any]:
    """Times in milliseconds, rates in per cent; null where nothing was measured."""
    success, mean = account.success_rate, account.mean_seconds
    last = None if account.last is None else iso(account.last)
    percent = None if success is None else 100 * success
    milliseconds = None if mean is None else 1000 * mean
    return {
        "name": api.name,
        "path": api.path,
        "status": account.status,
        "responseTime": milliseconds,
        "requestsPerMin": account.last_minute(now),
        "successRate": percent,
        "errorRate": None if percent is None else 100 - percent,
        "lastCheck": last,
        "color": COLORS[account.status],
        "endpoint": api.path,
        "total_requests": account.total,
        "successful_requests": account.succeeded,
        "failed_requests": account.failed,
        "cancelled_requests": account.cancelled,
        "average_response_time": milliseconds,
        "success_rate": percent,
        "last_request_time": last,
    }


def listed(runtime: Runtime) -> list[Progress]:
    """The newest first."""
    newest = list(reversed(runtime.journal()))
    ended = [progress for progress in newest if progress.state in ENDED][:LISTED_ENDED]
    return [p for p in newest if p.state not in ENDED or p in ended][:LISTED]


def encode_request(progress: Progress) -> dict[str, Any]:
    seconds = progress.updated - progress.started
    prompt, generated = progress.prompt_tokens, progress.generated_tokens
    total = None if prompt is None else prompt + generated
    return encode_progress(progress) | {
        "duration": seconds,
        "total_tokens_per_second": rate(total, seconds),
        "generated_tokens_per_second": rate(generated, seconds),
        "actual_tokens": generated,
        "prompt_tokens": prompt,
    }


def rate(tokens: int | None, seconds: float) -> float | None:
    return tokens / seconds if tokens is not None and seconds > 0 else None


def architecture(status: ModelStatus) -> dict[str, Any]:
    """The keys that a GGUF has for these, where it has them."""
    card = status.card
    keys = {
        "general.architecture": card.architecture,
        "general.context_length": card.context_length,
        f"{card.architecture}.context_length": card.context_length,
        f"{card.architecture}.embedding_length": card.embedding_length,
    }
    return {"model_info": {key: value for key, value in keys.items() if value is not None}}


at_root: Final = [
    Route("/api/metrics/apis", apis),
    Route("/api/metrics/dashboard", dashboard),
]
