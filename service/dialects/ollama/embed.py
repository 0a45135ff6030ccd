"""POST /api/embed and the older /api/embeddings."""

from __future__ import annotations

import sys
import time
from array import array
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response

from service.dialects.admission import identity, read_fields, traced
from service.dialects.fields import Fields, kind
from service.dialects.gone import unless_gone
from service.dialects.ollama.durations import parse_keep_alive
from service.dialects.ollama.names import NOT_PULLED, known
from service.dialects.ollama.options import Options, parse_options, unmet, wishes_of
from service.dialects.ollama.request import parse_model
from service.dialects.ollama.shapes import API, encode_cut, json, nanoseconds
from service.dialects.respond import tell_cut, tell_ignored
from service.dialects.state import State
from service.generation import EmbeddingRequest, Text, Truncation
from service.telemetry.http import exchange_of

if TYPE_CHECKING:
    from service.serving.runtime import Embeddings

MAX_INPUTS: Final = 2048
MAX_DIMENSIONS: Final = 65536


async def embed(request: Request[State]) -> Response:
    fields = await read_fields(request, API)
    inputs = parse_input(fields)
    dimensions = fields.integer("dimensions", low=0, high=MAX_DIMENSIONS)
    cut = fields.flag("truncate", True)
    model, keep_alive, options = parse_rest(request, fields)
    known(request, model, required=False, unknown=NOT_PULLED)
    if not inputs:
        await unless_gone(request.receive, request.state["runtime"].load(model, keep_alive))
        return json({"model": model, "embeddings": []})
    wanted = EmbeddingRequest(
        model=model,
        inputs=tuple(Text(each) for each in inputs),
        dialect=API,
        dimensions=dimensions or None,
        truncation=beginning() if cut else None,
        keep_alive=keep_alive,
        load=wishes_of(options.loading),
        **identity(request),
    )
    found = await embedded(request, wanted, options)
    body = {
        "model": model,
        "embeddings": [floats(vector) for vector in found.vectors],
        "total_duration": nanoseconds(wanted.arrived, time.monotonic()),
        "load_duration": nanoseconds(0.0, found.load_seconds),
        "prompt_eval_count": found.prompt_tokens,
        **encode_cut(found.prompt_tokens, found.cut_tokens),
    }
    return tell_cut(json(body), found.cut_tokens)


async def embeddings(request: Request[State]) -> Response:
    """One text, and its vector as the model made it: not of length 1."""
    fields = await read_fields(request, API)
    prompt = fields.text("prompt") or ""
    model, keep_alive, options = parse_rest(request, fields)
    known(request, model, unknown=NOT_PULLED)
    if not prompt:
        await unless_gone(request.receive, request.state["runtime"].load(model, keep_alive))
        return json({"embedding": []})
    wanted = EmbeddingRequest(
        model=model,
        inputs=(Text(prompt),),
        dialect=API,
        normalize=False,
        truncation=beginning(),
        keep_alive=keep_alive,
        load=wishes_of(options.loading),
        **identity(request),
    )
    found = await embedded(request, wanted, options)
    return tell_cut(json({"embedding": floats(found.vectors[0])}), found.cut_tokens)


def parse_rest(request: Request[State], fields: Fields) -> tuple[str, float | None, Options]:
    model, keep_alive = parse_model(fields), parse_keep_alive(fields)
    options = parse_options(fields)
    tell_ignored(request, fields, ())
    exchange_of(request.scope).ignored += options.ignored
    return model, keep_alive, options


def parse_input(fields: Fields) -> list[str]:
    value = fields.get("input")
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise fields.bad("input", f"invalid input type: {kind(value)}")
    if len(value) > MAX_INPUTS:
        raise fields.bad("input", f"must not have more than {MAX_INPUTS} elements")
    for number, element in enumerate(value):
        if not isinstance(element, str):
            raise fields.bad(f"input.{number}", f"invalid input type: {kind(element)}")
    return value


async def embedded(
    request: Request[State], wanted: EmbeddingRequest, options: Options
) -> Embeddings:
    runtime = request.state["runtime"]
    exchange = exchange_of(request.scope)
    found = await unless_gone(request.receive, runtime.embed(traced(exchange, wanted)))
    unused = unmet(options.loading, found.facts)
    exchange.ignored += unused
    return found


def beginning() -> Truncation:
    """What is said first stays, as in Ollama."""
    return Truncation(side="right")


def floats(vector: bytes) -> list[float]:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
