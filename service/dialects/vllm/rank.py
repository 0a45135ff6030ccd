"""How well texts fit: /score and /rerank, under the names that vLLM, Jina and TEI have for them."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.dialects.admission import embedded, identity, read_fields
from service.dialects.fields import Fields
from service.dialects.respond import json, tell_cut, tell_ignored
from service.dialects.state import State
from service.dialects.vllm.join import Cuts, join
from service.dialects.vllm.pairs import probability
from service.generation import EmbeddingRequest, Text, Truncation
from service.telemetry.http import exchange_of

MAX_DOCUMENTS: Final = 1024
MAX_LENGTH: Final = 1_000_000
HARMLESS: Final = frozenset({"user", "priority", "request_id"})
# In score's requests the two sides have had several names.
SIDES: Final = (
    ("text_1", "text_2"),
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
)


@dataclass(frozen=True)
class Scores:
    values: list[float]
    prompt_tokens: int
    cut_tokens: int
    model: str
    logits: bool = False

    def shares(self) -> list[float]:
        """From 0 to 1 where a model scores pairs."""
        return list(map(probability, self.values)) if self.logits else self.values


async def rerank(request: Request[State]) -> Response:
    return await reranked(request, await read_fields(request, "vllm"))


async def reranked(request: Request[State], fields: Fields) -> Response:
    query = fields.text("query", longest=MAX_LENGTH)
    if query is None:
        raise fields.bad("query", "is missing")
    # TEI's own form answers with an array.
    bare = "texts" in fields and "documents" not in fields
    key = "texts" if bare else "documents"
    documents = parse_documents(fields, key)
    top = fields.integer("top_n", low=0, high=2**31 - 1) or len(documents)
    shown = fields.flag("return_text") if bare else fields.flag("return_documents", True)
    raw = bare and fields.flag("raw_scores")
    if fields.text("instruction"):
        raise fields.bad("instruction", "is for models that read one; this one does not")
    model, cuts = fields.model(), parse_cuts(fields)
    tell_ignored(request, fields, HARMLESS)
    scores = await pair_scores(request, model, [(query, each) for each in documents], cuts)
    values = scores.values if raw else scores.shares()
    order = sorted(range(len(values)), key=lambda index: values[index], reverse=True)[:top]
    if bare:
        rows = [
            {"index": index, "score": values[index]} | ({"text": documents[index]} if shown else {})
            for index in order
        ]
        return tell_cut(json(rows), scores.cut_tokens)
    results = [
        {"index": index}
        | ({"document": {"text": documents[index]}} if shown else {})
        | {"relevance_score": values[index]}
        for index in order
    ]
    body = {
        "id": f"rerank-{exchange_of(request.scope).id}",
        "model": model or scores.model,
        "object": "list",
        "usage": usage_of(scores),
        "results": results,
    }
    return tell_cut(json(body), scores.cut_tokens)


def parse_documents(fields: Fields, key: str) -> list[str]:
    values = fields.list(key, longest=MAX_DOCUMENTS)
    if not values:
        raise fields.bad(key, "must have at least one element")
    return [document_of(fields, f"{key}.{number}", value) for number, value in enumerate(values)]


def document_of(fields: Fields, name: str, value: Any) -> str:
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise fields.bad(name, "must be a string, or an object with a text")
    return text


def parse_cuts(fields: Fields) -> Cuts:
    limit = fields.integer("truncate_prompt_tokens", low=-1, high=2**31 - 1)
    if limit == 0:
        raise fields.bad("truncate_prompt_tokens", "must be at least 1, or -1 for all that fit")
    if fields.flag("truncate"):
        limit = -1
    document = fields.integer("max_tokens_per_doc", low=0, high=2**31 - 1)
    return Cuts(limit, document or None)


async def score(request: Request[State]) -> Response:
    return await scored(request, await read_fields(request, "vllm"))


async def scored(request: Request[State], fields: Fields) -> Response:
    names = next((pair for pair in SIDES if all(name in fields for name in pair)), SIDES[0])
    first, second = (parse_side(fields, name) for name in names)
    if len(first) == 1:
        first *= len(second)
    if len(first) != len(second):
        raise fields.bad(names[0], f"must be one text, or as many as {names[1]}")
    model, cuts = fields.model(), parse_cuts(fields)
    tell_ignored(request, fields, HARMLESS)
    runtime = request.state["runtime"]
    pairs = list(zip(first, second, strict=True))
    if "rerank" in runtime.capabilities(runtime.resolve(model or None)):
        scores = await pair_scores(request, model, pairs, cuts)
    else:
        if cuts.document is not None:
            raise fields.bad("max_tokens_per_doc", "is for models that read a pair together")
        scores = await similarities(request, model, pairs, cuts.pair)
    exchange = exchange_of(request.scope)
    body = {
        "id": f"score-{exchange.id}",
        "object": "list",
        "created": int(time.time()),
        "model": model or scores.model,
        "data": [
            {"index": index, "object": "score", "score": value}
            for index, value in enumerate(scores.shares())
        ],
        "usage": usage_of(scores),
    }
    return tell_cut(json(body), scores.cut_tokens)


def parse_side(fields: Fields, key: str) -> list[str]:
    value = fields.get(key)
    if value is None:
        raise fields.bad(key, "is missing")
    if isinstance(value, list):
        return parse_documents(fields, key)
    return [document_of(fields, key, value)]


async def pair_scores(
    request: Request[State],
    model: str,
    pairs: Sequence[tuple[str, str]],
    cuts: Cuts,
) -> Scores:
    """By a model that reads both texts together."""
    runtime = request.state["runtime"]
    card = runtime.resolve(model or None)
    if "rerank" not in runtime.capabilities(card):
        exchange_of(request.scope).model = card.name
        raise HTTPException(501, "This server does not support reranking with this model")
    joined = await join(request, model, pairs, cuts)
    made = await embedded(
        request,
        EmbeddingRequest(
            model=model,
            inputs=joined.inputs,
            dialect="vllm",
            normalize=False,
            **identity(request),
        ),
    )
    values = [array("f", vector)[0] for vector in made.vectors]
    return Scores(
        values,
        made.prompt_tokens,
        joined.cut_tokens,
        made.card.name,
        logits=not made.facts.scores_are_probabilities,
    )


async def similarities(
    request: Request[State], model: str, pairs: Sequence[tuple[str, str]], limit: int | None
) -> Scores:
    """By a model that reads each text alone: the cosine of the angle between their vectors.

    limit: the most tokens of a text; -1: as many as the model reads.
    """
    texts = list(dict.fromkeys(chain.from_iterable(pairs)))
    truncation = None
    if limit is not None:
        truncation = Truncation(None if limit == -1 else limit, side="right")
    made = await embedded(
        request,
        EmbeddingRequest(
            model=model,
            inputs=tuple(map(Text, texts)),
            dialect="vllm",
            normalize=True,
            truncation=truncation,
            **identity(request),
        ),
    )
    vectors = {text: array("f", vector) for text, vector in zip(texts, made.vectors, strict=True)}
    values = [
        sum(a * b for a, b in zip(vectors[one], vectors[other], strict=True))
        for one, other in pairs
    ]
    return Scores(values, made.prompt_tokens, made.cut_tokens, made.card.name)


def usage_of(scores: Scores) -> dict[str, int]:
    return {"prompt_tokens": scores.prompt_tokens, "total_tokens": scores.prompt_tokens}
