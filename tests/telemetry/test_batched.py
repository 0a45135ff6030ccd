"""Steps told some at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.events import FinishReason
from service.stats import ModelLoaded, RequestStats, StepStats
from service.telemetry.batched import UNTOLD_SECONDS, Batched

FINISH = RequestStats("r1", "a", "openai", "/v1/completions", False, FinishReason.STOP, 1.0, 2.0)
LOADED = ModelLoaded("a", 1.0)


class Heard:
    def __init__(self) -> None:
        self.all: list[Any] = []

    def on_steps(self, model: str, steps: Sequence[StepStats]) -> None:
        self.all += [(model, stats) for stats in steps]

    def on_model(self, event: Any) -> None:
        self.all.append(event)

    def on_finish(self, stats: RequestStats) -> None:
        self.all.append(stats)


def step(running: int, seconds: float) -> StepStats:
    return StepStats(1, "decode", seconds, 0.0, 0, 1, running, 0, 10, step_seconds=seconds)


steps = st.builds(step, st.integers(0, 3), st.floats(0, 2 * UNTOLD_SECONDS))
happenings = st.lists(
    st.one_of(st.tuples(st.sampled_from("ab"), steps), st.just(FINISH), st.just(LOADED))
)


@given(happenings)
def test_everything_is_told_in_order_and_no_more_than_a_tenth_of_a_second_of_steps_waits(
    happenings: list[Any],
) -> None:
    heard = Heard()
    batched = Batched(heard)
    for number, happening in enumerate(happenings, 1):
        match happening:
            case (model, stats):
                batched.on_steps(model, [stats])
            case RequestStats():
                batched.on_finish(happening)
            case _:
                batched.on_model(happening)
        so_far = happenings[:number]
        for model in "ab":
            told = of(model, heard.all)
            assert told == of(model, so_far)[: len(told)]
        for at in range(len(heard.all), number):
            model, stats = so_far[at]
            before = [earlier for name, earlier in steps_of(so_far[:at]) if name == model][-1]
            assert stats.running == before.running > 0
        waiting = steps_of(so_far[len(heard.all) :])
        assert sum(stats.step_seconds for _, stats in waiting) < UNTOLD_SECONDS


def steps_of(happenings: list[Any]) -> list[tuple[str, StepStats]]:
    return [each for each in happenings if isinstance(each, tuple)]


def of(model: str, happenings: list[Any]) -> list[Any]:
    """What is told of a model, and between what of all models."""
    return [each for each in happenings if not isinstance(each, tuple) or each[0] == model]


def test_an_observer_that_fails_at_one_step_is_told_of_the_others() -> None:
    class Fails(Heard):
        def on_steps(self, model: str, steps: Sequence[StepStats]) -> None:
            super().on_steps(model, steps)
            raise RuntimeError

    heard = Fails()
    batched = Batched(heard)
    with pytest.raises(RuntimeError):
        batched.on_steps("a", [step(2, 0.001)])
    batched.on_steps("a", [step(2, 0.002)])
    with pytest.raises(RuntimeError):
        batched.on_steps("b", [step(0, 0.001)])
    with pytest.raises(RuntimeError):
        batched.on_model(LOADED)
    batched.on_finish(FINISH)
    told = [("a", step(2, 0.001)), ("a", step(2, 0.002)), ("b", step(0, 0.001))]
    assert heard.all == [*told, FINISH]
