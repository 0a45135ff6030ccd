"""What loads really took for each byte that was predicted, so that the next prediction is better.

Pure: `observe` gives a new value, and keeping it somewhere is another's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

# A load that took less than half or more than twice of what was predicted was disturbed: another
# process took or gave back memory meanwhile.
LEAST: Final = 0.5
MOST: Final = 2.0
# Of the newest load; what was known before keeps the rest.
WEIGHT: Final = 0.5


class Calibration(Struct, frozen=True):
    """Ratios of bytes taken to bytes predicted, by model and configuration (`key`)."""

    ratios: Mapping[str, float] = field(default_factory=dict)

    def observe(self, key: str, predicted: int, taken: int) -> Calibration:
        """`predicted` is what was estimated without any ratio. A disturbed load changes nothing."""
        if predicted <= 0 or not LEAST <= (ratio := taken / predicted) <= MOST:
            return self
        known = self.ratios.get(key)
        better = ratio if known is None else known + WEIGHT * (ratio - known)
        return replace(self, ratios={**self.ratios, key: better})

    def ratio(self, key: str) -> float:
        """1.0 where nothing was observed."""
        return self.ratios.get(key, 1.0)


def key_of(path: str, type_k: str, type_v: str, *, flash_attention: bool, device: str) -> str:
    """What changes the ratio: the file, how its cells are kept, and the kind of device."""
    return "|".join((path, type_k, type_v, "flash" if flash_attention else "plain", device))
