from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from service.control.samples import CLASSES, KEPT, METRICS, TRIAL, Concurrency, Sampled, Samples
from service.events import FinishReason, Timings, Usage
from service.stats import ModelUnloaded, RequestStats, StepStats

DONE = RequestStats(
    id="r",
    model="demo:latest",
    dialect="openai",
    endpoint="/v1/chat/completions",
    stream=True,
    reason=FinishReason.STOP,
    arrived=10.0,
    ended=12.0,
    usage=Usage(prompt_tokens=100, generation_tokens=11),
    timings=Timings(queued=10.1, scheduled=10.2, first_token=10.5, last_token=11.5, finished=11.5),
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def step(running: int, waiting: int = 0) -> StepStats:
    return StepStats(1, "decode", 0.01, 0.001, 0, 1, running, waiting, 64)


@pytest.fixture
def samples() -> Samples:
    return Samples(Clock())


def test_a_request_leaves_what_its_families_observed(samples: Samples) -> None:
    samples.on_finish(DONE)

    (sample,) = samples.of(0)
    assert {name: read(sample) for name, read in METRICS.items()} == {
        "llm_request_queue_seconds": pytest.approx(0.1),
        "llm_time_to_first_token_seconds": pytest.approx(0.5),
        "llm_time_per_output_token_seconds": pytest.approx(0.1),
        "llm_request_duration_seconds": pytest.approx(2.0),
    }
    assert sample.load == ("demo:latest", "chat", True, 4, 1)


def test_prompts_of_like_length_are_one_class(samples: Samples) -> None:
    for tokens in (63, 64, 255, 256):
        samples.on_finish(replace(DONE, usage=Usage(tokens, 0, 5)))

    buckets = [sample.load.prompt for sample in samples.of(0)]
    assert len(set(buckets)) == 3
    assert buckets.count(4) == 2


def test_a_request_that_ran_under_two_versions_is_no_sample_of_either() -> None:
    clock = Clock()
    samples = Samples(clock)
    samples.on_finish(DONE)
    clock.now = 11.0
    samples.change(2)
    samples.on_finish(DONE)
    samples.on_finish(replace(DONE, arrived=11.5))

    assert len(list(samples.of(0))) == 1
    assert [sample.arrived for sample in samples.of(2)] == [11.5]


def test_what_failed_has_no_times_and_what_was_cancelled_is_no_sample(samples: Samples) -> None:
    for reason in (FinishReason.ERROR, FinishReason.TIMEOUT, FinishReason.CANCELLED):
        samples.on_finish(replace(DONE, reason=reason))

    kept = list(samples.of(0))
    assert [sample.failed for sample in kept] == [True, True]
    assert {read(sample) for sample in kept for read in METRICS.values()} == {None}


def test_what_is_kept_is_bounded(samples: Samples) -> None:
    for n in range(KEPT + 10):
        samples.on_finish(replace(DONE, arrived=float(n), ended=float(n) + 1))
    assert len(list(samples.of(0))) == KEPT

    for n in range(CLASSES):
        samples.on_finish(replace(DONE, model=f"model {n}"))
    models = {sample.load.model for sample in samples.of(0)}
    assert len(models) == CLASSES
    assert DONE.model not in models


def test_concurrency_is_the_mean_over_a_requests_life() -> None:
    clock = Clock()
    concurrency = Concurrency(clock)
    for at, requests in ((0.0, 1), (1.0, 4), (3.0, 2)):
        clock.now = at
        concurrency.set("a", requests)

    assert concurrency.mean(0.0, 4.0) == pytest.approx((1 + 2 * 4 + 2) / 4)
    assert concurrency.mean(3.5, 4.0) == 2
    concurrency.set("b", 3)
    assert concurrency.mean(3.0, 4.0) == 5


def test_requests_at_the_same_time_are_another_class_and_a_model_that_goes_takes_its_own() -> None:
    clock = Clock()
    samples = Samples(clock)
    clock.now = 10.0
    samples.on_steps(DONE.model, [step(running=3, waiting=2)])
    samples.on_finish(DONE)
    clock.now = 12.0
    samples.on_model(ModelUnloaded(DONE.model, "requested"))
    samples.on_finish(replace(DONE, arrived=12.0, ended=13.0))

    assert sorted(sample.load.concurrency for sample in samples.of(0)) == [1, 3]


class Heard:
    def __init__(self) -> None:
        self.finished: list[RequestStats] = []

    def on_steps(self, model: str, steps: Sequence[StepStats]) -> None: ...

    def on_model(self, event: object) -> None: ...

    def on_finish(self, stats: RequestStats) -> None:
        self.finished.append(stats)


def test_a_trials_requests_count_among_no_users(samples: Samples) -> None:
    heard = Heard()
    of_trials: list[RequestStats] = []
    sampled = Sampled(heard, samples)
    sampled.on_trial = of_trials.append
    trial = replace(DONE, dialect=TRIAL)

    sampled.on_finish(DONE)
    sampled.on_finish(trial)

    assert (heard.finished, of_trials) == ([DONE], [trial])
    assert len(list(samples.of(0))) == 1
