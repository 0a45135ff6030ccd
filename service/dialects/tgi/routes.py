"""The dialect of HuggingFace's Text Generation Inference, in the shape that it was left in (3.3.6).

Its /generate knows no chats: the client writes the prompt, and gets text, or one event for each
token. What it refuses is a 422 that says why in TGI's own words.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.dialects.admission import read_fields
from service.dialects.dialect import Dialect
from service.dialects.framing import json_response
from service.dialects.state import State
from service.dialects.tgi.chat import chat, chat_completions, complete, completions
from service.dialects.tgi.generate import (
    compat,
    compat_generate,
    generate,
    generate_stream,
    vertex,
)
from service.dialects.tgi.request import MAX_BEST_OF, MAX_PROMPTS, MAX_STOPS
from service.dialects.tgi.shapes import TGI_VERSION, compute_type, worded
from service.dialects.tgi.tokenize import chat_tokenize, tokenize
from service.serving.runtime import ModelStatus


async def invocations(request: Request[State]) -> Response:
    """SageMaker's one path for everything: what is meant is seen by what is in it."""
    fields = await read_fields(request, "tgi")
    if "inputs" in fields:
        return await compat(request, fields)
    if "messages" in fields:
        return await chat(request, fields)
    if "prompt" in fields:
        return await complete(request, fields)
    raise fields.bad("inputs", "is missing, and there are neither messages nor a prompt")


async def info(request: Request[State]) -> Response:
    runtime = request.state["runtime"]
    named = request.query_params.get("model")
    usable = [status for status in runtime.models() if status.card.problem is None]
    if not usable and named is None:
        return json_response({"error": "No models available", "error_type": "not_found"}, 404)
    return json_response(encode_info(runtime.status(named)))


def encode_info(status: ModelStatus) -> dict[str, Any]:
    """What only a loaded model has is null before. The last rows are TGI's own before 1.0."""
    card, facts = status.card, status.facts
    longest = facts.n_ctx_seq if facts else None
    return {
        "model_id": card.name,
        "model_sha": card.digest,
        "model_pipeline_tag": "text-generation",
        "max_concurrent_requests": status.queue_capacity,
        "max_best_of": MAX_BEST_OF,
        "max_stop_sequences": MAX_STOPS,
        "max_input_tokens": longest and longest - 1,
        "max_total_tokens": longest,
        "validation_workers": 1,
        "max_client_batch_size": MAX_PROMPTS,
        "router": "text-generation-router",
        "version": TGI_VERSION,
        "sha": None,
        "docker_label": None,
        "model_dtype": card.quantization,
        "model_device_type": facts and {"gpu": "cuda", "cpu": "cpu"}[compute_type(facts)],
        "max_input_length": longest and longest - 1,
        "max_batch_total_tokens": facts and facts.n_ctx,
        # There is no such thing here: prompts and answers share every step.
        "waiting_served_ratio": None,
        "max_waiting_tokens": None,
    }


async def list_models(request: Request[State]) -> Response:
    models = [
        {
            "id": status.card.name,
            "object": "model",
            "created": int(status.card.modified),
            "owned_by": status.card.name,
        }
        for status in request.state["runtime"].models()
        if status.card.problem is None
    ]
    return json_response({"object": "list", "data": models})


async def health(request: Request[State]) -> Response:
    if request.state["runtime"].ready:
        return Response()
    return json_response({"error": "unhealthy", "error_type": "healthcheck"}, 503)


async def metrics(request: Request[State]) -> Response:
    return RedirectResponse("/metrics")


async def no_document(request: Request[State]) -> Response:
    raise HTTPException(501, "This server does not carry the document; it is that of TGI 3.3.6")


_OWN: Final = [
    Route("/generate", generate, methods=["POST"]),
    Route("/generate_stream", generate_stream, methods=["POST"]),
    Route("/chat_tokenize", chat_tokenize, methods=["POST"]),
    Route("/vertex", vertex, methods=["POST"]),
    Route("/info", info),
]

DIALECT: Final = Dialect(
    "tgi",
    [
        Route("/", compat_generate, methods=["POST"]),
        Route("/", health),
        *_OWN,
        Route("/tokenize", tokenize, methods=["POST"]),
        Route("/invocations", invocations, methods=["POST"]),
        Route("/health", health),
        Route("/ping", health),
        Route("/metrics", metrics),
        Route("/docs", no_document),
        Route("/api-doc/openapi.json", no_document),
        Route("/v1/models", list_models),
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
    ],
    worded,
)

# The hub's client posts to its base URL itself, here and under the prefix.
at_root: Final = [
    *_OWN,
    Route("/", compat_generate, methods=["POST"]),
    Route("/tgi", compat_generate, methods=["POST"]),
    Route("/hf/v1/completions", compat_generate, methods=["POST"]),
]
# Whose failures are TGI's, as far as the path tells.
ROOT_PATHS: Final = ("/generate", "/chat_tokenize", "/vertex", "/info", "/hf/", "/tgi")
