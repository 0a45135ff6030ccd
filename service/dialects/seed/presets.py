"""Presets as they would be on this machine, with these models.

    GET /api/dashboard/presets    each preset: what it wants, what it comes to here, and why

`settings` is what `POST /api/dashboard/configure` with {"preset": name} puts in force now; it may be
another tomorrow, when other memory is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.control import presets, weights
from service.control.config import made, patched
from service.control.hardware import Hardware, hardware
from service.control.presets import Preset, Resolved
from service.dialects.framing import json_response
from service.dialects.state import State
from service.errors import InvalidSettings
from service.fleet.devices import built_for_gpus
from service.fleet.memory import ModelMemory
from service.fleet.model_layers import memory_of
from service.fleet.parameters import engine_params
from service.fleet.placer import calibrated, constraints_of
from service.fleet.refusal import refusal
from service.serving.model_status import ModelStatus
from service.tuning.distribution import concerned, gpus_of, pids

MIB: Final = 1024 * 1024


async def listed(request: Request[State]) -> Response:
    machine = hardware(request.state["monitors"])
    known = request.state["presets"]
    found = [await fitted(request, preset, machine) for preset in known]
    body = {
        "presets": [encode(each) for each in found],
        "in_force": request.state["reconfiguration"].preset,
        "hardware": encode_hardware(machine),
    }
    return json_response(body)


async def resolved(request: Request[State], name: str) -> Resolved:
    """Raises UnknownPreset."""
    preset = presets.find(name, request.state["presets"])
    return await fitted(request, preset, hardware(request.state["monitors"]))


async def fitted(request: Request[State], preset: Preset, machine: Hardware) -> Resolved:
    """For the models that are loaded, or the one that is asked for first."""
    runtime = request.state["runtime"]
    refuses = trial(request, concerned(runtime, None), machine)
    slots = request.state["reconfiguration"].settings.parallel_slots
    longest = longest_context(runtime.models(), slots)
    return await asyncio.to_thread(presets.fitted, preset, machine, refuses, longest)


def trial(
    request: Request[State], statuses: list[ModelStatus], machine: Hardware
) -> Callable[[Mapping[str, Any]], str | None]:
    """Why one of the models would not be served with a patch; for another thread to ask. What is
    wrong with the patch itself is told by whoever applies it."""
    reconfiguration = request.state["reconfiguration"]
    given, overrides = reconfiguration.given, dict(reconfiguration.version.overrides)
    learnt = request.state["runtime"].learnt
    cards = weights.cards(machine.gpus, pids(statuses)) or ()
    gpus = gpus_of(cards) if built_for_gpus() else ()
    headers: dict[str, ModelMemory | None] = {}

    def refuses(patch: Mapping[str, Any]) -> str | None:
        try:
            settings = made(given, patched(overrides, patch))
        except InvalidSettings:
            return None
        for card in (status.card for status in statuses):
            if card.path not in headers:
                headers[card.path] = memory_of(card)
            model = headers[card.path]
            if model is None:
                continue
            constraints = constraints_of(engine_params(card, settings))
            ratio = learnt.ratio(calibrated(card, constraints))
            if refused := refusal(model, gpus, machine.memory_available, constraints, ratio):
                return f"{card.name}: {refused}"
        return None

    return refuses


def longest_context(statuses: list[ModelStatus], slots: int) -> int | None:
    """That any of the models can use, in all its sequences; None where that is not known of each."""
    lengths = [s.card.context_length for s in statuses if s.card.problem is None]
    if not lengths or None in lengths:
        return None
    return slots * max(length for length in lengths if length is not None)


def encode(found: Resolved) -> dict[str, Any]:
    preset = found.preset
    return {
        "name": preset.name,
        "title": preset.title,
        "description": preset.description,
        "aliases": list(preset.aliases),
        "settings": found.patch,
        "wanted": dict(preset.settings),
        "why": found.why,
    }


def encode_hardware(machine: Hardware) -> dict[str, Any]:
    return {
        "physical_cores": machine.physical_cores,
        "logical_cores": machine.logical_cores,
        "memory_total": machine.memory_total / MIB,
        "memory_available": machine.memory_available / MIB,
        "gpus": [
            {
                "gpu_id": gpu.index,
                "uuid": gpu.uuid,
                "name": gpu.name,
                "memory_total": gpu.memory and gpu.memory.total / MIB,
                "memory_available": gpu.memory and gpu.memory.free / MIB,
            }
            for gpu in machine.gpus
        ],
    }


at_root: Final = [Route("/api/dashboard/presets", listed)]
