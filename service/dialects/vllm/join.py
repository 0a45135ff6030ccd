"""Queries and their documents as inputs for a model that reads both together, cut where allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

from service.dialects.admission import tokenized
from service.dialects.state import State
from service.dialects.vllm.pairs import ends_of, pair, room, sentence
from service.generation import Text, Tokens
from service.serving.runtime import Tokenized

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Cuts:
    """How many tokens a pair may have (-1: as many as the model reads), and its document."""

    pair: int | None = None
    document: int | None = None

    def pair_limit(self, longest: int) -> int | None:
        return (longest or None) if self.pair == -1 else self.pair


@dataclass(frozen=True)
class Joined:
    inputs: tuple[Text | Tokens, ...]
    cut_tokens: int


async def join(request: Request[State], model: str, pairs: Pairs, cuts: Cuts) -> Joined:
    """In the sentence that the file has for it, else as the tokenizer surrounds a text."""
    around = await tokenized(request, model, Text(""))
    vocabulary = _Vocabulary(request, model)
    if (template := around.facts.rerank_template) is not None:
        return await _in_sentences(vocabulary, template, pairs, cuts, around)
    return await _between_marks(vocabulary, pairs, cuts, around)


async def _between_marks(
    vocabulary: _Vocabulary, pairs: Pairs, cuts: Cuts, around: Tokenized
) -> Joined:
    ends = ends_of(around.tokens, around.pieces)
    limit = cuts.pair_limit(around.facts.n_embed_input)
    inputs, cut = [], 0
    for query, document in pairs:
        tokens, whole = await vocabulary.ids(query), await vocabulary.ids(document)
        beside = None if limit is None else room(ends, tokens, limit)
        kept = whole[: _least(beside, cuts.document)]
        cut += len(whole) - len(kept)
        inputs.append(Tokens(pair(ends, tokens, kept)))
    return Joined(tuple(inputs), cut)


async def _in_sentences(
    vocabulary: _Vocabulary, template: str, pairs: Pairs, cuts: Cuts, around: Tokenized
) -> Joined:
    limit = cuts.pair_limit(around.facts.n_embed_input)
    inputs, cut = [], 0
    for query, document in pairs:
        whole = await vocabulary.ids(document)
        kept = len(whole) if cuts.document is None else min(len(whole), cuts.document)
        while True:
            text = document if kept == len(whole) else await vocabulary.text(whole[:kept])
            joined = sentence(template, query, text)
            over = 0 if limit is None else len(await vocabulary.ids(joined)) - limit
            # A text that is cut may have another number of tokens than were left of it.
            if over <= 0 or not kept:
                break
            kept = max(kept - over, 0)
        cut += len(whole) - kept
        inputs.append(Text(joined, add_special_tokens=False))
    return Joined(tuple(inputs), cut)


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


class _Vocabulary:
    """Asks the engine about each text once: a query stands beside every document."""

    def __init__(self, request: Request[State], model: str) -> None:
        self._request = request
        self._model = model
        self._known: dict[str, list[int]] = {}

    async def ids(self, text: str) -> list[int]:
        if text not in self._known:
            plain = Text(text, add_special_tokens=False)
            self._known[text] = (await tokenized(self._request, self._model, plain)).tokens
        return self._known[text]

    async def text(self, tokens: Sequence[int]) -> str:
        text = await self._request.state["runtime"].detokenize(self._model, tokens)
        # Half a character at the end is left out.
        return text.rstrip("\N{REPLACEMENT CHARACTER}")
