"""One sequence's sampler: a chain of llama.cpp's, and a grammar beside it.

Without a grammar a token costs one C call. With one, the chain picks first and the grammar is asked
about that one token; only if it refuses are all candidates filtered (see `llama_grammar`) and the
chain run again. That is the order of llama.cpp's common_sampler_sample, and it makes a grammar
nearly free wherever the model means to follow it anyway.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable, Set
from typing import Any

import llama_cpp as llama
import numpy as np
import numpy.typing as npt

from service.engine.constraint import Constraint, Hold
from service.engine.llama_grammar import TOKEN_DATA, PrefixTable
from service.engine.model import Ids, InvalidPrompt
from service.engine.sampling import Stage, seed_of, shortlist, stages
from service.generation import Grammar, SamplingParams

_BANNED = -math.inf
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

    def hold(self, grammar: Any, prefixes: PrefixTable, array: Any) -> npt.NDArray[np.bool_]:
        """Bans what `grammar` does; which tokens nothing has ruled out since `fill`."""
        allowed = prefixes.allowed(grammar)
        if allowed is None:
            llama.llama_sampler_apply(grammar, ctypes.byref(array))
            return np.asarray(self._data["logit"] > _BANNED)
        possible = np.zeros(self._n_vocab, bool)
        possible[allowed] = True
        possible &= self._data["logit"] > _BANNED
        self._data["logit"][~possible] = _BANNED
        return possible


class LlamaSampler:
    """`seed` is the one in force. `end_tokens` are banned until min_tokens were generated. `begun`
    are tokens that the grammar's text begins with, and the prompt has already."""

    def __init__(
        self,
        vocab: Any,
        context: Any,
        candidates: Candidates,
        prefixes: PrefixTable | None,
        sampling: SamplingParams,
        grammar: Grammar | None,
        prompt: Ids,
        index: int,
        *,
        n_ctx: int,
        end_tokens: Set[int],
        piece: Callable[[int], bytes],
        begun: Ids,
    ) -> None:
        self.seed: int | None = (seed_of(sampling) + index) & 0xFFFFFFFF
        self._vocab = vocab
        self._context = context
        self._candidates = candidates
        self._prefixes = prefixes
        self._piece = piece
        self._end_tokens = end_tokens
        self._end_token = min(end_tokens, default=0)
        self._chain: Any = None
        self._grammar: Any = None
        if grammar is not None:
            self._grammar = _init_grammar(vocab, grammar)
            if not self._replay(begun.tolist()):
                raise InvalidPrompt(
                    "the message that was begun does not have the form that is asked for",
                    "messages",
                )
        self._constraint = Constraint(grammar) if grammar is not None else None
        self._chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        n_vocab = llama.llama_vocab_n_tokens(vocab)
        self._bans_end = bool(sampling.min_tokens > 0 or sampling.ignore_eos) and bool(end_tokens)
        self._keeps_ban = sampling.ignore_eos
        if self._bans_end:
            bans = dict.fromkeys(end_tokens, _BANNED)
            self._add(_logit_bias(n_vocab, tuple(bans.items())))
        if sampling.allowed_token_ids:
            self._add(_only(n_vocab, sampling.allowed_token_ids))
        biased = [*sampling.logit_bias, *(end_tokens if self._bans_end else ())]
        self._biased = np.unique(np.array(biased, np.int32))
        # How many candidates are enough for the chain; None: all are needed.
        self._enough = shortlist(sampling)
        if self._enough is not None:
            self._enough += len(self._biased)
        for stage in stages(sampling, n_ctx, self.seed):
            sampler = _init(stage, vocab, n_vocab)
            if stage.sees_prompt:
                for token in prompt[-n_ctx:].tolist():
                    llama.llama_sampler_accept(sampler, token)
            self._add(sampler)

    def sample(self, row: int) -> int:
        constraint = self._constraint
        if constraint is None and self._enough is None:
            return int(llama.llama_sampler_sample(self._chain, self._context, row))
        token = self._pick(row)
        if constraint is None:
            llama.llama_sampler_accept(self._chain, token)
            return token
        bound = constraint.hold is Hold.BOUND
        text = self._piece(token).decode("utf-8", "replace")
        if constraint.hold is Hold.UNDECIDED and not constraint.may_begin_opener(text):
            constraint.hold = Hold.BOUND
            bound = True
        if bound:
            return self._bound(row, token)
        llama.llama_sampler_accept(self._chain, token)
        constraint.feed(token, text)
        if constraint.hold is Hold.BOUND and not self._replay(constraint.replay):
            # The answer's own opening does not follow the grammar: it cannot be held to it.
            self._constraint = None
        return token

    def allow_end(self) -> None:
        if self._bans_end and not self._keeps_ban:
            llama.llama_sampler_free(llama.llama_sampler_chain_remove(self._chain, 0))
            self._bans_end = False

    def free(self) -> None:
        if self._chain is not None:
            llama.llama_sampler_free(self._chain)
            self._chain = None
        if self._grammar is not None:
            llama.llama_sampler_free(self._grammar)
            self._grammar = None

    def __del__(self) -> None:
        # A request that was refused or dropped before it ran never reaches free().
        self.free()

    def _add(self, sampler: Any) -> None:
        llama.llama_sampler_chain_add(self._chain, sampler)

    def _pick(self, row: int) -> int:
        if self._enough is None:
            array = self._candidates.fill(self._context, row)
        else:
            array = self._candidates.fill_best(self._context, row, self._enough, self._biased)
        return self._apply_chain(array)

    def _apply_chain(self, array: Any) -> int:
        llama.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def _bound(self, row: int, token: int) -> int:
        if not self._allows(token):
            array = self._candidates.fill(self._context, row)
            assert self._prefixes is not None
            possible = self._candidates.hold(self._grammar, self._prefixes, array)
            token = self._apply_chain(array) if possible.any() else self._end_token
            if not possible[token]:
                # Complete, or at a dead end, and biases rule out what is left: the answer ends.
                return self._end_token
        llama.llama_sampler_accept(self._chain, token)
        if token not in self._end_tokens:
            llama.llama_sampler_accept(self._grammar, token)
        return token

    def _allows(self, token: int) -> bool:
        single = llama.llama_token_data(token, 1.0, 0.0)
        array = llama.llama_token_data_array(ctypes.pointer(single), 1, -1, False)
        llama.llama_sampler_apply(self._grammar, ctypes.byref(array))
        return bool(single.logit > _BANNED)

    def _replay(self, tokens: Iterable[int]) -> bool:
        for token in tokens:
            if token in self._end_tokens or not self._allows(token):
                return False
            llama.llama_sampler_accept(self._grammar, token)
        return True


def _init_grammar(vocab: Any, grammar: Grammar) -> Any:
    sampler = llama.llama_sampler_init_grammar(vocab, grammar.text.encode(), grammar.root.encode())
    if not sampler:
        raise InvalidPrompt("the grammar does not parse", "grammar")
    return sampler


def _logit_bias(n_vocab: int, biases: tuple[tuple[int, float], ...]) -> Any:
    entries = (llama.llama_logit_bias(token, bias) for token, bias in biases)
    array = (llama.llama_logit_bias * len(biases))(*entries)
    return llama.llama_sampler_init_logit_bias(n_vocab, len(biases), array)


def _only(n_vocab: int, allowed: tuple[int, ...]) -> Any:
    """Bans all other tokens: nearly a whole vocabulary, so not entry by entry."""
    others = np.setdiff1d(np.arange(n_vocab), np.asarray(allowed))
    biases = np.empty(len(others), [("token", np.int32), ("bias", np.float32)])
    biases["token"], biases["bias"] = others, _BANNED
    pointer = biases.ctypes.data_as(ctypes.POINTER(llama.llama_logit_bias))
    return llama.llama_sampler_init_logit_bias(n_vocab, len(biases), pointer)


def _init(stage: Stage, vocab: Any, n_vocab: int) -> Any:
    """The few whose arguments need the vocabulary; all others are their name and arguments."""
    if stage.name == "logit_bias":
        return _logit_bias(n_vocab, stage.arguments[0])
    if stage.name == "penalties":
        return llama.llama_sampler_init_penalties(n_vocab, *stage.arguments)
    if stage.name == "dry":
        *numbers, breakers = stage.arguments
        words = (ctypes.c_char_p * len(breakers))(*(word.encode() for word in breakers))
        return llama.llama_sampler_init_dry(vocab, *numbers, words, len(breakers))
    if stage.name == "mirostat":
        return llama.llama_sampler_init_mirostat(n_vocab, *stage.arguments, 100)
    return getattr(llama, f"llama_sampler_init_{stage.name}")(*stage.arguments)
