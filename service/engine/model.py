"""What the engine needs of a model, and nothing more. Tests implement it in a few dozen lines.

Everything but the vocabulary calls (`tokenize`, `piece`, `is_eog`, `sampler`) belongs to the
engine's one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.engine.batch import Batch
from service.events import TokenLogprobs
from service.facts import ModelFacts
from service.generation import Grammar, SamplingParams, Selection

Ids = NDArray[np.int32]
Tokenize = Callable[[str], Ids]


class InvalidPrompt(ValueError):
    """The prompt or its parameters cannot be turned into a sequence. `param` names the field."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


def within(text: str, tokenize: Tokenize) -> Ids:
    """The tokens of `text` where it does not begin one: some tokenizers put a space before those."""
    line = tokenize("\n")
    tokens = tokenize(f"\n{text}")
    return tokens[len(line) :] if tokens[: len(line)].tolist() == line.tolist() else tokenize(text)


class Sampler(Protocol):
    """One sequence's way of choosing tokens, with the state that this needs (penalties, seed)."""

    seed: int | None

    def sample(self, row: int) -> int:
        """The token chosen from the logits of batch row `row`, already accepted."""
        ...

    def allow_end(self) -> None:
        """End tokens were banned for min_tokens; from now on they may be sampled."""
        ...

    def free(self) -> None: ...


class Model(Protocol):
    facts: ModelFacts
    # The most inputs that one call of `embed` takes; their tokens: facts.n_embed_input in all.
    embed_inputs: int

    def tokenize(self, text: str, *, add_special: bool) -> Ids: ...

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The token's bytes; a control token has none unless `special`."""
        ...

    def is_eog(self, token: int) -> bool: ...

    def sampler(
        self, sampling: SamplingParams, grammar: Grammar | None, prompt: Ids, index: int
    ) -> Sampler:
        """For answer `index` of a request. Raises InvalidPrompt for a grammar that does not parse."""
        ...

    def decode(self, batch: Batch) -> bool:
        """Compute the batch, with its adapters applied. False: the KV cache has no room for it, and nothing changed."""
        ...

    def embed(
        self,
        inputs: list[Ids],
        adapters: Selection = (),
        start: int = 0,
        alive: Callable[[], None] | None = None,
    ) -> list[NDArray[np.float32]]:
        """One vector for each input. Raises RuntimeError where there is no memory for it.

        start: so many tokens of the one input were computed by the calls before; the vector is that
        of what there is so far. alive: is called as often as the computation is seen to get on.
        """
        ...

    def set_threads(self, threads: int | None, engines: int = 1) -> int:
        """So many compute from the next batch on; None: as many as suit the machine; no more than
        its part where several `engines` compute at once. Returns how many do where none else does."""
        ...

    def logprobs(self, row: int, token: int, top: int) -> TokenLogprobs:
        """Of `token` and the `top` most likely ones, under the raw logits of batch row `row`."""
        ...

    def held_from(self, slot: int) -> int:
        """The first position from which on the slot has the cells of all layers: those of layers
        that see a window only may have been given to others. Negative: it has none of them."""
        ...

    def forget(self, slot: int, start: int) -> None:
        """Drop the slot's cells from position `start` on."""
        ...

    def copy(self, source: int, target: int, length: int) -> None:
        """Make `target`, whatever it held, hold the first `length` cells of `source`."""
        ...

    def state(self, slot: int) -> Any:
        """What `restore` needs to make the slot, or one that this one's cells were copied to, hold
        again what it holds now. Of a model that cannot be cut back."""
        ...

    def restore(self, slot: int, state: Any, length: int) -> None:
        """The slot holds `length` tokens and what came after them: forget what came after."""
        ...

    def swap(self, a: int, b: int) -> None:
        """Exchange all that two slots hold. Not where layers see a window only."""
        ...
