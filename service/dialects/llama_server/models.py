"""What llama-server and llama-swap say of models and slots, and how they load and unload them."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from service.dialects.adapters import numbered, rescale
from service.dialects.admission import read_fields
from service.dialects.deeds import Deed
from service.dialects.fields import Fields
from service.dialects.gone import unless_gone
from service.dialects.llama_server.events import STATES, models_sse
from service.dialects.llama_server.request import DEFAULTS
from service.dialects.llama_server.shapes import encode_settings
from service.dialects.model_defaults import model_defaults
from service.dialects.respond import json
from service.dialects.state import State
from service.errors import ModelUnavailable
from service.generation import SamplingParams

if TYPE_CHECKING:
    from service.serving.runtime import ModelStatus, Progress

# llama-swap's.
RUNNING: Final = {"ready": "ready", "loading": "starting", "restarting": "starting"}
BUSY: Final = ("prefill", "generating")


async def props(request: Request[State]) -> Response:
    """Of the model in `?model=`, or the one that a request without a name gets."""
    runtime = request.state["runtime"]
    status = runtime.status(request.query_params.get("model"))
    able = runtime.capabilities(status.card)
    return json(encode_props(status, "vision" in able))


def encode_props(status: ModelStatus, sees: bool) -> dict[str, Any]:
    """What only a loaded model knows is absent where it is not loaded."""
    card, facts = status.card, status.facts
    sampling = DEFAULTS | model_defaults(card)
    settings: dict[str, Any] = {"params": encode_settings(SamplingParams(**sampling))}
    body: dict[str, Any] = {
        "default_generation_settings": settings,
        "model_alias": card.name,
        # Not where it lies: that is nobody's business.
        "model_path": PurePath(card.path).name,
        "modalities": {"vision": sees, "audio": False},
        "is_sleeping": facts is None,
    }
    template = facts.chat_template if facts is not None else card.chat_template
    body["chat_template"] = template or ""
    if facts is not None:
        settings["n_ctx"] = facts.n_ctx_seq
        body |= {
            "total_slots": facts.n_seq,
            "bos_token": facts.bos,
            "eos_token": facts.eos,
            "build_info": facts.engine_version,
        }
    return body


async def slots(request: Request[State]) -> Response:
    runtime = request.state["runtime"]
    status = runtime.status(request.query_params.get("model"))
    facts = status.facts
    if facts is None:
        return json([])
    busy = [
        progress
        for progress in runtime.journal()
        if progress.model == status.card.name and progress.state in BUSY
    ]
    if request.query_params.get("fail_on_no_slot") and len(busy) >= facts.n_seq:
        raise ModelUnavailable("No slot is free.", retry_after=1.0)
    return json([encode_slot(id, facts.n_ctx_seq, busy) for id in range(facts.n_seq)])


def encode_slot(id: int, n_ctx: int, busy: list[Progress]) -> dict[str, Any]:
    """Which sequence is whose changes with each step: the busy ones stand first."""
    slot: dict[str, Any] = {"id": id, "n_ctx": n_ctx, "is_processing": id < len(busy)}
    if id < len(busy):
        progress = busy[id]
        slot["id_task"] = progress.id
        slot["next_token"] = [{"n_decoded": progress.generated_tokens}]
    return slot


async def list_models(request: Request[State]) -> Response:
    models = [encode_model(status) for status in request.state["runtime"].models()]
    return json({"object": "list", "data": models})


def encode_model(status: ModelStatus) -> dict[str, Any]:
    card = status.card
    state: dict[str, Any] = {"value": STATES.get(status.state, "unloaded")}
    if status.state == "failed":
        state |= {"failed": True, "reason": status.reason}
    if status.load_fraction is not None:
        state["progress"] = status.load_fraction
    return {
        "id": card.name,
        "object": "model",
        "created": int(card.modified),
        "owned_by": "library",
        "aliases": list(card.aliases),
        "status": state,
    }


async def load_model(request: Request[State]) -> Response:
    fields = await read_fields(request, "llama-server")
    runtime, model = request.state["runtime"], named(fields)
    with Deed(request, "load", model=(None, model)):
        await unless_gone(request.receive, runtime.load(model))
    return json({"success": True})


async def unload_model(request: Request[State]) -> Response:
    fields = await read_fields(request, "llama-server")
    runtime, model = request.state["runtime"], named(fields)
    with Deed(request, "unload", model=(model, None)):
        await unless_gone(request.receive, runtime.unload(model))
    return json({"success": True})


def named(fields: Fields) -> str:
    model = fields.model()
    if not model:
        raise fields.bad("model", "is missing")
    return model


async def running(request: Request[State]) -> Response:
    """llama-swap's: the models in memory. ttl: seconds that one stays when idle, 0 for ever."""
    loaded = [
        {
            "model": status.card.name,
            "state": RUNNING[status.state],
            "ttl": max(round(status.keep_alive or 0), 0),
        }
        for status in request.state["runtime"].models()
        if status.state in RUNNING
    ]
    return json({"running": loaded})


async def unload_named(request: Request[State]) -> Response:
    """llama-swap's. Without a name, all of them."""
    runtime = request.state["runtime"]
    loaded = [status.card.name for status in runtime.models() if status.state != "unloaded"]
    model = request.path_params.get("id")
    for name in [model] if model else loaded:
        with Deed(request, "unload", model=(name, None)):
            await runtime.unload(name)
    return PlainTextResponse("OK")


async def lora_adapters(request: Request[State]) -> Response:
    """Of the model in `?model=`, or the one that a request without a name gets."""
    if request.method == "POST":
        return await rescale(request)
    status = request.state["runtime"].status(request.query_params.get("model"))
    return json(numbered(status))


async def not_supported(request: Request[State]) -> Response:
    raise HTTPException(501, f"{request.url.path} cannot be changed while the server runs")


async def health(request: Request[State]) -> Response:
    if not request.state["runtime"].ready:
        raise HTTPException(503, "The server is starting or stopping")
    return json({"status": "ok"})


model_routes: Final = [
    Route("/props", props),
    Route("/props", not_supported, methods=["POST"]),
    Route("/slots", slots),
    Route("/slots/{id:int}", not_supported, methods=["POST"]),
    Route("/lora-adapters", lora_adapters, methods=["GET", "POST"]),
    Route("/models", list_models),
    Route("/models/sse", models_sse),
    Route("/models/load", load_model, methods=["POST"]),
    Route("/models/unload", unload_model, methods=["POST"]),
    Route("/running", running),
    Route("/api/models/unload", unload_named, methods=["POST"]),
    Route("/api/models/unload/{id:path}", unload_named, methods=["POST"]),
]
