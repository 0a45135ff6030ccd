"""A sequence: one answer's life in the engine. Touched by the engine's thread only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from service.engine.model import Ids, Sampler
from service.events import (
    Finished,
    FinishReason,
    Timings,
    TokenEvent,
    TokenLogprobs,
    Usage,
)
from service.generation import SamplingParams, Selection
from service.text.detokenizer import Detokenizer
from service.text.stops import StopMatcher

Basis = tuple[str, Selection]


class Sequence:
    """Answer `index` of request `request`: its tokens, where they are computed, what came out.

    `tokens[:n_tokens]` are the prompt and the answer so far; `tokens[:n_past]` of them have their
    cells in `slot`. A preempted sequence loses its cells and keeps its tokens: computing them
    again brings it to the very same place.
    """

    def __init__(
        self,
        request: int,
        index: int,
        prompt: Ids,
        sampling: SamplingParams,
        sampler: Sampler,
        limit: int,
        queued: float,
        *,
        salt: str = "",
        priority: int = 0,
        adapters: Selection = (),
    ) -> None:
        self.request = request
        self.index = index
        self.sampling = sampling
        self.sampler = sampler
        self.adapters = adapters
        # Only sequences of the same share what was computed: adapters change all of it.
        self.basis: Basis = (salt, adapters)
        # Lower is taken first where sequences wait, though nobody is overtaken without end.
        self.priority = priority
        self.overtaken = 0
        self.n_prompt = len(prompt)
        # Generation ends when it has `limit` tokens, prompt included.
        self.limit = limit
        self.tokens = np.empty(min(limit, len(prompt) + 256), np.int32)
        self.tokens[: len(prompt)] = prompt
        self.n_tokens = len(prompt)
        self.n_past = 0
        # Of them, those that were computed before it came to its slot.
        self.n_found = 0
        # After so many tokens of the prompt its state is to be kept.
        self.marks: set[int] = set()
        self.slot = -1
        self.cached_tokens = 0
        self.queued = queued
        self.scheduled: float | None = None
        self.first_token: float | None = None
        self.last_token: float | None = None
        # Seconds between the last two tokens.
        self.gap: float | None = None
        self.preempted = False
        # Gathered while the prompt is computed; None where unwanted, and once they are sent.
        self.prompt_logprobs: list[TokenLogprobs | None] | None = None
        if sampling.prompt_logprobs is not None:
            self.prompt_logprobs = [None]
        self.answer = Answer(sampling)

    @property
    def pending(self) -> int:
        """Tokens that are known and not yet computed: 1 in decode, more in prefill."""
        return self.n_tokens - self.n_past

    @property
    def n_generated(self) -> int:
        return self.n_tokens - self.n_prompt

    @property
    def scores_prompt(self) -> bool:
        """Whether every row of the prompt has to give its logits."""
        return self.prompt_logprobs is not None

    def start_over(self) -> None:
        """Its cells are gone: compute everything again, to the very same place."""
        self.n_past = 0
        self.preempted = True
        if self.prompt_logprobs is not None:
            self.prompt_logprobs = [None]

    def append(self, token: int, now: float) -> None:
        """Take a token that was sampled at `now`."""
        self.gap = None if self.last_token is None else now - self.last_token
        self.last_token = now
        if self.first_token is None:
            self.first_token = now
        if self.n_tokens == len(self.tokens):
            grown = np.empty(min(self.limit, 2 * len(self.tokens)) + 1, np.int32)
            grown[: self.n_tokens] = self.tokens
            self.tokens = grown
        self.tokens[self.n_tokens] = token
        self.n_tokens += 1

    def finished(
        self,
        reason: FinishReason,
        now: float,
        *,
        error: str | None = None,
        code: str | None = None,
    ) -> Finished:
        usage = Usage(self.n_prompt, self.cached_tokens, self.n_generated)
        timings = Timings(self.queued, self.scheduled, self.first_token, self.last_token, now)
        seed = self.sampler.seed
        answer = self.answer
        return Finished(
            self.index, reason, usage, timings, answer.stop, error, code, seed, answer.end_token
        )


class Answer:
    """Sampled tokens → the text that may be released, and the end if there is one.

    Text waits while it is an incomplete code point or could begin a stop string; the
    log-probabilities of a token wait with its text, and are dropped with it where a stop string
    swallows it; its id is not.
    """

    def __init__(self, sampling: SamplingParams) -> None:
        self.stop: str | int | None = None
        self.end_token: TokenLogprobs | None = None
        self._sampling = sampling
        self._scored = sampling.logprobs is not None
        self._detokenizer = Detokenizer()
        self._stops = StopMatcher(sampling.stop, sampling.include_stop)
        self._silent_tokens = 0
        self._tokens = 0
        # Of tokens whose text is not out yet, where they are wanted.
        self._ids: list[int] = []
        # (where the token's bytes begin in the answer, its log-probabilities)
        self._held: list[tuple[int, TokenLogprobs]] = []
        self._bytes_in = 0
        self._bytes_out = 0

    def feed(
        self,
        index: int,
        token: int,
        piece: bytes,
        logprobs: Callable[[], TokenLogprobs] | None,
        *,
        is_eog: bool,
        is_last: bool,
    ) -> tuple[TokenEvent | None, FinishReason | None]:
        """Take one sampled token. `is_last`: the budget or the context ends with it."""
        reason = None
        if self._sampling.token_ids:
            self._ids.append(token)
        if is_eog or token in self._sampling.stop_token_ids:
            reason = FinishReason.STOP
            if not is_eog:
                self.stop = token
            if not self._sampling.include_stop:
                piece = b""
            if logprobs is not None:
                self.end_token = logprobs()
        elif logprobs is not None:
            self._held.append((self._bytes_in, logprobs()))
        self._bytes_in += len(piece)
        self._silent_tokens += 1
        self._tokens += 1
        text = self._detokenizer.feed(piece)
        if self._tokens > self._sampling.min_tokens:
            # As in vLLM, stop strings are looked for in what comes after min_tokens.
            text = self._stops.feed(text)
        if self._stops.matched is not None:
            reason = FinishReason.STOP
            self.stop = self._stops.matched
        elif reason or is_last:
            text += self._flush()
            reason = reason or FinishReason.LENGTH
        return self._release(index, token, text, final=reason is not None), reason

    def _flush(self) -> str:
        tail = self._detokenizer.flush()
        text = self._stops.feed(tail) if tail else ""
        return text if self._stops.matched is not None else text + self._stops.flush()

    def _release(self, index: int, token: int, text: str, *, final: bool) -> TokenEvent | None:
        if not text and not final:
            return None
        ids: tuple[int, ...] = ()
        if self._ids:
            ids, self._ids = tuple(self._ids), []
        entries = self._ready(text, final=final) if self._scored else ()
        event = TokenEvent(index, text, self._silent_tokens, token, entries, ids)
        self._silent_tokens = 0
        return event

    def _ready(self, text: str, *, final: bool) -> tuple[TokenLogprobs, ...]:
        """Of the tokens whose text is out with this one."""
        self._bytes_out += len(text.encode("utf-8", "surrogatepass"))
        ready = sum(start < self._bytes_out for start, _ in self._held)
        if final and self._stops.matched is None:
            ready = len(self._held)
        entries = tuple(entry for _, entry in self._held[:ready])
        del self._held[:ready]
        return entries
