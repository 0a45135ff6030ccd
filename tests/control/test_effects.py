from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.control.effects import LEAST_REQUESTS, Effect, Point, Verdict, effect, weights

TRIALS = 200


def steady(random: random.Random, n: int) -> Iterator[float]:
    """Spread by a fifth, as gaps between tokens are."""
    return (0.2 * random.gauss() for _ in range(n))


def heavy_tailed(random: random.Random, n: int) -> Iterator[float]:
    """Pareto's, of which the mean is hardly and the variance not finite."""
    return (math.log(random.paretovariate(1.2)) for _ in range(n))


def alike(random: random.Random, n: int) -> Iterator[float]:
    """Each request is much like the one before: a neighbour comes and goes."""
    level = random.gauss()
    for _ in range(n):
        level = 0.8 * level + 0.6 * random.gauss()
        yield 0.2 * level


def drifting(random: random.Random, n: int) -> Iterator[float]:
    """By a fifth from the first request to the last, up or down."""
    slope = random.choice((-0.2, 0.2)) / n
    return (0.2 * random.gauss() + slope * i for i in range(n))


def swinging(random: random.Random, n: int) -> Iterator[float]:
    """Up and down by a tenth, slowly, from anywhere."""
    start, length = random.uniform(0, 2 * math.pi), n * random.uniform(0.5, 3)
    for i in range(n):
        yield 0.2 * random.gauss() + 0.1 * math.sin(start + 2 * math.pi * i / length)


def disturbed(random: random.Random, n: int) -> Iterator[float]:
    """Twice as slow for some requests in a row, a quarter of the time."""
    busy = False
    for _ in range(n):
        if random.random() < (0.15 if busy else 0.05):
            busy = not busy
        yield 0.2 * random.gauss() + 0.7 * busy


Noise = Callable[[random.Random, int], Iterator[float]]


def sides(noise: Noise, seed: str, n: int, ratio: float = 1.0) -> tuple[list[Point], list[Point]]:
    """n requests each of two load classes that come in turns, one ten times as slow."""
    logs = list(noise(random.Random(seed), 2 * n))
    points: list[Point] = [
        (f"class {i % 2}", math.exp(log) * 10 ** (i % 2)) for i, log in enumerate(logs)
    ]
    return points[:n], [(of, value * ratio) for of, value in points[n:]]


def verdicts(noise: Noise, n: int, ratio: float = 1.0, trials: int = TRIALS) -> Counter[Verdict]:
    found: Counter[Verdict] = Counter()
    for trial in range(trials):
        measured = effect(*sides(noise, f"{noise.__name__} {trial}", n, ratio), seed=trial)
        assert measured is not None
        found[measured.verdict("down")] += 1
    return found


@pytest.mark.parametrize(
    "noise", [steady, heavy_tailed, alike, drifting, swinging, disturbed], ids=lambda n: n.__name__
)
def test_where_nothing_changed_less_than_a_tenth_of_the_verdicts_says_that_something_did(
    noise: Noise,
) -> None:
    found = verdicts(noise, 44)

    assert found["improved"] + found["regressed"] < 0.1 * TRIALS, found


@pytest.mark.parametrize(("ratio", "verdict"), [(1 / 1.5, "improved"), (1.5, "regressed")])
def test_half_as_much_again_is_seen_in_forty_requests(ratio: float, verdict: Verdict) -> None:
    assert verdicts(steady, 40, ratio, trials=20)[verdict] >= 18


def test_many_requests_show_a_small_effect_and_its_size() -> None:
    measured = effect(*sides(steady, "", 400, 0.88))

    assert measured is not None
    assert 0.82 < measured.ratio < 0.94
    assert measured.high - measured.low < 0.15
    assert measured.verdict("down") == "improved"
    assert measured.verdict("up") == "regressed"
    assert (measured.before, measured.after, measured.classes) == (400, 400, 2)


def test_another_mix_of_load_is_no_effect() -> None:
    """Before mostly quick requests, after mostly slow ones; each as quick as ever."""
    random_ = random.Random(1)

    def mixed(slow: Callable[[int], bool]) -> list[Point]:
        return [
            (slow(i), (100 if slow(i) else 1) * math.exp(0.1 * random_.gauss())) for i in range(160)
        ]

    measured = effect(mixed(lambda i: i % 4 == 0), mixed(lambda i: i % 4 != 0))

    assert measured is not None
    assert measured.verdict("down") == "neutral"
    assert 0.9 < measured.ratio < 1.1


def test_a_class_counts_where_both_sides_have_enough_of_it() -> None:
    enough, few = LEAST_REQUESTS, LEAST_REQUESTS - 1
    a, b, c = ((of, 1.0) for of in "abc")
    before: list[Point] = [*[a] * enough, *[b] * few, *[c] * enough]
    after: list[Point] = [*[a] * enough, *[b] * enough, *[c] * 3 * enough]

    assert weights(before, after) == pytest.approx({"a": 0.4, "c": 0.6})
    assert effect([("a", 1.0)] * few, [("a", 1.0)] * 100) is None


def test_the_same_requests_have_the_same_interval() -> None:
    assert effect(*sides(alike, "x", 60), seed=3) == effect(*sides(alike, "x", 60), seed=3)


def test_what_is_smaller_than_the_margin_is_no_verdict_however_certain() -> None:
    assert Effect(1.02, 1.01, 1.03, 400, 400, 1).verdict("up") == "neutral"
    assert Effect(1.05, 1.01, 1.09, 400, 400, 1).verdict("up") == "improved"


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=20, max_size=60),
    st.lists(st.floats(1e-6, 1e6), min_size=20, max_size=60),
)
def test_whatever_was_measured_the_ratio_is_in_its_interval(
    before: list[float], after: list[float]
) -> None:
    was: list[Point] = [("a", value) for value in before]
    measured = effect(was, [("a", value) for value in after])

    assert measured is not None
    assert 0 < measured.low <= measured.ratio <= measured.high < math.inf
