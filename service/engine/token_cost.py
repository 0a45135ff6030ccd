"""What a prompt token costs, learned from the batches it was computed in."""

from __future__ import annotations

import math

from service.facts import ModelFacts

# How much the newest of many observations counts.
WEIGHT = 0.2
# Observations have to differ by more than so many tokens in what stood before them, or the slope
# between them is mostly noise.
SPREAD = 128
# The share of the cost that attention may have, where observations are.
_MOST_ATTENTION = 0.95
# An operation of attention takes longer than one with a weight: 1.2 times with weights in Q8_0, 3
# times with Q4_K_M's, which llama.cpp repacks (docs/decisions/0004).
_DEARER = 2.0


class TokenCost:
    """Seconds for a prompt token, as a line over the tokens before it: attention reads them all.

    Least squares in which older observations count ever less, and each as many times as it had
    tokens: a step of a few, as the first one is, is dearer for each of them. Towards `SPREAD` the
    slope is held to be what is expected (a ridge), as it has to be while all that was seen stood
    equally deep.
    growth: so much of the first token's cost a token is expected to cost more for each before it.
    """

    def __init__(self, tokens: int, depth: float, seconds: float, growth: float = 0.0) -> None:
        self._growth = growth
        self._tokens = float(tokens)
        self._depth = depth
        self._seconds = seconds
        self._variance = 0.0
        self._covariance = 0.0

    def observe(self, tokens: int, depth: float, seconds: float) -> None:
        """Each of so many tokens cost `seconds` with, in the mean, `depth` tokens before it."""
        self._tokens = (1 - WEIGHT) * self._tokens + tokens
        weight = tokens / self._tokens
        deeper, dearer = depth - self._depth, seconds - self._seconds
        self._depth += weight * deeper
        self._seconds += weight * dearer
        self._variance = (1 - weight) * (self._variance + weight * deeper * deeper)
        self._covariance = (1 - weight) * (self._covariance + weight * deeper * dearer)

    @property
    def slope(self) -> float:
        """Seconds that a token costs more for each token before it; never less than nothing."""
        ridge = SPREAD * SPREAD
        expected = self._growth * self._seconds / (1 + self._growth * self._depth)
        slope = max(0.0, (self._covariance + ridge * expected) / (self._variance + ridge))
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


def growth_of(facts: ModelFacts) -> float:
    """`growth` of a model by its shape: two products for each dimension of a layer and token that
    attention reads, against one for each weight. 0 where layers do not read all that came before.
    """
    weights = facts.n_params - facts.n_vocab * facts.n_embd
    if facts.window or not facts.can_rollback or weights <= 0:
        return 0.0
    return _DEARER * 2 * facts.n_layer * facts.n_embd / weights
