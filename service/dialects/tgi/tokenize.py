"""TGI's /tokenize and /chat_tokenize: a prompt's tokens, and which bytes of it they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.dialects.admission import read_fields, tokenized
from service.dialects.fields import Fields
from service.dialects.framing import json_response
from service.dialects.openai.chat_request import HARMLESS
from service.dialects.respond import tell_ignored
from service.dialects.state import State
from service.dialects.tgi.chat import parse_tgi_chat
from service.dialects.tgi.request import parse_inputs
from service.generation import Chat, Text


async def tokenize(request: Request[State]) -> Response:
    return await tokenize_inputs(request, await read_fields(request, "tgi"))


async def tokenize_inputs(request: Request[State], fields: Fields) -> Response:
    inputs = parse_inputs(fields)
    if (parameters := fields.object("parameters")) is not None:
        # Of what would be generated.
        parameters.whole()
    model = fields.model()
    tell_ignored(request, fields, ())
    found = await tokenized(request, model, Text(inputs))
    return json_response(encode_tokens(inputs, found.tokens, found.pieces))


async def chat_tokenize(request: Request[State]) -> Response:
    fields = await read_fields(request, "tgi")
    wanted = parse_tgi_chat(request, fields)
    tell_ignored(request, fields, HARMLESS)
    assert isinstance(wanted.input, Chat)
    found = await tokenized(request, wanted.model, wanted.input)
    tokens = encode_tokens(found.prompt, found.tokens, found.pieces)
    return json_response({"tokenize_response": tokens, "templated_text": found.prompt})


def encode_tokens(
    text: str, tokens: Iterable[int], pieces: Sequence[bytes]
) -> list[dict[str, Any]]:
    """`start` and `stop` count bytes. A token that the text does not have, as BOS, has 0 and 0."""
    data = text.encode("utf-8", "surrogatepass")
    at, rows = 0, []
    for token, piece in zip(tokens, pieces, strict=True):
        start = stop = 0
        if (length := written(data, at, piece)) is not None:
            start, stop = at, at + length
            at = stop
        shown = data[start:stop].decode("utf-8", "replace")
        rows.append({"id": token, "text": shown, "start": start, "stop": stop})
    return rows


def written(data: bytes, at: int, piece: bytes) -> int | None:
    """How many of the text's next bytes are this piece's."""
    if piece and data.startswith(piece, at):
        return len(piece)
    if at == 0 and piece.startswith(b" ") and data.startswith(piece[1:]):
        # Many vocabularies begin every text with a space.
        return len(piece) - 1
    return None
