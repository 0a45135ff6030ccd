"""What a sampler chooses from: a row of logits in the shape that llama.cpp's samplers take."""

from __future__ import annotations

import ctypes
import math
from typing import Any, Final

import llama_cpp as llama
import numpy as np
import numpy.typing as npt

from service.engine.llama_grammar import TOKEN_DATA, PrefixTable
from service.engine.model import Ids

BANNED: Final = -math.inf
_BLOCK = 256


class Candidates:
    """A `llama_token_data_array` over the whole vocabulary, refilled from a row of logits."""

    def __init__(self, n_vocab: int) -> None:
        self._n_vocab = n_vocab
        self._ids = np.arange(n_vocab, dtype=np.int32)
        self._data = np.zeros(n_vocab, TOKEN_DATA)
        self._pointer = self._data.ctypes.data_as(ctypes.POINTER(llama.llama_token_data))

    def fill(self, context: Any, row: int) -> Any:
        logits = llama.llama_get_logits_ith(context, row)
        self._data["id"] = self._ids
        self._data["logit"] = np.ctypeslib.as_array(logits, (self._n_vocab,))
        return llama.llama_token_data_array(self._pointer, self._n_vocab, -1, False)

    def fill_best(self, context: Any, row: int, count: int, also: Ids) -> Any:
        """Only the `count` likeliest, and a few more, and `also`: enough where nothing else counts.

        The array of a whole vocabulary is some megabytes, which a step has just driven out of the
        caches. Here the logits are read as they lie: the count-th largest of the blocks' maxima is
        a bound that at least `count` tokens reach.
        """
        logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, row), (self._n_vocab,))
        whole = self._n_vocab // _BLOCK * _BLOCK
        blocks = logits[:whole].reshape(-1, _BLOCK)
        maxima = blocks.max(axis=1)
        if count > len(maxima) or np.isnan(maxima).any():
            return self.fill(context, row)
        bound = np.partition(maxima, len(maxima) - count)[len(maxima) - count]
        # Few blocks reach it, so few are read a second time.
        reaching = np.flatnonzero(maxima >= bound)
        at = np.flatnonzero(blocks[reaching] >= bound)
        best = reaching[at // _BLOCK] * _BLOCK + at % _BLOCK
        if (rest := np.flatnonzero(logits[whole:] >= bound)).size:
            best = np.concatenate([best, rest + whole])
        if len(also):
            best = np.union1d(best, also)
        self._data["id"][: len(best)] = best
        self._data["logit"][: len(best)] = logits[best]
        return llama.llama_token_data_array(self._pointer, len(best), -1, False)

    def ban(self, tokens: list[int]) -> None:
        """After `fill`."""
        if tokens:
            self._data["logit"][tokens] = BANNED

    def hold(self, grammar: Any, prefixes: PrefixTable, array: Any) -> npt.NDArray[np.bool_]:
        """Bans what `grammar` does; which tokens nothing has ruled out since `fill`."""
        allowed = prefixes.allowed(grammar)
        if allowed is None:
            llama.llama_sampler_apply(grammar, ctypes.byref(array))
            return np.asarray(self._data["logit"] > BANNED)
        possible = np.zeros(self._n_vocab, bool)
        possible[allowed] = True
        possible &= self._data["logit"] > BANNED
        self._data["logit"][~possible] = BANNED
        return possible
