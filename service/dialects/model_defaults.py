"""What a model's own files want sampled with, where the request does not say.

    request > the Modelfile's PARAMETER > the file's general.sampling.* > the dialect's default

The files come from strangers: what no sampler can make sense of is passed over.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from service.catalog.card import ModelCard
from service.dialects.fields import Fields
from service.dialects.ollama.options import floats, integers, stops
from service.dialects.sampling import parse_sampling
from service.dialects.state import State
from service.errors import InvalidRequest, ServiceError


def model_defaults(card: ModelCard) -> dict[str, Any]:
    """In the names of SamplingParams."""
    found: dict[str, Any] = {}
    for key, value in card.sampling.items():
        found |= readable(key, value)
    for key, value in card.parameters.items():
        found |= wanted(key, value)
    return found


def readable(key: str, value: float) -> dict[str, Any]:
    try:
        return {key: getattr(parse_sampling(Fields({key: value})), key)}
    except InvalidRequest:
        return {}


def wanted(key: str, value: Any) -> dict[str, Any]:
    """Of a Modelfile, whose other parameters are for loading."""
    options = Fields({key: value})
    try:
        found = integers(options) | floats(options)
        if stop := stops(options):
            found["stop"] = stop
    except InvalidRequest:
        return {}
    return {name: each for name, each in found.items() if each is not None}


def defaults_for(request: Request[State], fields: Fields) -> dict[str, Any]:
    """Of the model that a body names. What is wrong with the name, its admission says."""
    name = fields.values.get("model")
    try:
        card = request.state["runtime"].resolve(name if isinstance(name, str) else None)
    except ServiceError:
        return {}
    return model_defaults(card)
