"""One sequence's sampler: a chain of llama.cpp's, and a grammar beside it.

Without a grammar a token costs one C call. With one, the chain picks first and the grammar is asked
about that one token; only if it refuses are all candidates filtered (see `llama_grammar`) and the
chain run again. That is the order of llama.cpp's common_sampler_sample, and it makes a grammar
nearly free wherever the model means to follow it anyway.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Set
from functools import partial
from typing import Any

import llama_cpp as llama
import numpy as np

from service.engine.bad_words import BadWords, spellings
from service.engine.bans import bans, few_left
from service.engine.constraint import Constraint, Hold
from service.engine.llama_candidates import BANNED, Candidates
from service.engine.llama_chain import Samplers
from service.engine.llama_grammar import PrefixTable
from service.engine.model import Ids, InvalidPrompt, Tokenize, within
from service.engine.sampling import seed_of, shortlist, stages
from service.engine.thoughts import ThoughtLimit
from service.generation import Grammar, SamplingParams


class LlamaSampler:
    """`seed` is the one in force. `end_tokens` are the model's own. `piece` gives control tokens
    their text, too."""

    def __init__(
        self,
        vocab: Any,
        context: Any,
        samplers: Samplers,
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
        self._context = context
        self._candidates = candidates
        self._prefixes = prefixes
        self._piece = piece
        self._tokenize = tokenize
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
        # What is due of a mark that opens or closes thoughts, where nothing else can follow.
        self._mark: deque[int] = deque()
        self._thoughts: ThoughtLimit | None = None
        if sampling.thoughts is not None:
            closing = within(sampling.thoughts.closer, tokenize).tolist()
            self._thoughts = ThoughtLimit(sampling.thoughts, closing)
        words = spellings(sampling.bad_words, tokenize)
        longer = [word for word in words if len(word) > 1]
        self._bad_words = BadWords(longer)
        self._bans = bans(sampling, end_tokens, words)
        # Only of so few could bad words leave nothing: each bans one token at a time.
        self._left = partial(
            few_left, sampling, n_vocab=llama.llama_vocab_n_tokens(vocab), most=len(longer)
        )
        self._few = self._left(self._bans.ever | self._bans.early)
        biased = [*sampling.logit_bias, *self._bans.ever, *self._bans.early]
        self._biased = np.unique(np.array(biased, np.int32))
        # How many candidates are enough for the chain; None: all are needed.
        self._enough = shortlist(sampling)
        if self._enough is not None:
            self._enough += len(self._biased)
        # Nothing follows the answer but the chain itself: one call, which fills the candidates four
        # times as soon as numpy finds the likeliest of 32 000, and twice as soon those of 150 000.
        self._free = not (grammar or sampling.bad_words or sampling.thoughts)
        self._chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        if self._bans.early:
            # The first, where `allow_end` finds it.
            self._add(samplers.banned(self._bans.early))
        if self._bans.ever:
            self._add(samplers.banned(self._bans.ever))
        if sampling.allowed_token_ids:
            self._add(samplers.only(sampling.allowed_token_ids))
        for stage in stages(sampling, n_ctx, self.seed):
            self._add(samplers.stage(stage, prompt))

    def sample(self, row: int) -> int:
        if self._mark:
            return self._accepted(self._mark.popleft())
        if self._thoughts is not None and self._thoughts.due:
            return self._accepted(self._thoughts.due.popleft())
        if self._free:
            return int(llama.llama_sampler_sample(self._chain, self._context, row))
        token = self._pick(row)
        constraint = self._constraint
        if constraint is not None:
            if constraint.hold is Hold.UNDECIDED and not self._may_begin_thoughts(token):
                self._begin_answer(constraint)
            elif constraint.hold is Hold.FREE and token in self._end_tokens:
                # Its thoughts end, but not yet what was asked for.
                self._write(constraint.rest_of_closer)
            if self._mark:
                token = self._mark.popleft()
            if constraint.hold is Hold.BOUND:
                token = self._bound(row, token)
        return self._accepted(token)

    def allow_end(self) -> None:
        if self._bans.early:
            llama.llama_sampler_free(llama.llama_sampler_chain_remove(self._chain, 0))
            self._bans = self._bans._replace(early=frozenset())
            self._few = self._left(self._bans.ever)

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

    def _may_begin_thoughts(self, token: int) -> bool:
        assert self._constraint is not None
        return token not in self._end_tokens and self._constraint.may_begin_opener(
            self._text(token)
        )

    def _begin_answer(self, constraint: Constraint) -> None:
        """What is written so far is the grammar's, or else can only be how thoughts begin."""
        before = self._grammar
        self._grammar = llama.llama_sampler_clone(before)
        if self._replay(constraint.begun):
            constraint.bind()
            llama.llama_sampler_free(before)
        else:
            llama.llama_sampler_free(self._grammar)
            self._grammar = before
            self._write(constraint.rest_of_opener)

    def _write(self, mark: str) -> None:
        self._mark.extend(within(mark, self._tokenize).tolist())

    def _pick(self, row: int) -> int:
        banned = self._bad_words.banned
        if self._few is not None and self._few.issubset(banned):
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
