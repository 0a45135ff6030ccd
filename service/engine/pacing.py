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
        self._decode_seconds: float | None = None
        self._token_seconds: float | None = None

    @property
    def alone(self) -> int:
        """Prompt tokens that a step may carry in which nobody decodes."""
        if self._token_seconds is None:
            return min(LEAST, self._step_tokens)
        foreseen = int(STEP_SECONDS / self._token_seconds)
        return max(LEAST, min(_even(foreseen), self._step_tokens))

    @property
    def beside(self) -> int:
        """Prompt tokens that a step may carry beside sequences that decode."""
        if self._fixed is not None:
            return min(self._fixed, self._step_tokens)
        chunk = MIN_CHUNK
        if self._decode_seconds is not None and self._token_seconds is not None:
            stretched = (STRETCH - 1) * self._decode_seconds / self._token_seconds
            chunk = max(chunk, _even(int(stretched)))
        return min(chunk, self.alone)

    def observe(self, prefill_tokens: int, decode_tokens: int, seconds: float) -> None:
        if not prefill_tokens:
            self._decode_seconds = _blend(self._decode_seconds, seconds)
        elif prefill_tokens >= LEAST:
            alone = seconds - (self._decode_seconds or 0.0) * bool(decode_tokens)
            if alone > 0:
                self._token_seconds = _blend(self._token_seconds, alone / prefill_tokens)


def _even(tokens: int) -> int:
    """Matrix kernels work in blocks: a ragged chunk costs as much as the next block up."""
    return tokens // 32 * 32


def _blend(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)
