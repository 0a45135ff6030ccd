"""What changes the models on disk: /api/pull, /api/push, /api/create, /api/copy, /api/delete and
/api/blobs. All of it in this server's own store; what other programs keep is only read.

A stream is a line of JSON for each step, the last of them `success` or an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from service.catalog.card import ModelCard
from service.dialects.admission import read_fields
from service.dialects.body import READ_SECONDS, ClientGone
from service.dialects.coding import check_plain
from service.dialects.deeds import Deed
from service.dialects.failures import Failure
from service.dialects.fields import Fields
from service.dialects.framing import encode_json
from service.dialects.gone import unless_gone
from service.dialects.ollama.names import NOT_FOUND, NOT_PULLED, ModelUnknown, known
from service.dialects.ollama.recipe import parse_create, parse_name, word_of
from service.dialects.ollama.shapes import API, NDJSON, json, worded
from service.dialects.respond import Stream, tell_ignored
from service.dialects.state import State
from service.errors import Forbidden, InvalidRequest, ModelNotFound, ModelUnusable
from service.store.transfers import Step
from service.telemetry.http import exchange_of

Steps = AsyncGenerator[list[Step], None]


class Follow:
    """The steps of some work, to be streamed or waited for."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def batches(self) -> AsyncIterator[list[Any]]:
        return self._steps

    async def aclose(self) -> None:
        await self._steps.aclose()


class Lines:
    media_type = NDJSON
    # NDJSON has no comments.
    ping: bytes | None = None

    def encode(self, steps: Sequence[Any]) -> bytes:
        return b"".join(encode_json(step) + b"\n" for step in steps)

    def fail(self, failure: Failure) -> bytes:
        return encode_json(worded(failure)[1]) + b"\n"

    def close(self) -> bytes:
        return b""


async def pull(request: Request[State]) -> Response:
    fields = await asked(request)
    name = parse_name(word_of(fields))
    stream = fields.flag("stream", True)
    # Plain HTTP is the operator's to allow, not the client's.
    insecure = fields.flag("insecure")
    tell_ignored(request, fields, ())
    ignored(request, "insecure", insecure)
    with Deed(request, "pull", model=(None, name.shortest)) as deed:
        steps = request.state["library"].pull(name)
        return await told(request, deed.followed(steps), stream)


async def push(request: Request[State]) -> Response:
    fields = await asked(request)
    word = word_of(fields)
    name = parse_name(word)
    stream = fields.flag("stream", True)
    insecure = fields.flag("insecure")
    tell_ignored(request, fields, ())
    ignored(request, "insecure", insecure)
    library = request.state["library"]
    with Deed(request, "push", model=(name.shortest, name.shortest)) as deed:
        steps = library.push(name)
        if not library.has_model(name):
            raise ModelUnknown(word, NOT_FOUND)
        return await told(request, deed.followed(steps), stream)


async def create(request: Request[State]) -> Response:
    fields = await asked(request)
    name = parse_name(word_of(fields))
    stream = fields.flag("stream", True)
    wanted = parse_create(fields, name)
    tell_ignored(request, fields, ())
    recipe = wanted.recipe
    # Kept and shown; prompts are put together with the file's own template.
    ignored(request, "template", recipe.template is not None)
    if wanted.base:
        recipe = replace(recipe, base=usable(known(request, wanted.base)))
    with Deed(request, "create", model=(None, name.shortest)) as deed:
        steps = request.state["library"].make(recipe)
        return await told(request, deed.followed(steps), stream)


async def copy(request: Request[State]) -> Response:
    fields = await asked(request)
    word = fields.text("source") or ""
    source = parse_name(word, f'source "{word[:80]}" is invalid')
    target = fields.text("destination") or ""
    destination = parse_name(target, f'destination "{target[:80]}" is invalid')
    tell_ignored(request, fields, ())
    library = request.state["library"]
    with Deed(request, "copy", model=(source.shortest, destination.shortest)):
        if library.has_model(source):
            copying = library.copy(source, None, destination)
        else:
            card = usable(known(request, word, unknown=NOT_PULLED))
            copying = library.copy(None, card, destination)
        await unless_gone(request.receive, copying)
    return Response()


async def delete(request: Request[State]) -> Response:
    fields = await asked(request)
    word = word_of(fields)
    name = parse_name(word)
    tell_ignored(request, fields, ())
    library, runtime = request.state["library"], request.state["runtime"]
    with Deed(request, "delete", model=(name.shortest, None)):
        if not library.has_model(name):
            known(request, word)
            raise Forbidden(
                f"model '{word}' is not in this server's own store, and it deletes from no other"
            )
        # One that is damaged, or that nobody has looked at yet, is not loaded either.
        with suppress(ModelNotFound):
            await unless_gone(request.receive, runtime.unload(name.shortest))
        await library.delete(name)
    return Response()


async def has_blob(request: Request[State]) -> Response:
    exchange_of(request.scope).api = API
    try:
        there = request.state["library"].has_blob(request.path_params["digest"])
    except ValueError as error:
        raise InvalidRequest(str(error), param="digest") from None
    return Response(status_code=200 if there else 404)


async def upload_blob(request: Request[State]) -> Response:
    exchange_of(request.scope).api = API
    check_plain(request.scope)
    length = request.headers.get("content-length")
    try:
        async with aclosing(arriving(request)) as pieces:
            uploaded = await request.state["library"].upload(
                request.path_params["digest"], int(length) if length else None, pieces
            )
    except ValueError as error:
        raise InvalidRequest(str(error), param="digest") from None
    except ClientDisconnect:
        raise ClientGone from None
    return Response(status_code=201 if uploaded.new else 200)


async def arriving(request: Request[State]) -> AsyncGenerator[bytes, None]:
    """The body, in pieces. Whoever stops sending is not waited for."""
    pieces = request.stream()
    while True:
        try:
            async with asyncio.timeout(READ_SECONDS):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(
                408, "The blob did not arrive in time", {"Connection": "close"}
            ) from None
        if piece:
            yield piece


async def asked(request: Request[State]) -> Fields:
    return await read_fields(request, API)


def usable(card: ModelCard) -> ModelCard:
    if card.problem is not None:
        raise ModelUnusable(card.name, card.problem)
    return card


def ignored(request: Request[State], key: str, given: bool) -> None:
    if given:
        exchange_of(request.scope).ignored.append(key)


async def told(request: Request[State], steps: Steps, stream: bool) -> Response:
    follow = Follow(steps)
    if stream:
        return Stream(follow, Lines(), request)
    await unless_gone(request.receive, exhausted(follow))
    return json(Step("success"))


async def exhausted(follow: Follow) -> None:
    async with aclosing(follow):
        async for _ in follow.batches():
            pass


routes: Final = [
    Route("/api/pull", pull, methods=["POST"]),
    Route("/api/push", push, methods=["POST"]),
    Route("/api/create", create, methods=["POST"]),
    Route("/api/copy", copy, methods=["POST"]),
    Route("/api/delete", delete, methods=["DELETE"]),
    Route("/api/blobs/{digest}", has_blob, methods=["HEAD"]),
    Route("/api/blobs/{digest}", upload_blob, methods=["POST"]),
]
