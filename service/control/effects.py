"""What a change of the configuration did to requests: after/before, with an interval. Pure.

Requests are compared with requests of their own load class only, since a morning of long prompts
is slower than an evening of short ones whatever the configuration. Over the classes the logarithms
of the ratios of medians are averaged, each by n·m/(n+m) of its n and m requests: the weight that
equal spreads would give it, without spreads that twenty requests tell badly.

Latencies of one machine are no independent draws: requests of the same minute share its
neighbours, its heat, its caches. Three things keep a coincidence from being called an effect.

Runs. The bootstrap draws runs of successive requests, all classes together, and not requests: what
they share stays together (Künsch 1989, The Annals of Statistics 17). There are few runs, so the
interval is widened by Student's t, as Ibragimov and Müller (2010, Journal of Business & Economic
Statistics 28) do for few groups; and by what runs too short for the likeness of successive requests
leave out.

Drift. A machine that gets slower all day is slower after any change. The slope within both sides is
taken off, as in an interrupted time series; as far as it cannot be told from noise, the drift that
is to be expected of a machine (DRIFT) widens the interval instead. So do its ups and downs: those
that are seen within the sides, and never less than WANDER.

Margin. What is nearer to 1 than MARGIN is no verdict, however certain: next week it would be gone.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import NormalDist, pstdev
from typing import Final, Literal

from msgspec import Struct

Direction = Literal["up", "down"]
Verdict = Literal["improved", "neutral", "regressed", "insufficient_data"]

# Of each class, on either side.
LEAST_REQUESTS: Final = 20
# Of either side, those nearest to the change: more cost time, and let drift begin further back.
MOST_REQUESTS: Final = 400
RESAMPLES: Final = 400
# Runs that a half of a side is cut into.
RUNS: Final = 4
# Standard deviation of the logarithm of the ratio by which a machine drifts between the sides.
DRIFT: Final = 0.15
# The same of what is no steady drift: a machine's ups and downs.
WANDER: Final = 0.04
MARGIN: Final = 0.03
MOST_ALIKE: Final = 0.95
LEVEL: Final = 0.90
Z: Final = NormalDist().inv_cdf((1 + LEVEL) / 2)
# Student's t of that level with 6 degrees of freedom: two halves of a side, each with one fewer than
# its runs. And the spread that the bootstrap finds in q runs is too small by sqrt((q - 1) / q).
WIDENED: Final = 1.943 / Z * math.sqrt(RUNS / (RUNS - 1))

# One request: its load class, and what was measured of it (> 0).
Point = tuple[Hashable, float]


class Effect(Struct, frozen=True):
    """`ratio` is after/before of the medians, `low` and `high` its 90 % interval. `before` and
    `after` count the requests that were used, of `classes` load classes."""

    ratio: float
    low: float
    high: float
    before: int
    after: int
    classes: int

    def verdict(self, direction: Direction) -> Verdict:
        """`direction`: whether more of the metric is better, or less."""
        if abs(math.log(self.ratio)) < MARGIN or self.low <= 1 <= self.high:
            return "neutral"
        return "improved" if (self.ratio > 1) == (direction == "up") else "regressed"

    def loss(self, direction: Direction) -> float:
        """The part of what there was before that is lost: 0.1 is 10 %, less than 0 a gain."""
        return self.ratio - 1 if direction == "down" else 1 - self.ratio


def effect(before: Sequence[Point], after: Sequence[Point], seed: int = 0) -> Effect | None:
    """Of requests in the order of time. None where no class has LEAST_REQUESTS on both sides. Takes
    up to 0.2 s of processor: not for a loop."""
    before, after = before[-MOST_REQUESTS:], after[:MOST_REQUESTS]
    shares = weights(before, after)
    if not shares:
        return None
    was, is_ = (
        [(of, math.log(value)) for of, value in side if of in shares] for side in (before, after)
    )
    ratio, low, high = interval(Sides(shares, was, is_), random.Random(seed))
    return Effect(math.exp(ratio), math.exp(low), math.exp(high), len(was), len(is_), len(shares))


def weights(before: Iterable[Point], after: Iterable[Point]) -> dict[Hashable, float]:
    """Of the classes that can be compared, summing to 1."""
    n, m = Counter(of for of, _ in before), Counter(of for of, _ in after)
    usable = [of for of in n if min(n[of], m[of]) >= LEAST_REQUESTS]
    precision = {of: n[of] * m[of] / (n[of] + m[of]) for of in usable}
    total = sum(precision.values())
    return {of: share / total for of, share in precision.items()}


class Run:
    """Successive requests: logarithms of their values by class, and how far each of them lies above
    the median of its class on this side."""

    def __init__(self, points: Sequence[Point], levels: Mapping[Hashable, float]) -> None:
        self.values: dict[Hashable, list[float]] = {}
        for of, value in points:
            self.values.setdefault(of, []).append(value)
        self.residuals = [value - levels[of] for of, value in points]


# Its halves, each in runs.
Side = tuple[Sequence[Run], Sequence[Run]]


def side(points: Sequence[Point]) -> Side:
    """`points` in the order of time."""
    by_class: dict[Hashable, list[float]] = {}
    for of, value in points:
        by_class.setdefault(of, []).append(value)
    levels = {of: median(each) for of, each in by_class.items()}
    ends = [len(points) * n // (2 * RUNS) for n in range(2 * RUNS + 1)]
    cut = [Run(points[start:end], levels) for start, end in pairwise(ends)]
    return cut[:RUNS], cut[RUNS:]


class Sides:
    """The change of level between two sides, and the drift within them: of what was measured, and
    of any draw of its runs."""

    def __init__(
        self, shares: Mapping[Hashable, float], before: Sequence[Point], after: Sequence[Point]
    ) -> None:
        self.shares = shares
        self.measured = side(before), side(after)
        n, m = len(before), len(after)
        # A slope is the step from half to half over half a side, and the sides' middles are
        # (n + m)/2 apart. Its variance falls with the third power of the side's length.
        self._spans = (
            n**3 / (n**3 + m**3) * (n + m) / n,
            m**3 / (n**3 + m**3) * (n + m) / m,
        )

    def drawn(self, random: random.Random) -> tuple[Side, Side]:
        """Each half by itself: which one comes first is what drift is."""
        before, after = self.measured
        return redrawn(before, random), redrawn(after, random)

    def level(self, before: Side, after: Side) -> float:
        """Logarithm of after/before."""
        total = change = 0.0
        for of, share in self.shares.items():
            was, is_ = values(before, of), values(after, of)
            # A draw may have left a class out.
            if was and is_:
                total += share
                change += share * (median(is_) - median(was))
        return change / total if total else 0.0

    def drift(self, before: float, after: float) -> float:
        """What of `level` the slope within the sides explains; given the sides' steps."""
        first, second = self._spans
        return first * before + second * after

    def memory(self) -> float:
        """By how much a spread grows that was seen in runs of this length, if each request is as
        like the one before it as these are (an autoregressive process of first order)."""
        series = [residuals(first) + residuals(second) for first, second in self.measured]
        length = min(map(len, series)) / (2 * RUNS)
        alike = likeness([ranks(each) for each in series])
        seen = 1 + 2 * sum((1 - k / length) * alike**k for k in range(1, math.ceil(length)))
        return math.sqrt(max(1.0, (1 + alike) / (1 - alike) / seen))


def interval(sides: Sides, random: random.Random) -> tuple[float, float, float]:
    """(estimate, low, high) of the logarithm of the ratio."""
    draws = [sides.drawn(random) for _ in range(RESAMPLES)]
    levels = [sides.level(*draw) for draw in draws]
    steps = [(step(before), step(after)) for before, after in draws]
    widened = WIDENED * sides.memory()
    measured = step(sides.measured[0]), step(sides.measured[1])
    # The weight of a measured drift against the one to be expected, which is none on average.
    drifts = [sides.drift(*pair) for pair in steps]
    known = DRIFT**2 / (DRIFT**2 + (widened * pstdev(drifts)) ** 2)
    middle = sides.level(*sides.measured) - known * sides.drift(*measured)
    changes = sorted(level - known * drift for level, drift in zip(levels, drifts, strict=True))
    centre, tail = median(changes), round((1 - LEVEL) / 2 * RESAMPLES)
    unknown = Z * math.hypot((1 - known) * DRIFT, wander(measured, steps))
    below = math.hypot(widened * (centre - changes[tail]), unknown)
    above = math.hypot(widened * (changes[-1 - tail] - centre), unknown)
    return middle, middle - below, middle + above


def wander(measured: tuple[float, float], steps: Sequence[tuple[float, float]]) -> float:
    """Standard deviation between the sides of what is no steady drift: what is to be expected of
    any machine, and what the sides' own steps differ by, beyond noise. A random walk moves twice as
    far from side to side as half of that difference."""
    apart = (measured[1] - measured[0]) / 2
    noise = pstdev([(after - before) / 2 for before, after in steps])
    return math.hypot(WANDER, 2 * math.sqrt(max(0.0, apart**2 - noise**2)))


def redrawn(side: Side, random: random.Random) -> Side:
    return random.choices(side[0], k=RUNS), random.choices(side[1], k=RUNS)


def values(side: Side, of: Hashable) -> list[float]:
    found: list[float] = []
    for half in side:
        for run in half:
            found += run.values.get(of, ())
    return found


def residuals(half: Sequence[Run]) -> list[float]:
    found: list[float] = []
    for run in half:
        found += run.residuals
    return found


def median(values: list[float]) -> float:
    """As `statistics` has it, in a third of the time: it is asked for some thousand times."""
    values.sort()
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def step(side: Side) -> float:
    """How far the second half lies above the first."""
    return median(residuals(side[1])) - median(residuals(side[0]))


def ranks(values: Sequence[float]) -> list[float]:
    """0 on average. No single slow request decides what is made of them."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    for rank, index in enumerate(order):
        found[index] = rank - (len(values) - 1) / 2
    return found


def likeness(series: Sequence[Sequence[float]]) -> float:
    """Correlation of successive values that are 0 on average, from 0 to MOST_ALIKE; corrected for
    what short series hide of it, (1 + 4 r)/n (Kendall 1954, Biometrika 41)."""
    above = sum(a * b for each in series for a, b in pairwise(each))
    below = sum(a * a for each in series for a in each)
    n = min(map(len, series))
    return min(MOST_ALIKE, max(0.0, (above / below * n + 1) / (n - 4))) if below else 0.0
