"""How many prompt tokens a step may carry: beside sequences that decode, and alone.

Everyone in a batch waits for its slowest part. A large chunk finishes the new prompt soonest, and
makes all others wait for their next token; a small one reads all weights again for few tokens.
The rules have no unit of the machine in them but one:

1. A step with a chunk may last STRETCH times as long as a step without one, whatever that is here.
   The running streams see their gap grow that far while a prompt arrives.
2. But a prompt's chunks have no fewer than MIN_CHUNK tokens in the mean: below it a prompt token
   costs up to a fifth more, and a little above it nothing less (docs/decisions/0004), so everyone
   would wait longer in all.
3. All chunks of a prompt take equally long. Attention reads all that was computed before, so that
   chunks of equal length last longer and longer, and the longest is what the streams notice: hence
   many tokens first and fewer later, and no small rest in a step of its own.
4. No step lasts longer than STEP_SECONDS, if that can be foreseen: a cancelled request, a new one
   and the watchdog all wait for the step to end. This one holds without company, too.

All but the third hold for a batch of inputs to embed as well, which is computed beside a step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from service.engine.token_cost import WEIGHT, TokenCost

STRETCH = 8.0
MIN_CHUNK = 112
STEP_SECONDS = 2.0
# The smallest that rule 4 asks for, and the first of all, while nothing is known of the machine.
LEAST = 32
# A step may be so much longer if that saves a step.
_OVER = 1.05
# Kernels compute some rows at a time.
_BLOCK = 4


class Stretch(NamedTuple):
    """A prompt's tokens that are computed here, as positions: begun at `begin`, now at `done`."""

    begin: int
    done: int
    end: int


class PrefillPacer:
    """Learns the cost of a decode step and of a prompt token from the steps as they happen.

    growth: how much dearer a token is expected to be for those before it (see `TokenCost`)."""

    def __init__(self, step_tokens: int, fixed: int | None = None, growth: float = 0.0) -> None:
        self._step_tokens = step_tokens
        self._fixed = fixed
        self._growth = growth
        # Of a step without a chunk; None before the first.
        self.decode_seconds: float | None = None
        self._cost: TokenCost | None = None

    def alone(self, done: int) -> int:
        """Prompt tokens that a step may carry in which nobody decodes, from a position on."""
        if self._cost is None:
            return min(LEAST, self._step_tokens)
        return self._whole(self._cost.within(STEP_SECONDS, done))

    def beside(self, prompt: Stretch) -> int:
        """Prompt tokens that a step may carry beside sequences that decode, `prompt` being the
        first of those that are computed."""
        if self._fixed is not None:
            return min(self._fixed, self._step_tokens)
        if self._cost is None:
            return min(LEAST, self._step_tokens)
        seconds = self._seconds_beside(prompt, self._cost)
        rest = self._cost.between(prompt.done, prompt.end)
        steps = _steps(rest, seconds)
        if steps > 1:
            even = self._cost.within(rest / steps, prompt.done)
            return self._whole(even + _BLOCK / 2)
        tokens = self._whole(self._cost.within(seconds, prompt.done))
        return min(self._step_tokens, max(tokens, prompt.end - prompt.done))

    def observe(self, tokens: int, depth: float, decode_rows: int, seconds: float) -> None:
        """A step computed so many prompt tokens, which had `depth` tokens before them in the mean,
        beside `decode_rows`."""
        if not tokens:
            self.decode_seconds = _blend(self.decode_seconds, seconds)
        elif tokens >= LEAST:
            alone = seconds - (self.decode_seconds or 0.0) * bool(decode_rows)
            if alone <= 0:
                return
            if self._cost is None:
                self._cost = TokenCost(tokens, depth, alone / tokens, self._growth)
            else:
                self._cost.observe(tokens, depth, alone / tokens)

    def _seconds_beside(self, prompt: Stretch, cost: TokenCost) -> float:
        least = MIN_CHUNK * cost.at((prompt.begin + prompt.end) / 2)
        stretched = (STRETCH - 1) * (self.decode_seconds or 0.0)
        return min(max(least, stretched), STEP_SECONDS)

    def _whole(self, tokens: float) -> int:
        return min(self._step_tokens, max(LEAST, int(tokens) // _BLOCK * _BLOCK))


class BatchPacer:
    """How many tokens a batch of inputs to embed may have; learns their cost."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._token_seconds: float | None = None

    @property
    def alone(self) -> int:
        return self._tokens(STEP_SECONDS)

    def beside(self, decode_seconds: float | None) -> int:
        """While sequences decode, in steps that take so long."""
        stretched = self._tokens((STRETCH - 1) * (decode_seconds or 0.0))
        return min(max(MIN_CHUNK, stretched), self.alone)

    def observe(self, tokens: int, seconds: float) -> None:
        """A token costs more in a small batch, and the first one pays for the context: a lower cost
        is taken at its word."""
        if seconds > 0:
            cost = seconds / tokens
            self._token_seconds = min(cost, _blend(self._token_seconds, cost))

    def _tokens(self, seconds: float) -> int:
        if self._token_seconds is None:
            return min(LEAST, self._most)
        tokens = int(seconds / self._token_seconds) // _BLOCK * _BLOCK
        return min(self._most, max(LEAST, tokens))


def _steps(rest: float, most: float) -> int:
    """Among how many steps to share out what takes `rest` seconds, at about `most` for each."""
    steps = math.ceil(rest / most)
    return steps - 1 if steps > 1 and rest <= _OVER * most * (steps - 1) else steps


def _blend(old: float | None, new: float) -> float:
    return new if old is None else old + WEIGHT * (new - old)
