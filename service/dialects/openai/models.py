"""GET /v1/models and /v1/models/{id}, in the superset's shape: OpenAI's keys, and beside them those
that clients of vLLM, llama-server and Ollama look for."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.dialects.adapters import listed
from service.dialects.ollama.listing import capabilities
from service.dialects.openai.shapes import encode_permission
from service.dialects.respond import json
from service.dialects.state import State

if TYPE_CHECKING:
    from service.serving.runtime import ModelStatus


async def list_models(request: Request[State]) -> Response:
    runtime = request.state["runtime"]
    models = [
        entry
        for status in runtime.models()
        if status.card.problem is None
        for entry in listed(status, encode_model(status, runtime.capabilities(status.card)))
    ]
    return json({"object": "list", "data": models})


async def one_model(request: Request[State]) -> Response:
    id = request.path_params["id"]
    if not id:  # /v1/models/
        return await list_models(request)
    runtime = request.state["runtime"]
    status = runtime.status(id)
    able = runtime.capabilities(status.card)
    model, *adapters = listed(status, encode_model(status, able))
    own = (adapter for adapter in adapters if adapter["id"] == id)
    return json(next(own, model | {"id": id}))


def encode_model(status: ModelStatus, able: Collection[str]) -> dict[str, Any]:
    card, facts = status.card, status.facts
    model: dict[str, Any] = {
        "id": card.name,
        "object": "model",
        "created": int(card.modified),
        "owned_by": "library",
        "root": card.name,
        "parent": None,
        "permission": [encode_permission(card)],
        "capabilities": capabilities(able),
        "context_length": card.context_length,
        # One sequence's share, which only a loaded model has.
        "max_model_len": facts.n_ctx_seq if facts else None,
        "meta": {"n_ctx_train": card.context_length, "n_params": card.parameter_count},
    }
    model["meta"] |= {"size": card.size_bytes}
    if facts is not None:
        model["meta"] |= {"n_vocab": facts.n_vocab, "n_embd": facts.n_embd, "n_ctx": facts.n_ctx}
    return model


routes: Final = [
    Route("/v1/models", list_models),
    Route("/v1/models/{id:path}", one_model),
]
