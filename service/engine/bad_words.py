"""Words that are never written: as token sequences whose last token is not to follow the others.

As in vLLM a word counts with and without a space before it, only what is generated is looked at,
and the same letters from other tokens than the tokenizer would take are another sequence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from service.engine.model import Tokenize, within


def spellings(words: Iterable[str], tokenize: Tokenize) -> set[tuple[int, ...]]:
    """The tokens of each word at the start of a text, after a space, and after anything else."""
    found = set()
    for word in words:
        bare = word.lstrip()
        for tokens in (tokenize(bare), tokenize(f" {bare}"), within(bare, tokenize)):
            found.add(tuple(tokens.tolist()))
    return found - {()}


class BadWords:
    """Words of two and more tokens. Ask `banned` before a token, `feed` it afterwards."""

    def __init__(self, words: Iterable[tuple[int, ...]]) -> None:
        self._words = [(word[:-1], word[-1]) for word in words]
        longest = max((len(start) for start, _ in self._words), default=0)
        self._past: deque[int] = deque(maxlen=longest)

    @property
    def banned(self) -> list[int]:
        past = tuple(self._past)
        return [end for start, end in self._words if past[-len(start) :] == start]

    def feed(self, token: int) -> None:
        self._past.append(token)
