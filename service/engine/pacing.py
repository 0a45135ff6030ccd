"""How many prompt tokens a step may carry: beside sequences that decode, and alone.

Everyone in a batch waits for its slowest part. A large chunk finishes the new prompt soonest, and
makes all others wait for their next token; a small one reads all weights again for few tokens.
The rules have no unit of the machine in them but one:

1. A step with a chunk may last STRETCH times as long as a step without one, whatever that is here.
   The running streams see their gap grow that far while a prompt arrives.
2. But no chunk is smaller than MIN_CHUNK: below it a prompt token costs a third more and above it
   nothing less (docs/decisions/0004), so everyone would wait longer in all.
3. No step lasts longer than STEP_SECONDS, if that can be foreseen: a cancelled request, a new one
   and the watchdog all wait for the step to end. This one holds without company, too.

They hold for a batch of inputs to embed as well, which is computed beside a step.
"""

from __future__ import annotations

STRETCH = 8.0
MIN_CHUNK = 128
STEP_SECONDS = 2.0
# The smallest that rule 3 asks for, and the first of all, while nothing is known of the machine.
LEAST = 32
_WEIGHT = 0.2


class PrefillPacer:
    """Learns the cost of a decode step and of a prompt token from the steps as they happen."""

    def __init__(self, step_tokens: int, fixed: int | None = None) -> None:
        self._step_tokens = step_tokens
        self._fixed = fixed
        # Of a step without a chunk; None before the first.
        self.decode_seconds: float | None = None
        self._token_seconds: float | None = None

    @property
    def alone(self) -> int:
        """Prompt tokens that a step may carry in which nobody decodes."""
        return _alone(self._token_seconds, self._step_tokens)

    @property
    def beside(self) -> int:
        """Prompt tokens that a step may carry beside sequences that decode."""
        if self._fixed is not None:
            return min(self._fixed, self._step_tokens)
        return _beside(self.decode_seconds, self._token_seconds, self._step_tokens)

    def observe(self, prefill_tokens: int, decode_tokens: int, seconds: float) -> None:
        if not prefill_tokens:
            self.decode_seconds = _blend(self.decode_seconds, seconds)
        elif prefill_tokens >= LEAST:
            alone = seconds - (self.decode_seconds or 0.0) * bool(decode_tokens)
            if alone > 0:
                self._token_seconds = _blend(self._token_seconds, alone / prefill_tokens)


class BatchPacer:
    """How many tokens a batch of inputs to embed may have; learns their cost."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._token_seconds: float | None = None

    @property
    def alone(self) -> int:
        return _alone(self._token_seconds, self._most)

    def beside(self, decode_seconds: float | None) -> int:
        """While sequences decode, in steps that take so long."""
        return _beside(decode_seconds, self._token_seconds, self._most)

    def observe(self, tokens: int, seconds: float) -> None:
        """A token costs more in a small batch, and the first one pays for the context: a lower cost
        is taken at its word."""
        if seconds > 0:
            cost = seconds / tokens
            self._token_seconds = min(cost, _blend(self._token_seconds, cost))


def _alone(token_seconds: float | None, most: int) -> int:
    if token_seconds is None:
        return min(LEAST, most)
    return min(most, max(LEAST, _even(int(STEP_SECONDS / token_seconds))))


def _beside(decode_seconds: float | None, token_seconds: float | None, most: int) -> int:
    chunk = MIN_CHUNK
    if decode_seconds is not None and token_seconds is not None:
        chunk = max(chunk, _even(int((STRETCH - 1) * decode_seconds / token_seconds)))
    return min(chunk, _alone(token_seconds, most))


def _even(tokens: int) -> int:
    """Matrix kernels work in blocks: a ragged chunk costs as much as the next block up."""
    return tokens // 32 * 32


def _blend(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)
