from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from msgspec.structs import replace

from exporters.readings import GpuReading, GpusReading, HostReading, Memory, PcieLink
from service.control.analysis import Analysis
from service.control.analyst import Analyst
from service.control.estimate import Estimate, Estimates
from service.control.intervals import Intervals
from service.control.workload import Workload
from service.settings import Settings
from tests.control.evidences import estimate
from tests.control.test_workload import MODEL, STEP, Clock, Read
from tests.dialects.fakes import FakeRuntime

pytestmark = pytest.mark.anyio
LOST = GpuReading(index=0, uuid="GPU-0", up=False)


def analyst(settings: Settings | None = None, **how: Any) -> Analyst:
    clock = Clock()
    workload = Workload(clock)
    read = Read(HostReading(memory_available=1 << 33, swap_in=0, oom_kills={"host": 0}))
    intervals = Intervals(read, workload, dict, clock, time.time)
    made = Analyst(
        workload,
        intervals,
        read,
        FakeRuntime().models,
        lambda: settings or Settings(),
        time.time,
        **how,
    )
    clock.now += 1
    return made


async def test_an_analysis_is_kept_for_whoever_asks() -> None:
    subject = analyst()
    made = await subject.refresh()

    assert subject.latest is made
    assert made.coverage > 0
    assert subject.evidence is not None
    assert subject.evidence.threads == 2


async def test_those_who_ask_while_one_is_made_get_that_one() -> None:
    subject = analyst()
    first, second = await asyncio.gather(subject.refresh(), subject.refresh())

    assert first is second
    assert await subject.refresh() is not first


async def test_listeners_are_told_of_each() -> None:
    told: list[Analysis] = []
    subject = analyst()
    subject.listen(told.append)
    await subject.refresh()

    assert told == [subject.latest]


async def test_other_settings_are_scored_without_being_in_force() -> None:
    subject = analyst()
    made = await subject.refresh()
    crowded = await subject.what_if({"threads": 512})

    assert crowded is not None
    assert crowded.score is not None
    assert made.score is not None
    assert crowded.score < made.score
    assert "threads-physical" in {advice.id for advice in crowded.recommendations}
    assert subject.latest is made


async def test_settings_that_cannot_be_loaded_have_no_score() -> None:
    def refuse(settings: Settings) -> Estimate:
        return estimate(refused="GPU 0 would need more")

    subject = analyst(estimate=lambda settings, hardware, models: Estimates(refuse))
    await subject.refresh()
    refused = await subject.what_if({"gpu_layers": 99})

    assert refused is not None
    assert (refused.score, refused.recommendations) == (None, ())


async def test_before_the_first_analysis_nothing_is_imagined() -> None:
    assert await analyst().what_if({"threads": 2}) is None


async def test_settings_that_decide_make_what_was_measured_void() -> None:
    subject = analyst()
    subject.workload.on_steps(MODEL, [replace(STEP)])

    def measured() -> float:
        return sum(interval.work[MODEL].steps for interval in subject.intervals.so_far()[0])

    assert measured() == 1
    subject.on_change({"log_level"})
    assert measured() == 1
    subject.on_change({"threads"})
    assert measured() == 0


async def test_asking_often_makes_no_more_analyses_than_one_a_second() -> None:
    subject = analyst()
    told: list[Analysis] = []
    subject.listen(told.append)
    began = time.monotonic()
    for _ in range(20):
        subject.ask()
        await asyncio.sleep(0)
    await subject.start()

    assert 1 <= len(told) <= 1 + (time.monotonic() - began)


async def test_looking_often_keeps_no_more_intervals() -> None:
    subject = analyst()
    for _ in range(20):
        await subject.refresh()

    assert subject.intervals.recent == ()


async def test_a_card_that_is_lost_scores_no_better_than_it_did() -> None:
    subject = analyst()
    read = subject.monitors
    assert isinstance(read, Read)
    bad = GpuReading(
        index=0, uuid="GPU-0", temperature=100.0, memory=Memory(1 << 33, 1 << 33, 0),
        pcie=PcieLink(3, 1, 3, 16),
    )  # fmt: skip
    other = GpuReading(index=1, uuid="GPU-1", temperature=40.0, memory=Memory(1 << 33, 0, 1 << 33))
    subject.workload.on_steps(MODEL, [replace(STEP)])
    scores = []
    for gpus in ((bad, other), (replace(LOST, uuid="GPU-0"), other), (other,), ()):
        read.gpus = GpusReading(gpus)
        made = await subject.refresh()
        assert made.score is not None
        scores.append(made.score)

    assert scores == sorted(scores, reverse=True)
    assert scores[1] < 0.2 * scores[0]
    read.gpus = GpusReading((replace(bad, temperature=40.0), other))
    assert subject.evidence is not None
    assert ((await subject.refresh()).score or 0) > scores[0]


async def test_a_failing_analysis_ends_no_others(caplog: pytest.LogCaptureFixture) -> None:
    subject = analyst()
    await subject.refresh()
    models, subject.models = subject.models, lambda: [][0]
    with pytest.raises(IndexError):
        await subject.refresh()
    subject.models = models

    assert await subject.refresh() is subject.latest
