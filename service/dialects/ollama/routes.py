"""The Ollama dialect: /api/chat, /api/generate, /api/embed, and what tells of models.

Its prompts and answers are in `ollama_generation`, what changes the models on disk in
`ollama_management`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from service.catalog.gguf_header import GgufError
from service.dialects.admission import read_fields
from service.dialects.dialect import Dialect
from service.dialects.ollama import management as ollama_management
from service.dialects.ollama.embed import embed, embeddings
from service.dialects.ollama.generation import chat, generate
from service.dialects.ollama.listing import LISTED, encode_ps, encode_tags
from service.dialects.ollama.names import known
from service.dialects.ollama.request import parse_model
from service.dialects.ollama.shapes import API, json, worded
from service.dialects.ollama.show import COPILOT, encode_show, read_contents
from service.dialects.openai import routes as openai
from service.dialects.respond import tell_ignored
from service.dialects.state import State
from service.errors import ModelLoadFailed, ModelUnusable


class Versioned(State):
    version: str


# What Ollama's own command looks for before anything else.
RUNNING: Final = "Ollama is running"


async def root(request: Request[State]) -> Response:
    return PlainTextResponse(RUNNING)


async def tags(request: Request[State]) -> Response:
    runtime = request.state["runtime"]
    cards = [status.card for status in runtime.models()]
    return json(encode_tags((card, runtime.capabilities(card)) for card in cards))


async def ps(request: Request[State]) -> Response:
    models = request.state["runtime"].models()
    return json(encode_ps(models, time.time_ns(), time.monotonic()))


async def show(request: Request[State]) -> Response:
    fields = await read_fields(request, API)
    model = parse_model(fields, "name")
    verbose = fields.flag("verbose")
    system, options = fields.text("system") or "", fields.object("options")
    given = options.whole() if options else {}
    tell_ignored(request, fields, ())
    card = known(request, model)
    if card.reason not in LISTED:
        raise ModelUnusable(card.name, str(card.problem))
    try:
        contents = await asyncio.to_thread(read_contents, card, verbose)
    except (GgufError, OSError):
        # The scan could read it, so it has changed or gone since.
        raise ModelLoadFailed(f"The file of model '{model}' cannot be read") from None
    able = request.state["runtime"].capabilities(card)
    body = encode_show(card, contents, able, verbose=verbose, system=system, options=given)
    if found := request.state["inspection"].differences(card):
        body["inspection"] = {
            name: {"ollama": theirs, "file": ours} for name, (theirs, ours) in found.items()
        }
    if request.headers.get("user-agent", "").startswith(COPILOT):
        body["model_info"]["general.basename"] = model
    return json(body)


async def version(request: Request[Versioned]) -> Response:
    """Ollama's, which clients compare with what they need; our own is in a header."""
    response = json({"version": request.state["settings"].ollama_compat_version})
    response.headers["X-Server-Version"] = request.state["version"]
    return response


async def status(request: Request[State]) -> Response:
    """Of Ollama's cloud, which is not served."""
    return json({"cloud": {"disabled": True, "source": "config"}})


async def unauthorized(request: Request[State]) -> Response:
    raise HTTPException(401, "unauthorized")


ACCOUNT: Final = [
    # At ollama.com, which nobody has here.
    Route("/api/me", unauthorized, methods=["POST"]),
    Route("/api/signout", unauthorized, methods=["POST"]),
]

at_root: Final = [
    Route("/api/generate", generate, methods=["POST"]),
    Route("/api/chat", chat, methods=["POST"]),
    Route("/api/embed", embed, methods=["POST"]),
    Route("/api/embeddings", embeddings, methods=["POST"]),
    Route("/api/tags", tags),
    Route("/api/ps", ps),
    Route("/api/show", show, methods=["POST"]),
    Route("/api/version", version),
    Route("/api/status", status),
    *ollama_management.routes,
    *ACCOUNT,
]

# Ollama has OpenAI's paths too, in OpenAI's words: see `routing.WORDINGS`.
DIALECT: Final = Dialect(API, [Route("/", root), *at_root, *openai.DIALECT.routes], worded)
