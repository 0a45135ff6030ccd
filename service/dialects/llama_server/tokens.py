"""llama-server's /tokenize, /detokenize, /apply-template and /embedding: nothing is generated."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.dialects.admission import embedded, identity, read_fields, tokenized
from service.dialects.fields import Fields
from service.dialects.gone import unless_gone
from service.dialects.llama_server.request import parse_element
from service.dialects.llama_server.shapes import NAME, encode_piece
from service.dialects.openai.chat_request import HARMLESS, parse_chat
from service.dialects.openai.completions_request import parse_prompts
from service.dialects.openai.embeddings import MAX_INPUTS, floats
from service.dialects.respond import json, tell_cut, tell_ignored
from service.dialects.sampling import parse_truncation
from service.dialects.state import State
from service.generation import Chat, EmbeddingRequest, Text
from service.telemetry.http import exchange_of


async def apply_template(request: Request[State]) -> Response:
    fields = await read_fields(request, NAME)
    wanted = parse_chat(fields, **identity(request), dialect=NAME, prefills=True)
    tell_ignored(request, fields, HARMLESS)
    assert isinstance(wanted.input, Chat)
    runtime = request.state["runtime"]
    exchange_of(request.scope).model = runtime.resolve(wanted.model or None).name
    rendered = runtime.render(wanted.model, wanted.input)
    return json({"prompt": await unless_gone(request.receive, rendered)})


async def embeddings(request: Request[State]) -> Response:
    """Each input's vector in a list of its own, where a model without pooling has one a token."""
    fields = await read_fields(request, NAME)
    key = "content" if "content" in fields else "input"
    special = fields.flag("add_special_tokens", True)
    inputs = parse_prompts(fields, key, MAX_INPUTS)
    normalize = fields.integer("embd_normalize")
    if normalize not in (None, -1, 2):
        raise fields.bad("embd_normalize", "must be 2 (to length 1) or -1 (as they are)")
    wanted = EmbeddingRequest(
        model=fields.model(),
        inputs=tuple(Text(each, special) if isinstance(each, str) else each for each in inputs),
        dialect=NAME,
        normalize=normalize != -1,
        truncation=parse_truncation(fields, "right"),
        **identity(request),
    )
    tell_ignored(request, fields, ())
    made = await embedded(request, wanted)
    body = [
        {"index": index, "embedding": [floats(vector)]} for index, vector in enumerate(made.vectors)
    ]
    return tell_cut(json(body), made.cut_tokens)


async def tokenize(request: Request[State], fields: Fields) -> Response:
    """The endpoint at the root has other claimants: it comes here by `content`."""
    exchange_of(request.scope).api = NAME
    if "content" not in fields:
        raise fields.bad("content", "is missing")
    prompt = parse_element(fields, "content", fields.get("content"))
    special, with_pieces = fields.flag("add_special"), fields.flag("with_pieces")
    model = fields.model()
    if fields.claim("parse_special") is True:
        # Control tokens in a text are always read as such.
        fields.skip(("parse_special",))
    ignored = ["parse_special"] if fields.flag("parse_special", True) is False else []
    tell_ignored(request, fields, ())
    exchange_of(request.scope).ignored += ignored
    tokens: list[Any] = []
    for number, part in enumerate(prompt):
        if isinstance(part, str):
            text = Text(part, add_special_tokens=special and number == 0)
            found = await tokenized(request, model, text)
            pairs = zip(found.tokens, found.pieces, strict=True)
            tokens += [encode_piece(*pair) for pair in pairs] if with_pieces else found.tokens
        elif with_pieces:
            texts = [await request.state["runtime"].detokenize(model, (id,)) for id in part]
            tokens += [encode_piece(*p) for p in zip(part, map(str.encode, texts), strict=True)]
        else:
            tokens += part
    return json({"tokens": tokens})


async def tokenize_content(request: Request[State]) -> Response:
    return await tokenize(request, await read_fields(request, NAME))


async def detokenize(request: Request[State]) -> Response:
    fields = await read_fields(request, NAME)
    tokens = fields.integers("tokens", longest=1_000_000)
    model = fields.model()
    tell_ignored(request, fields, ())
    runtime = request.state["runtime"]
    exchange_of(request.scope).model = runtime.resolve(model or None).name
    text = await unless_gone(request.receive, runtime.detokenize(model, tokens))
    return json({"content": text})
