"""POST /v2/embed: Cohere's request for vectors, as vLLM has it beside OpenAI's."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response

from service.dialects.admission import embedded, identity, read_fields
from service.dialects.fields import Fields
from service.dialects.openai.embeddings import encode_vector
from service.dialects.respond import json, tell_cut, tell_ignored
from service.dialects.state import State
from service.generation import EmbeddingRequest, Text, Truncation

if TYPE_CHECKING:
    from service.serving.runtime import Embeddings

# Cohere's limit is 96; nothing here needs one so small.
MAX_TEXTS: Final = 2048
TYPES: Final = ("float", "binary", "ubinary", "base64")
SIDES: Final[dict[str, Truncation | None]] = {
    "NONE": None,
    "START": Truncation(side="left"),
    "END": Truncation(side="right"),
}


async def embed(request: Request[State]) -> Response:
    fields = await read_fields(request, "vllm")
    wanted, types = parse_embed(fields, **identity(request))
    tell_ignored(request, fields, ())
    made = await embedded(request, wanted)
    texts = [each.prompt for each in wanted.inputs if isinstance(each, Text)]
    return tell_cut(json(encode_embed(made, wanted.id, texts, types)), made.cut_tokens)


def parse_embed(
    fields: Fields, *, id: str, arrived: float, endpoint: str, timeout: float | None = None
) -> tuple[EmbeddingRequest, tuple[str, ...]]:
    """The request, and the forms in which its vectors are wanted. `input_type` stays unread: what a
    model wants written before a query or a document, its file does not say."""
    texts = parse_texts(fields)
    types = fields.strings("embedding_types", most=len(TYPES), longest=16) or ("float",)
    for number, word in enumerate(types):
        if word not in TYPES:
            raise fields.bad(f"embedding_types.{number}", f"must be one of {', '.join(TYPES)}")
    side = fields.choice("truncate", tuple(SIDES)) or "END"
    limit = fields.integer("max_tokens", low=1, high=2**31 - 1) if side != "NONE" else None
    truncation = SIDES[side]
    if truncation is not None and limit is not None:
        truncation = Truncation(limit, side=truncation.side)
    dimensions = fields.integer("output_dimension", low=1, high=2**31 - 1)
    request = EmbeddingRequest(
        id=id,
        model=fields.model(),
        inputs=tuple(map(Text, texts)),
        arrived=arrived,
        dialect="vllm",
        endpoint=endpoint,
        dimensions=dimensions,
        timeout=timeout,
        truncation=truncation,
        priority=fields.integer("priority") or 0,
    )
    return request, types


def parse_texts(fields: Fields) -> list[str]:
    """`texts`, or `inputs` of parts that are all text."""
    given = [key for key in ("texts", "images", "inputs") if fields.get(key)]
    if len(given) != 1:
        raise fields.bad("texts", "there must be one of texts and inputs, with something in it")
    if given == ["images"]:
        raise fields.bad("images", "images are not supported: this model has no projector for them")
    if given == ["texts"]:
        return list(fields.strings("texts", most=MAX_TEXTS, longest=2**31))
    fields.list("inputs", longest=MAX_TEXTS)
    return [parse_input(each) for each in fields.objects("inputs")]


def parse_input(fields: Fields) -> str:
    parts = []
    for part in fields.objects("content"):
        if part.get("type") != "text":
            raise part.bad("type", "only text is supported: this model has no projector")
        text = part.text("text")
        if text is None:
            raise part.bad("text", "is missing")
        parts.append(text)
    if not parts:
        raise fields.bad("content", "must have at least one part")
    return "\n".join(parts)


def encode_embed(
    made: Embeddings, id: str, texts: list[str], types: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "id": f"embd-{id}",
        "embeddings": {
            word: [encode_as(word, vector) for vector in made.vectors] for word in types
        },
        "texts": texts,
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"input_tokens": made.prompt_tokens},
        },
        "response_type": "embeddings_by_type",
    }


def encode_as(word: str, vector: bytes) -> Any:
    if word in ("float", "base64"):
        return encode_vector(vector, word == "base64")
    bits = packed(array("f", vector))
    return bits if word == "ubinary" else [byte - 128 for byte in bits]


def packed(values: array[float]) -> list[int]:
    """A bit for each sign, eight to a byte, the first the highest; zeros fill the last byte up."""
    signs = [int(value >= 0) for value in values]
    signs += [0] * (-len(signs) % 8)
    return [int("".join(map(str, signs[at : at + 8])), 2) for at in range(0, len(signs), 8)]
