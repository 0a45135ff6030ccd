"""One sequence's sampler: a chain of llama.cpp's, and a grammar beside it.

Without a grammar a token costs one C call. With one, the chain picks first and the grammar is asked
about that one token; only if it refuses are all candidates filtered (see `llama_grammar`) and the
chain run again. That is the order of llama.cpp's common_sampler_sample, and it makes a grammar
nearly free wherever the model means to follow it anyway.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Set
from typing import Any

import llama_cpp as llama
import numpy as np

from service.engine.bad_words import BadWords, spellings
from service.engine.constraint import Constraint, Hold
from service.engine.llama_candidates import BANNED, Candidates
from service.engine.llama_grammar import PrefixTable
from service.engine.model import Ids, InvalidPrompt, Tokenize, within
from service.engine.sampling import Stage, seed_of, shortlist, stages
from service.engine.thoughts import ThoughtLimit
from service.generation import Grammar, SamplingParams


class LlamaSampler:
    """`seed` is the one in force. `end_tokens` are banned until min_tokens were generated. `piece`
    gives control tokens their text, too."""

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
        tokenize: Tokenize,
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
            if not self._replay(within(grammar.begun, tokenize).tolist()):
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
            bans = dict.fromkeys(end_tokens, BANNED)
            self._add(_logit_bias(n_vocab, tuple(bans.items())))
        if sampling.allowed_token_ids:
            self._add(_only(n_vocab, sampling.allowed_token_ids))
        words = spellings(sampling.bad_words, tokenize)
        alone = {word[0] for word in words if len(word) == 1}
        if alone:
            self._add(_logit_bias(n_vocab, tuple((token, BANNED) for token in alone)))
        self._bad_words = BadWords(word for word in words if len(word) > 1)
        self._only = frozenset(sampling.allowed_token_ids) - alone
        self._thoughts: ThoughtLimit | None = None
        if sampling.thoughts is not None:
            closing = within(sampling.thoughts.closer, tokenize).tolist()
            self._thoughts = ThoughtLimit(sampling.thoughts, closing)
        biased = [*sampling.logit_bias, *alone, *(end_tokens if self._bans_end else ())]
        self._biased = np.unique(np.array(biased, np.int32))
        # How many candidates are enough for the chain; None: all are needed.
        self._enough = shortlist(sampling)
        if self._enough is not None:
            self._enough += len(self._biased)
        # Nothing follows the answer but the chain itself.
        self._free = not (
            grammar or sampling.bad_words or sampling.thoughts or self._enough is not None
        )
        for stage in stages(sampling, n_ctx, self.seed):
            sampler = _init(stage, vocab, n_vocab)
            if stage.sees_prompt:
                for token in prompt[-n_ctx:].tolist():
                    llama.llama_sampler_accept(sampler, token)
            self._add(sampler)

    def sample(self, row: int) -> int:
        if self._thoughts is not None and self._thoughts.due:
            return self._accepted(self._thoughts.due.popleft())
        if self._free:
            return int(llama.llama_sampler_sample(self._chain, self._context, row))
        token = self._pick(row)
        constraint = self._constraint
        if constraint is not None:
            if constraint.hold is Hold.UNDECIDED and not constraint.may_begin_opener(
                self._text(token)
            ):
                constraint.hold = Hold.BOUND
            if constraint.hold is Hold.BOUND:
                token = self._bound(row, token)
        return self._accepted(token)

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

    def _accepted(self, token: int) -> int:
        """Everything that follows the answer is told of the token."""
        llama.llama_sampler_accept(self._chain, token)
        self._bad_words.feed(token)
        if self._thoughts is not None:
            self._thoughts.feed(self._piece(token))
        constraint = self._constraint
        begins = constraint is not None and constraint.feed(token, self._text(token))
        if constraint is not None and begins and not self._replay(constraint.replay):
            # The answer's own opening does not follow the grammar: it cannot be held to it.
            self._constraint = None
        return token

    def _text(self, token: int) -> str:
        return self._piece(token).decode("utf-8", "replace")

    def _pick(self, row: int) -> int:
        banned = self._bad_words.banned
        if self._only and self._only.issubset(banned):
            # Nothing is left that may follow.
            return self._end_token
        if self._enough is None or banned:
            array = self._all(row)
        else:
            array = self._candidates.fill_best(self._context, row, self._enough, self._biased)
        return self._apply_chain(array)

    def _apply_chain(self, array: Any) -> int:
        llama.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def _all(self, row: int) -> Any:
        array = self._candidates.fill(self._context, row)
        self._candidates.ban(self._bad_words.banned)
        return array

    def _bound(self, row: int, token: int) -> int:
        """The token, or the one that the grammar allows instead; the grammar is told of it."""
        if not self._allows(token):
            held = self._held(row)
            if held is None:
                # Complete, or at a dead end, and biases rule out what is left: the answer ends.
                return self._end_token
            token = held
        if token not in self._end_tokens:
            llama.llama_sampler_accept(self._grammar, token)
        return token

    def _held(self, row: int) -> int | None:
        """What the chain takes of all that the grammar allows; None where nothing is left."""
        assert self._prefixes is not None
        array = self._candidates.fill_held(
            self._context,
            row,
            self._grammar,
            self._prefixes,
            enough=self._enough,
            also=self._biased,
            banned=self._bad_words.banned,
        )
        if not array.size:
            return None
        token = self._apply_chain(array)
        return token if array.data[array.selected].logit > BANNED else None

    def _allows(self, token: int) -> bool:
        single = llama.llama_token_data(token, 1.0, 0.0)
        array = llama.llama_token_data_array(ctypes.pointer(single), 1, -1, False)
        llama.llama_sampler_apply(self._grammar, ctypes.byref(array))
        return bool(single.logit > BANNED)

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
    biases["token"], biases["bias"] = others, BANNED
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
