"""How many prompt tokens a step may carry while other sequences are decoding.

A step lasts as long as its slowest part. A large chunk finishes the new prompt soonest, and makes
everyone else wait for their next token; a small one reads all weights again for few tokens. The
rule has no unit of the machine in it: a step with a chunk may last `STRETCH` times as long as a
step without one, whatever that is here. At 8 the running streams see their gap grow that far
while a prompt arrives, and the prompt's own prefill is slowed by about a seventh. Measured against
fixed chunks in docs/decisions/0004.
"""

from __future__ import annotations

STRETCH = 8.0
# Below this a chunk wastes most of a pass over the weights.
MIN_CHUNK = 32
# Until something has been measured.
FIRST_CHUNK = 128
_WEIGHT = 0.2


class PrefillPacer:
    """Learns the cost of a decode step and of a prompt token from the steps as they happen."""

    def __init__(self, n_batch: int, fixed: int | None = None) -> None:
        self._n_batch = n_batch
        self._fixed = fixed
        self._decode_seconds: float | None = None
        self._token_seconds: float | None = None

    @property
    def chunk(self) -> int:
        """Prompt tokens that the next mixed step may carry."""
        if self._fixed is not None:
            return min(self._fixed, self._n_batch)
        if self._decode_seconds is None or self._token_seconds is None:
            return min(FIRST_CHUNK, self._n_batch)
        chunk = int((STRETCH - 1) * self._decode_seconds / self._token_seconds)
        # Matrix kernels work in blocks: a ragged chunk costs as much as the next block up.
        return max(MIN_CHUNK, min(chunk // 32 * 32, self._n_batch))

    def observe(self, prefill_tokens: int, decode_tokens: int, seconds: float) -> None:
        if not prefill_tokens:
            self._decode_seconds = _blend(self._decode_seconds, seconds)
        elif prefill_tokens >= MIN_CHUNK:
            alone = seconds - (self._decode_seconds or 0.0) * bool(decode_tokens)
            if alone > 0:
                self._token_seconds = _blend(self._token_seconds, alone / prefill_tokens)


def _blend(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)
