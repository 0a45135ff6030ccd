from __future__ import annotations

import random
from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from service.control.effects import MOST_REQUESTS
from service.control.records import Change, Judged
from service.control.samples import LoadClass, Sample
from service.control.windows import SECONDS, WARM_UP, Window, judged
from service.events import FinishReason

METRIC = "llm_time_per_output_token_seconds"
CHANGE = Change(
    at=1000.0,
    id="1",
    by="local",
    why="configure",
    version=2,
    previous=1,
    config_hash="h",
    changed={"threads": (16, 2)},
    metric=METRIC,
    direction="down",
)
LOAD = LoadClass("demo:latest", "chat", True, 3, 1)


def samples(count: int, version: int, gap: float, load: LoadClass = LOAD) -> list[Sample]:
    draw = random.Random(f"{version} {gap}")
    return [
        Sample(
            load,
            version,
            float(n),
            float(n) + 1,
            FinishReason.STOP,
            per_token=gap * draw.lognormvariate(0, 0.1),
        )
        for n in range(count)
    ]


def test_the_first_requests_of_each_model_warm_it_up() -> None:
    window = Window(CHANGE, ())
    other = LOAD._replace(model="other:latest")
    for sample in [*samples(WARM_UP + 3, 2, 0.02), *samples(WARM_UP, 2, 0.02, other)]:
        window.take(sample)

    assert len(window.evidence()[1]) == 3


def test_it_is_looked_at_whenever_it_has_half_as_many_requests_more() -> None:
    window = Window(CHANGE, ())
    looks = [n for n, s in enumerate(samples(WARM_UP + 100, 2, 0.02)) if window.take(s)]

    assert [n + 1 - WARM_UP for n in looks] == [20, 30, 45, 67, 100]


def test_it_takes_no_more_than_enough_and_lasts_no_longer_than_a_day() -> None:
    window = Window(CHANGE, samples(5000, 1, 0.02))
    for sample in samples(WARM_UP + MOST_REQUESTS + 50, 2, 0.02):
        window.take(sample)

    before, after = window.evidence()
    assert (len(before), len(after)) == (2 * MOST_REQUESTS, MOST_REQUESTS)
    assert window.over(CHANGE.at)
    empty = Window(CHANGE, ())
    assert not empty.over(CHANGE.at + SECONDS - 1)
    assert empty.over(CHANGE.at + SECONDS)


def test_what_runs_under_another_version_is_not_its_own() -> None:
    window = Window(CHANGE, ())
    for sample in samples(50, 3, 0.02):
        window.take(sample)

    assert window.evidence() == ([], [])


def judge(
    before: list[Sample],
    after: list[Sample],
    change: Change = CHANGE,
    incidents: Mapping[str, float] = MappingProxyType({}),
) -> Judged:
    evidence = before, after
    return judged(change, evidence, at=1.0, hardware="A CPU", incidents=incidents, final=True)


def test_beyond_a_tenth_of_loss_it_is_recommended_to_go_back() -> None:
    before = samples(60, 1, 0.02)

    slower, little = judge(before, samples(60, 2, 0.03)), judge(before, samples(60, 2, 0.0215))

    assert (slower.verdict, slower.recommends_rollback) == ("regressed", True)
    assert not little.recommends_rollback
    assert judge(before, before, incidents={"oom_kills": 1.0}).recommends_rollback


def test_a_metric_that_no_single_request_has_is_said() -> None:
    change = replace(CHANGE, metric="llm_model_unloads_total")

    verdict = judge(samples(60, 1, 0.02), samples(60, 2, 0.02), change)

    assert verdict.verdict == "insufficient_data"
    assert verdict.reason == "llm_model_unloads_total is not measured of single requests."
    assert METRIC in verdict.effects


def test_requests_that_failed_are_counted_and_have_no_part_in_the_rest() -> None:
    failed = [
        replace(sample, outcome=FinishReason.ERROR, per_token=None)
        for sample in samples(7, 2, 0.02)
    ]

    verdict = judge(samples(30, 1, 0.02), [*samples(30, 2, 0.02), *failed])

    assert verdict.failed == (0, 7)
    assert verdict.effects[METRIC].after == 30
