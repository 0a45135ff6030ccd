"""How much of each prompt begins like a prompt of the last minutes: what the best of caches could
have saved, whether or not ours is on."""

from __future__ import annotations

from typing import Final

from service.engine.model import Ids
from service.engine.sequence import Basis

BLOCK: Final = 32
REMEMBERED_SECONDS: Final = 600.0
# A million tokens, in about 4 MiB.
REMEMBERED_BLOCKS: Final = 32768


class Recurrence:
    """Beginnings are known by a hash for each block of tokens, made from that of the block before,
    so that a prompt costs about a microsecond for each 32 tokens."""

    def __init__(self, blocks: int = REMEMBERED_BLOCKS) -> None:
        self._blocks = blocks
        # When a beginning was last seen, oldest first.
        self._seen: dict[int, float] = {}

    def observe(self, prompt: Ids, basis: Basis, now: float) -> int:
        """The tokens, in whole blocks, that a prompt of before began with too."""
        seen, key, known, reusable = self._seen, hash(basis), True, 0
        for start in range(0, len(prompt) - BLOCK + 1, BLOCK):
            key = hash((key, prompt[start : start + BLOCK].tobytes()))
            at = seen.pop(key, None)
            seen[key] = now
            known = known and at is not None and now - at <= REMEMBERED_SECONDS
            reusable += BLOCK * known
        while len(seen) > self._blocks:
            del seen[next(iter(seen))]
        return reusable
