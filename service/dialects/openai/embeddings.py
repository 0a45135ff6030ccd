"""POST /v1/embeddings: texts or token ids in, vectors out."""

from __future__ import annotations

import base64
from array import array
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from service.dialects.admission import embedded, identity, read_fields
from service.dialects.fields import Fields
from service.dialects.openai.chat_request import (
    HARMLESS,
    parse_ending,
    parse_thinking,
    refuse_templates,
)
from service.dialects.openai.completions_request import parse_prompts
from service.dialects.openai.messages import parse_messages
from service.dialects.respond import json, tell_cut, tell_ignored
from service.dialects.sampling import parse_truncation
from service.dialects.state import State
from service.generation import Chat, EmbeddingRequest, Text, Tokens

if TYPE_CHECKING:
    from service.serving.runtime import Embeddings

MAX_INPUTS = 2048


async def embeddings(request: Request[State]) -> Response:
    return await embed(request, await read_fields(request, "openai"), "openai")


async def embed(request: Request[State], fields: Fields, dialect: str) -> Response:
    wanted, as_base64 = parse_embeddings(fields, **identity(request), dialect=dialect)
    tell_ignored(request, fields, HARMLESS)
    made = await embedded(request, wanted)
    answer = json(encode_embeddings(made, wanted.model or made.card.name, as_base64))
    return tell_cut(answer, made.cut_tokens)


def parse_embeddings(
    fields: Fields,
    *,
    id: str,
    arrived: float,
    endpoint: str,
    timeout: float | None = None,
    dialect: str = "openai",
) -> tuple[EmbeddingRequest, bool]:
    """The request, and whether its vectors are wanted as base64."""
    encoding = fields.choice("encoding_format", ("float", "base64"))
    request = EmbeddingRequest(
        id=id,
        model=fields.model(),
        inputs=parse_inputs(fields),
        arrived=arrived,
        dialect=dialect,
        endpoint=endpoint,
        normalize=fields.flag("normalize", True),
        dimensions=fields.integer("dimensions", low=1, high=2**31 - 1),
        timeout=timeout,
        truncation=parse_truncation(fields, "right"),
        priority=fields.integer("priority") or 0,
    )
    return request, encoding == "base64"


def parse_inputs(fields: Fields) -> tuple[Text | Tokens | Chat, ...]:
    if "messages" in fields and "input" not in fields:
        return (parse_conversation(fields),)
    special = fields.flag("add_special_tokens", True)
    prompts = parse_prompts(fields, "input", MAX_INPUTS)
    return tuple(Text(each, special) if isinstance(each, str) else each for each in prompts)


def parse_conversation(fields: Fields) -> Chat:
    """vLLM's: it becomes one text, in the words of the model's template."""
    refuse_templates(fields)
    messages, continued = parse_ending(fields, parse_messages(fields), prefills=False)
    thinking, effort, variables = parse_thinking(fields)
    return Chat(
        messages=messages,
        enable_thinking=thinking,
        reasoning_effort=effort,
        template_variables=variables,
        continue_final_message=continued,
        # Nobody is going to answer.
        add_generation_prompt=fields.flag("add_generation_prompt"),
    )


def encode_embeddings(made: Embeddings, model: str, as_base64: bool) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": encode_vector(vector, as_base64),
            }
            for index, vector in enumerate(made.vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": made.prompt_tokens, "total_tokens": made.prompt_tokens},
    }


def encode_vector(vector: bytes, as_base64: bool = False) -> str | list[float]:
    """base64 of float32, little endian, is what the official client asks for."""
    return base64.b64encode(vector).decode() if as_base64 else floats(vector)


def floats(vector: bytes) -> list[float]:
    # The engine's machine is this one: its order of bytes is ours.
    return array("f", vector).tolist()
