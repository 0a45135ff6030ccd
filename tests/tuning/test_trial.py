from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from service.control.records import Tried
from service.control.samples import TRIAL, Sampled
from service.errors import ChangeRefused, ServiceError
from service.events import FinishReason, Timings, Usage
from service.generation import GenerationRequest
from service.serving.runtime import Runtime
from service.stats import RequestStats
from service.tuning.trial import Trial
from tests.optimization_bench import ADVICE, METRIC, Bench


@dataclass
class Model:
    running: int = 0
    waiting: int = 0


class Machine:
    """A runtime with one model, which answers at once and says how long it took: fewer threads are
    faster. `when` is called as each request begins."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.model = Model()
        self.requests: list[GenerationRequest] = []
        self.seconds = 0.0
        self.on_finish: Any = None
        self.when: Callable[[int], None] = lambda number: None

    def models(self) -> list[Model]:
        return [self.model]

    async def admit(self, request: GenerationRequest) -> Answer:
        self.model.running += 1
        self.requests.append(request)
        self.when(len(self.requests))
        return Answer(self, request)


class Answer:
    def __init__(self, machine: Machine, request: GenerationRequest) -> None:
        self.machine, self.request = machine, request

    async def batches(self) -> AsyncIterator[list[Any]]:
        await asyncio.sleep(self.machine.seconds)
        yield []
        gap = 0.01 if self.machine.bench.settings.version.overrides["threads"] == 2 else 0.02
        begun = self.request.arrived
        timings = Timings(begun, begun, begun + 0.1, begun + 0.1 + 47 * gap, begun + 1)
        self.machine.on_finish(
            RequestStats(
                id=self.request.id,
                model="demo:latest",
                dialect=self.request.dialect,
                endpoint=self.request.endpoint,
                stream=False,
                reason=FinishReason.LENGTH,
                arrived=begun,
                ended=begun + 1,
                usage=Usage(10, 0, 48),
                timings=timings,
            )
        )

    async def aclose(self) -> None:
        self.machine.model.running -= 1


class Bystander:
    def on_steps(self, model: str, steps: object) -> None: ...

    def on_model(self, event: object) -> None: ...

    def on_finish(self, stats: RequestStats) -> None:
        raise AssertionError("a trial's requests are no user's")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def machine(bench: Bench) -> Machine:
    return Machine(bench)


@pytest.fixture
def trial(bench: Bench, machine: Machine) -> Trial:
    sampled = Sampled(Bystander(), bench.samples)
    machine.on_finish = sampled.on_finish
    runtime = cast(Runtime, machine)
    return Trial(runtime, bench.settings, bench.made.judging, sampled, lambda: "A CPU")


async def tried(trial: Trial, seconds: float = 30.0) -> Tried:
    trial.start(ADVICE, expected=None, by="ci", seconds=seconds)
    until = time.monotonic() + 30
    while trial.last is None and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert trial.last is not None
    return trial.last


async def test_each_prompt_is_answered_before_with_and_after_the_advice(
    bench: Bench, machine: Machine, trial: Trial
) -> None:
    last = await tried(trial)

    assert (last.outcome, last.verdict) == ("completed", "improved")
    assert last.effects[METRIC].ratio == pytest.approx(0.5)
    assert last.drift[METRIC] == pytest.approx(1.0)
    assert bench.settings.version.overrides == {"threads": 16}
    assert [v.why for v in bench.settings.versions()][::-1] == [
        "start",
        "trial:threads-physical",
        "trial:back",
    ]
    turns = [[r.input for r in machine.requests[n : n + 14]] for n in (0, 14, 28)]
    assert turns[0] == turns[1] == turns[2]
    # What one turn computed, the next does not find.
    assert len({request.cache_salt for request in machine.requests}) == 3
    assert {request.dialect for request in machine.requests} == {TRIAL}
    assert bench.history.records()[-1] == last
    await bench.settled()


async def test_a_user_who_comes_while_the_advice_is_tried_ends_it(
    bench: Bench, machine: Machine, trial: Trial
) -> None:
    def user(number: int) -> None:
        if number == 20:
            machine.model.waiting, machine.seconds = 1, 60.0

    machine.when = user

    last = await tried(trial)

    assert (last.outcome, last.verdict) == ("interrupted", "insufficient_data")
    assert bench.settings.version.overrides == {"threads": 16}
    assert machine.model.running == 0


async def test_it_takes_no_longer_than_it_may_and_gives_back_what_it_changed(
    bench: Bench, machine: Machine, trial: Trial
) -> None:
    def slow(number: int) -> None:
        if number == 20:
            machine.seconds = 60.0

    machine.when = slow

    last = await tried(trial, seconds=0.5)

    assert last.outcome == "timeout"
    assert bench.settings.version.overrides == {"threads": 16}


async def test_a_service_that_ends_ends_it_first(
    bench: Bench, machine: Machine, trial: Trial
) -> None:
    machine.seconds = 60.0
    trial.start(ADVICE, expected=None, by="ci", seconds=600)
    await asyncio.sleep(0)
    await trial.close()

    assert trial.running is None
    assert machine.model.running == 0
    assert bench.settings.version.overrides == {"threads": 16}


async def test_what_cannot_be_applied_is_what_came_of_it(bench: Bench, trial: Trial) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise ChangeRefused("It does not fit.")

    bench.settings.apply = refuse  # type: ignore[method-assign]

    last = await tried(trial)

    assert (last.outcome, last.reason) == ("failed", "It does not fit.")


async def test_one_at_a_time_and_only_what_the_service_can_do(
    machine: Machine, trial: Trial
) -> None:
    by_hand = replace(ADVICE, patch=None)
    with pytest.raises(ServiceError, match="not for this service"):
        trial.start(by_hand, expected=None, by="ci", seconds=30)
    machine.model.running = 1
    with pytest.raises(ServiceError, match="idle"):
        trial.start(ADVICE, expected=None, by="ci", seconds=30)
    machine.model.running = 0
    trial.start(ADVICE, expected=None, by="ci", seconds=30)
    with pytest.raises(ServiceError, match="still running"):
        trial.start(ADVICE, expected=None, by="ci", seconds=30)
    await trial.close()
