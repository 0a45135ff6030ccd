"""LoRA adapters as the dialects name, list and change them.

An adapter that has a name is a model to clients of OpenAI's and vLLM's dialects, with the model that
it belongs to as `parent`. llama-server numbers them.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from service.dialects.admission import read_elements, read_fields
from service.dialects.deeds import Deed
from service.dialects.gone import unless_gone
from service.dialects.respond import json, tell_ignored
from service.dialects.sampling import parse_lora
from service.dialects.state import State

if TYPE_CHECKING:
    from service.serving.runtime import ModelStatus


def listed(status: ModelStatus, model: dict[str, Any]) -> list[dict[str, Any]]:
    """`model`, an entry of /v1/models, and one for each of its adapters that has a name."""
    named = [adapter for adapter in status.adapters if adapter.name]
    # Not where it lies: that is nobody's business.
    return [model] + [
        model | {"id": each.name, "root": PurePath(each.path).name, "parent": model["id"]}
        for each in named
    ]


def numbered(status: ModelStatus) -> list[dict[str, Any]]:
    """llama-server's list. What a file says of its use is known of a loaded one only."""
    facts = status.facts.adapters if status.facts is not None else ()
    known = dict(enumerate(facts))
    return [
        {
            "id": number,
            "path": PurePath(adapter.path).name,
            "scale": adapter.scale,
            "task_name": known[number].task if number in known else "",
            "prompt_prefix": known[number].prompt_prefix if number in known else "",
        }
        for number, adapter in enumerate(status.adapters)
    ]


async def rescale(request: Request[State]) -> Response:
    """llama-server's: the scales of requests that say nothing; of those left out, 0."""
    fields = await read_elements(request, "llama-server", "lora")
    runtime = request.state["runtime"]
    card = runtime.resolve(request.query_params.get("model"))
    choices = parse_lora(fields) or ()
    before = {str(number): each.scale for number, each in enumerate(runtime.adapters.of(card))}
    scales = {int(each.adapter): each.scale or 0.0 for each in choices}
    with Deed(request, "adapter scales", **{card.name: (before, scales)}):
        runtime.adapters.rescale(card, scales)
    return json({"success": True})


async def load(request: Request[State]) -> Response:
    """vLLM's; `base_model_name` as in its --lora-modules, where there is more than one model."""
    fields = await read_fields(request, "vllm")
    name, path = fields.text("lora_name", longest=128), fields.text("lora_path", longest=4096)
    if not name or not path:
        key = "lora_path" if name else "lora_name"
        raise fields.bad(key, "Both 'lora_name' and 'lora_path' must be provided.")
    if not name.isprintable() or "\0" in path:
        raise fields.bad("lora_name", "must be printable text")
    anew, model = fields.flag("load_inplace"), fields.text("base_model_name", longest=512)
    tell_ignored(request, fields, ())
    with Deed(request, "adapter load", adapter=(None, name)):
        adding = request.state["runtime"].adapters.add(name, path, model, anew=anew)
        await unless_gone(request.receive, adding)
    return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")


async def unload(request: Request[State]) -> Response:
    fields = await read_fields(request, "vllm")
    name = fields.text("lora_name", longest=128)
    if not name:
        raise fields.bad("lora_name", "is missing")
    # vLLM's own number for it: names are enough.
    tell_ignored(request, fields, ("lora_int_id",))
    with Deed(request, "adapter unload", adapter=(name, None)):
        await unless_gone(request.receive, request.state["runtime"].adapters.remove(name))
    return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")
