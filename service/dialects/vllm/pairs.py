"""A query and a document, as one sequence for a model that scores pairs.

Models of this kind were trained on two texts with their separators between: `[CLS] q [SEP] d
[SEP]` in BERT's family, `<s> q </s></s> d </s>` in RoBERTa's. Which one it is, the tokenizer says:
what it puts around a text of its own accord. Qwen3's family was trained on a sentence about both,
which its files have as their chat template named "rerank". A model with neither was trained on a
sentence that its file does not tell, and any other would give made-up scores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from service.errors import InvalidRequest

QUERY, DOCUMENT = "{query}", "{document}"
_PLACES = re.compile(f"{re.escape(QUERY)}|{re.escape(DOCUMENT)}")
# Between the two, RoBERTa's family has it twice.
DOUBLED = b"</s>"


@dataclass(frozen=True)
class Ends:
    """What the tokenizer puts before and after a text."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    between: tuple[int, ...]


def ends_of(tokens: Sequence[int], pieces: Sequence[bytes]) -> Ends:
    """From what the tokenizer makes of a text of nothing: one token before, one after."""
    if len(tokens) != 2:
        raise InvalidRequest(
            "It is not known how this model wants a query and a document put together",
            param="model",
        )
    before, after = tokens
    doubled = pieces[1] == DOUBLED
    return Ends((before,), (after,), (after, after) if doubled else (after,))


def pair(ends: Ends, query: Sequence[int], document: Sequence[int]) -> tuple[int, ...]:
    return (*ends.before, *query, *ends.between, *document, *ends.after)


def room(ends: Ends, query: Sequence[int], limit: int) -> int:
    """How many of a document's tokens fit beside the query."""
    return max(limit - len(pair(ends, query, ())), 0)


def sentence(template: str, query: str, document: str) -> str:
    """What the texts say stays what it is, though it look like a place to be filled."""
    return _PLACES.sub(lambda place: query if place[0] == QUERY else document, template)


def probability(score: float) -> float:
    """A logit as a number from 0 to 1, as clients of such models expect it."""
    # The one that cannot overflow.
    return 1 / (1 + exp(-score)) if score >= 0 else exp(score) / (1 + exp(score))
