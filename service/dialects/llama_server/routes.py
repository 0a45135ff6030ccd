"""The native API of llama-server: completions, infilling, templates, vectors, tokens.

What clients made for llama.cpp ask for by these paths. Its /v1 is the superset's, as everywhere;
what llama-server has with and without /v1 is under its prefix in both ways.
"""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.dialects.admission import read_fields
from service.dialects.anthropic import routes as anthropic
from service.dialects.dialect import Dialect
from service.dialects.llama_server.completion import completion, infill
from service.dialects.llama_server.models import health, model_routes
from service.dialects.llama_server.shapes import NAME, worded
from service.dialects.llama_server.tokens import (
    apply_template,
    detokenize,
    embeddings,
    tokenize,
    tokenize_content,
)
from service.dialects.manner import Manner
from service.dialects.openai import routes as openai
from service.dialects.responses import routes as responses
from service.dialects.state import State
from service.dialects.vllm import rank as vllm_rank

# For whoever decides whose /tokenize at the root it is.
__all__ = ["DIALECT", "ROOT_PATHS", "at_root", "tokenize"]

# Its chats go on with an assistant's message at the end.
MANNER: Final = Manner(NAME, prefills=True)


async def chat_completions(request: Request[State]) -> Response:
    return await openai.chat(request, await read_fields(request, NAME), MANNER)


async def no_control(request: Request[State]) -> Response:
    raise HTTPException(
        501,
        "Thoughts that have begun cannot be ended from outside; reasoning_budget_tokens limits them",
    )


async def no_logs(request: Request[State]) -> Response:
    raise HTTPException(501, "The service writes its log to standard error, and keeps none of it")


at_root: Final = [
    Route("/completion", completion, methods=["POST"]),
    Route("/infill", infill, methods=["POST"]),
    Route("/apply-template", apply_template, methods=["POST"]),
    Route("/embedding", embeddings, methods=["POST"]),
    Route("/embeddings", embeddings, methods=["POST"]),
    Route("/v1/chat/completions/control", no_control, methods=["POST"]),
    Route("/logs", no_logs),
    Route("/logs/stream", no_logs),
    *model_routes,
]

# Who words what fails there. /api/models/unload is worded by who else is below /api.
ROOT_PATHS: Final = (
    "/completion",
    "/infill",
    "/apply-template",
    "/embedding",
    "/props",
    "/slots",
    "/lora-adapters",
    "/models",
    "/running",
    "/logs",
    "/v1/chat/completions/control",
)

# With OpenAI's shapes and its own words, at both of its addresses.
_SPOKEN: Final = [
    Route(above + path, endpoint, methods=["POST"])
    for above in ("", "/v1")
    for path, endpoint in (
        ("/chat/completions", chat_completions),
        ("/chat/completions/input_tokens", openai.count_tokens),
        ("/responses", responses.create),
        ("/responses/input_tokens", responses.count_tokens),
        ("/rerank", vllm_rank.rerank),
        ("/reranking", vllm_rank.rerank),
    )
]
_PATHS: Final = {route.path for route in _SPOKEN}

DIALECT: Final = Dialect(
    NAME,
    [
        *at_root,
        Route("/health", health),
        Route("/v1/health", health),
        Route("/completions", completion, methods=["POST"]),
        Route("/chat/completions/control", no_control, methods=["POST"]),
        Route("/tokenize", tokenize_content, methods=["POST"]),
        Route("/detokenize", detokenize, methods=["POST"]),
        *_SPOKEN,
        *anthropic.at_root,
        *[route for route in openai.DIALECT.routes if route.path not in _PATHS],
    ],
    worded,
)
