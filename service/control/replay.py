"""A trial: the same prompts under one configuration, under another, and under the first again. Pure.

Each prompt is held against itself, and the second configuration against the mean of the first's two
turns, so that a steady drift of the machine falls out; how far those two turns differ is told.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from statistics import pstdev
from typing import Final

from service.control.effects import RESAMPLES, Effect, Verdict, Z, median
from service.control.samples import METRICS, Sample

# Of three turns: how many prompts at least, for an interval that means anything.
LEAST_PROMPTS: Final = 8
# Student's t of 90 % with 7 degrees of freedom, against the normal's.
WIDENED: Final = 1.895 / Z
MAX_TOKENS: Final = 48

_WORDS: Final = (
    "river stone garden winter letter bridge market silver candle forest window harbor "
    "summer mountain village copper morning thunder meadow lantern"
).split()


def prompts(count: int = 12) -> list[str]:
    """Always the same ones: short and long in turns, none of which begins as another does."""
    return [
        f"{number}: " + " ".join(_WORDS[(number * 7 + n * 3) % len(_WORDS)] for n in range(length))
        for number, length in zip(range(count), (12, 96) * count, strict=False)
    ]


Turn = Mapping[int, Sample]  # by the number of the prompt


def compared(turns: Sequence[Turn]) -> tuple[dict[str, Effect], dict[str, float]]:
    """Of A, B, A: each metric's B/A with its interval, and second A/first A."""
    effects: dict[str, Effect] = {}
    drift: dict[str, float] = {}
    for metric, read in METRICS.items():
        logs = []
        for number in sorted(set.intersection(*(set(turn) for turn in turns))):
            values = [read(turn[number]) for turn in turns]
            if all(value is not None and value > 0 for value in values):
                logs.append([math.log(value) for value in values if value is not None])
        if len(logs) >= LEAST_PROMPTS:
            effects[metric] = paired([b - (a + c) / 2 for a, b, c in logs])
            drift[metric] = math.exp(median([c - a for a, _, c in logs]))
    return effects, drift


def paired(differences: Sequence[float]) -> Effect:
    """The median, and a bootstrap interval of it that few prompts widen."""
    draw = random.Random(len(differences))
    middles = [median(draw.choices(differences, k=len(differences))) for _ in range(RESAMPLES)]
    middle, n = median(list(differences)), len(differences)
    half = Z * WIDENED * pstdev(middles) * math.sqrt(n / (n - 1))
    return Effect(math.exp(middle), math.exp(middle - half), math.exp(middle + half), 2 * n, n, 1)


def verdict(effects: Mapping[str, Effect], metric: str, direction: str, drift: float) -> Verdict:
    """What the first configuration differs from itself by is the least that an effect has to be."""
    if (found := effects.get(metric)) is None:
        return "insufficient_data"
    if abs(math.log(found.ratio)) < abs(math.log(drift)):
        return "neutral"
    return found.verdict("up" if direction == "up" else "down")
