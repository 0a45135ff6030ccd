"""What a sampler chooses from: a row of logits in the shape that llama.cpp's samplers take."""

from __future__ import annotations

import ctypes
import math
from typing import Any, Final

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from service.engine.llama_grammar import TOKEN_DATA, PrefixTable
from service.engine.model import Ids

Logits = NDArray[np.float32]
BANNED: Final = -math.inf
_BLOCK = 256
# How many of the likeliest tokens are asked about beyond those that are needed.
_MORE = 64
# Less than a fourth of a vocabulary is worth being found before it is asked about.
_WORTH_WHILE = 4


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
        a bound that at least `count` tokens reach. For more than there are blocks the bound is
        found among the logits themselves.
        """
        logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, row), (self._n_vocab,))
        best = self._likeliest(logits, count)
        if best is None:
            return self.fill(context, row)
        if len(also):
            best = np.union1d(best, also)
        self._data["id"][: len(best)] = best
        self._data["logit"][: len(best)] = logits[best]
        return llama.llama_token_data_array(self._pointer, len(best), -1, False)

    def _likeliest(self, logits: Logits, count: int) -> NDArray[np.intp] | None:
        """Where those are that are no less likely than the `count`-th; None where that is most."""
        whole = self._n_vocab // _BLOCK * _BLOCK
        blocks = logits[:whole].reshape(-1, _BLOCK)
        maxima = blocks.max(axis=1)
        if count * _WORTH_WHILE > self._n_vocab or np.isnan(maxima).any():
            return None
        if count > len(maxima):
            bound = np.partition(logits, len(logits) - count)[len(logits) - count]
            return np.flatnonzero(logits >= bound)
        bound = np.partition(maxima, len(maxima) - count)[len(maxima) - count]
        # Few blocks reach it, so few are read a second time.
        reaching = np.flatnonzero(maxima >= bound)
        at = np.flatnonzero(blocks[reaching] >= bound)
        best = reaching[at // _BLOCK] * _BLOCK + at % _BLOCK
        rest = np.flatnonzero(logits[whole:] >= bound)
        return np.concatenate([best, rest + whole]) if rest.size else best

    def ban(self, tokens: list[int]) -> None:
        """After `fill`."""
        if tokens:
            self._data["logit"][tokens] = BANNED

    def fill_held(
        self,
        context: Any,
        row: int,
        grammar: Any,
        prefixes: PrefixTable,
        *,
        enough: int | None,
        also: Ids,
        banned: list[int],
    ) -> Any:
        """Only what `grammar` allows and `banned` does not name: an array that may be empty.

        enough: how many of the likeliest of these decide; None: all of them. also: see `fill_best`.
        """
        allowed = prefixes.allowed(grammar)
        if allowed is not None:
            return self._fill_only(context, row, np.sort(allowed), banned)
        if enough is not None and not banned:
            # Nearly everything is allowed: then enough of the first few hundred are; or nearly
            # everything that is short, where a text may not become much longer.
            count = enough + _MORE
            while count * _WORTH_WHILE <= self._n_vocab:
                array = self.fill_best(context, row, count, also)
                llama.llama_sampler_apply(grammar, ctypes.byref(array))
                if self._possible(array.size) >= enough:
                    return array
                count *= _WORTH_WHILE
        array = self.fill(context, row)
        self.ban(banned)
        llama.llama_sampler_apply(grammar, ctypes.byref(array))
        array.size *= self._possible(array.size) > 0
        return array

    def _fill_only(self, context: Any, row: int, ids: Ids, banned: list[int]) -> Any:
        logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, row), (self._n_vocab,))
        kept = logits[ids] > BANNED
        if banned:
            kept &= ~np.isin(ids, banned)
        ids = ids[kept]
        self._data["id"][: len(ids)] = ids
        self._data["logit"][: len(ids)] = logits[ids]
        return llama.llama_token_data_array(self._pointer, len(ids), -1, False)

    def _possible(self, size: int) -> int:
        return int(np.count_nonzero(self._data["logit"][:size] > BANNED))
