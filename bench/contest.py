"""Several ways to do the same work, taken in turns, and what their medians say.

A shared machine is not equally fast from minute to minute. So contestants are interleaved round
by round, each round beginning with another one, and a ratio is one of medians over the rounds. Of
what is short, and so near one another in each round that the machine is the same for all, it is the
mean of the rounds' own ratios.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

from bench.load import Figures

Measure = Callable[[int], Awaitable[Figures]]


@dataclass(frozen=True)
class Bar:
    """What a figure must reach: as a ratio to another contestant's, or by itself."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None
    against: str | None = None

    def met(self, value: float) -> bool:
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= value <= high

    def __str__(self) -> str:
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


@dataclass(frozen=True)
class Contest:
    """`judged` are those that the bars are for; the others are what they are held against.

    turns: how many rounds of this contest are one of others, for what is short and close; then each
    round is held against itself.
    """

    title: str
    contestants: Mapping[str, Measure]
    judged: tuple[str, ...]
    bars: tuple[Bar, ...] = ()
    baseline: str | None = None
    turns: int = 1


@dataclass(frozen=True)
class Ratio:
    """Of pairs the geometric mean, and its standard error; one of medians has none."""

    value: float
    error: float | None = None

    def __str__(self) -> str:
        if self.error is None:
            return f"{self.value:.2f}"
        return f"{self.value:.3f} ± {self.error:.3f}"


@dataclass
class Outcome:
    """Every round's figures of every contestant."""

    title: str
    judged: tuple[str, ...]
    bars: tuple[Bar, ...]
    baseline: str | None
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    load_average: list[float] = field(default_factory=list)
    paired: bool = False

    def values(self, name: str, figure: str) -> list[float]:
        return [figures[figure] for figures in self.rounds[name] if figure in figures]

    def median(self, name: str, figure: str) -> float:
        values = self.values(name, figure)
        return statistics.median(values) if values else math.nan

    def ratio(self, name: str, against: str, figure: str) -> Ratio:
        if not self.paired:
            theirs = self.median(against, figure)
            return Ratio(self.median(name, figure) / theirs if theirs else math.nan)
        rounds = zip(self.rounds[name], self.rounds[against], strict=True)
        pairs = [(mine.get(figure, 0.0), theirs.get(figure, 0.0)) for mine, theirs in rounds]
        logarithms = [math.log(mine / theirs) for mine, theirs in pairs if mine > 0 < theirs]
        if len(logarithms) < 2:
            return Ratio(math.nan)
        mean = math.exp(statistics.fmean(logarithms))
        return Ratio(mean, mean * statistics.stdev(logarithms) / math.sqrt(len(logarithms)))


def begun(contest: Contest) -> Outcome:
    """Before its first round."""
    outcome = Outcome(contest.title, contest.judged, contest.bars, contest.baseline)
    outcome.paired = contest.turns > 1
    outcome.rounds = {name: [] for name in contest.contestants}
    return outcome


async def hold(contest: Contest, outcome: Outcome, rounds: int) -> None:
    """So many rounds more."""
    held = len(outcome.load_average)
    for number in range(held, held + rounds * contest.turns):
        outcome.load_average.append(os.getloadavg()[0])
        for name in rotated(list(contest.contestants), number):
            begin = monotonic()
            outcome.rounds[name].append(await contest.contestants[name](number))
            say(f"{contest.title}, round {number + 1}: {name} took {monotonic() - begin:.0f} s")


def rotated(names: Sequence[str], by: int) -> list[str]:
    by %= len(names)
    return [*names[by:], *names[:by]]


def say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)
