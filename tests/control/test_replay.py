from __future__ import annotations

import math
import random

import pytest

from service.control.effects import Effect
from service.control.replay import LEAST_PROMPTS, Turn, compared, prompts, verdict
from service.control.samples import LoadClass, Sample
from service.events import FinishReason

METRIC = "llm_time_per_output_token_seconds"


def turn(level: float, seed: int, count: int = 12) -> Turn:
    """Prompts differ tenfold from each other, and each by a twentieth from turn to turn."""
    draw = random.Random(seed)
    load = LoadClass("demo:latest", "text_completion", False, 0, 1)
    return {
        n: Sample(
            load,
            0,
            0.0,
            1.0,
            FinishReason.LENGTH,
            per_token=level * 10 ** (n % 2) * math.exp(0.05 * draw.gauss()),
        )
        for n in range(count)
    }


def test_a_prompt_is_held_against_itself_so_that_few_show_an_effect() -> None:
    effects, drift = compared([turn(0.03, 1), turn(0.02, 2), turn(0.03, 3)])

    effect = effects[METRIC]
    assert effect.low < 2 / 3 < effect.high
    assert verdict(effects, METRIC, "down", drift[METRIC]) == "improved"
    assert verdict(effects, METRIC, "up", drift[METRIC]) == "regressed"


def test_a_steady_drift_falls_out() -> None:
    effects, drift = compared([turn(0.020, 1), turn(0.022, 2), turn(0.024, 3)])

    assert drift[METRIC] == pytest.approx(1.2, abs=0.1)
    assert verdict(effects, METRIC, "down", drift[METRIC]) == "neutral"


def test_what_differs_less_than_the_first_configuration_from_itself_is_no_effect() -> None:
    effects = {METRIC: Effect(0.9, 0.85, 0.95, 24, 12, 1)}

    assert verdict(effects, METRIC, "down", 1.0) == "improved"
    assert verdict(effects, METRIC, "down", 1.2) == "neutral"


def test_few_prompts_are_no_trial() -> None:
    few = [turn(0.02, seed, LEAST_PROMPTS - 1) for seed in range(3)]

    assert compared(few) == ({}, {})
    assert verdict({}, METRIC, "down", 1.0) == "insufficient_data"


def test_where_nothing_changed_few_trials_say_that_something_did() -> None:
    verdicts = []
    for n in range(200):
        effects, drift = compared([turn(0.02, 3 * n + k) for k in range(3)])
        verdicts.append(verdict(effects, METRIC, "down", drift[METRIC]))

    assert sum(found != "neutral" for found in verdicts) < 20


def test_prompts_are_always_the_same_and_begin_differently() -> None:
    assert prompts() == prompts()
    assert len({prompt[:4] for prompt in prompts(14)}) == 14
