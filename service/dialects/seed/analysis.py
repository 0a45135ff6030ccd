"""How much of what this machine could give is given, and what could be done about the rest.

    GET /api/metrics/optimization                      the last analysis, of a minute ago at most
    GET /api/metrics/optimization?refresh=1            the same; a new one is begun, once a second at most
    GET /api/metrics/optimization?threads=8&tensor_split=0.5,0.5
                                                       as it would be with these settings

The what-if parameters are tensor_split, gpu_layers, threads, batch_size and context_size; where the
model in use would go with them is worked out by the placement that loads go by. What follows from
settings follows them; what was measured (times, heat) stays as it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporters.readings import HostReading
from service.control.analysis import Analysis
from service.control.analyst import Analyst, Hypothesis
from service.control.rule import for_model, names_of
from service.control.simulation import with_patch
from service.dialects.framing import iso, json_response
from service.dialects.seed.advice import encode_analysis, encode_hypothesis
from service.dialects.seed.machine import encode_cpu, encode_gpus, encode_memory, encode_models
from service.dialects.state import State
from service.errors import InvalidRequest
from service.settings import Settings
from service.settings_errors import reason

if TYPE_CHECKING:
    from collections.abc import Sequence

# The parameters, and the settings that they stand for.
WHAT_IF: Final = {
    "gpu_layers": "gpu_layers",
    "threads": "threads",
    "batch_size": "batch_size",
    "context_size": "default_context_size",
}
SPLIT: Final = "tensor_split"
SWITCH: Final = {"1": True, "true": True, "0": False, "false": False, "": False}


async def optimization(request: Request[State]) -> Response:
    analyst, settings = request.state["analyst"], request.state["settings"]
    asked = wanted(request.query_params, settings)
    if switch("refresh", request.query_params):
        analyst.ask()
    imagined = await imagine(analyst, asked)
    judged: Analysis | Hypothesis | None = imagined or analyst.latest
    monitors = request.state["monitors"]
    machine = monitors.machine or HostReading()
    models = [m for m in request.state["runtime"].models() if m.card.problem is None]
    split = asked.get(SPLIT) or in_force(analyst, settings)
    health = {c.id: c.health for c in judged.components} if judged else {}
    quality = {id: None if h is None else 100 * h for id, h in health.items()}
    score = judged.score if judged else None
    body: dict[str, Any] = {
        "timestamp": iso(time.time()),
        "cpu_analysis": encode_cpu(machine),
        "memory_analysis": encode_memory(machine),
        "gpu_analysis": encode_gpus(monitors, split, quality),
        "model_analysis": encode_models(models, score),
        **encode_analysis(judged, analyst.latest),
    }
    if asked:
        body["what_if"] = encode_hypothesis(asked, imagined)
    return json_response(body)


async def imagine(analyst: Analyst, asked: Mapping[str, Any]) -> Hypothesis | None:
    evidence = analyst.evidence
    if not asked or evidence is None:
        return None
    return await analyst.what_if(for_model(evidence.settings, names_of(evidence), asked))


def in_force(analyst: Analyst, settings: Settings) -> Sequence[float] | None:
    """How the model in use is split, else how one would be."""
    main = analyst.evidence.main if analyst.evidence is not None else None
    split = main.shares if main is not None and main.shares else settings.tensor_split
    return [share / sum(split) for share in split] if sum(split) else None


def wanted(query: Mapping[str, str], settings: Settings) -> dict[str, Any]:
    """Values of settings; raises InvalidRequest, which names the parameter."""
    asked: dict[str, Any] = {
        key: whole_number(name, query[name]) for name, key in WHAT_IF.items() if name in query
    }
    for name, key in WHAT_IF.items():
        if name in query:
            check(name, {key: asked[key]}, settings)
    if (split := shares(query.get(SPLIT))) is not None:
        asked[SPLIT] = split
    if asked:
        check(next(iter(asked)), asked, settings)
    return asked


def check(name: str, patch: Mapping[str, Any], settings: Settings) -> None:
    try:
        with_patch(settings, patch)
    except ValidationError as error:
        raise InvalidRequest(f"{name}: {reason(error.errors()[0])}", param=name) from None


def switch(name: str, query: Mapping[str, str]) -> bool:
    if (text := query.get(name, "")) not in SWITCH:
        raise InvalidRequest(f"{name} must be 0 or 1", param=name)
    return SWITCH[text]


def whole_number(name: str, text: str) -> int:
    if not text.strip().removeprefix("-").isdecimal() or len(text) > 12:
        raise InvalidRequest(f"{name} must be a whole number", param=name)
    return int(text)


def shares(text: str | None) -> list[float] | None:
    """Of each GPU, summing to 1; raises InvalidRequest."""
    if not text:
        return None
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 <= value < 1e9 for value in values) or not sum(values):
        raise InvalidRequest(
            "tensor_split must be shares such as 0.5,0.3,0.2", param="tensor_split"
        )
    return [value / sum(values) for value in values]


at_root: Final = [Route("/api/metrics/optimization", optimization)]
