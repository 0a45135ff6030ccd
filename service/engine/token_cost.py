"""What a prompt token costs, learned from the batches it was computed in."""

from __future__ import annotations

import math

# How much the newest observation counts.
WEIGHT = 0.2
# Observations have to differ by more than so many tokens in what stood before them, or the slope
# between them is mostly noise.
SPREAD = 128
# The share of the cost that attention may have, where observations are.
_MOST_ATTENTION = 0.95


class TokenCost:
    """Seconds for a prompt token, as a line over the tokens before it: attention reads them all.

    Least squares in which older observations count ever less. Towards `SPREAD` the slope is held
    to be zero (a ridge), as it has to be while all that was seen stood equally deep.
    """

    def __init__(self, depth: float, seconds: float) -> None:
        self._depth = depth
        self._seconds = seconds
        self._variance = 0.0
        self._covariance = 0.0

    def observe(self, depth: float, seconds: float) -> None:
        """A token cost so many `seconds` with, in the mean, `depth` tokens before it."""
        deeper, dearer = depth - self._depth, seconds - self._seconds
        self._depth += WEIGHT * deeper
        self._seconds += WEIGHT * dearer
        self._variance = (1 - WEIGHT) * (self._variance + WEIGHT * deeper * deeper)
        self._covariance = (1 - WEIGHT) * (self._covariance + WEIGHT * deeper * dearer)

    @property
    def slope(self) -> float:
        """Seconds that a token costs more for each token before it; never less than nothing."""
        slope = max(0.0, self._covariance / (self._variance + SPREAD * SPREAD))
        return min(slope, _MOST_ATTENTION * self._seconds / self._depth) if self._depth else slope

    def at(self, depth: float) -> float:
        """Seconds for a token with so many before it."""
        return self._seconds + self.slope * (depth - self._depth)

    def between(self, begin: int, end: int) -> float:
        """Seconds for the tokens from one position to the other."""
        return (end - begin) * self.at((begin + end) / 2)

    def within(self, seconds: float, begin: int) -> float:
        """How many tokens from a position on can be computed in so many `seconds`.

        They are the solution of `between(begin, begin + tokens) == seconds`, a quadratic equation.
        """
        first, slope = self.at(begin), self.slope
        return 2 * seconds / (first + math.sqrt(first * first + 2 * slope * seconds))
