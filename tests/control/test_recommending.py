from __future__ import annotations

from typing import Any

from service.control.advice import Learned, Recommendation
from service.control.estimate import Estimate
from service.control.evidence import Evidence
from service.control.recommending import estimated_improvement, recommend
from service.control.scoring import score
from service.settings import Settings
from tests.control.evidences import estimate, evidence, gpu, model, on_cpu


def advised(measured: Evidence, **how: Any) -> list[Recommendation]:
    return list(recommend(measured, score(measured), **how))


def test_too_many_threads_on_a_small_machine_are_the_first_thing_to_change() -> None:
    first, *_ = advised(on_cpu(threads=32, queue_share=0.2))

    assert (first.id, first.priority, first.difficulty) == ("threads-physical", "high", "easy")
    assert first.patch == {"threads": 2}
    assert first.needs == "nothing"
    assert first.gain_points is not None
    assert first.gain_points > 30
    assert "32 threads on 2 usable" in first.description


def test_an_emergency_is_of_high_priority_whatever_it_gains() -> None:
    (hot,) = advised(evidence(gpu(0, temperature=80.0, power=50.0), *(gpu(i) for i in (1, 2, 3)),
                              automatic=None, models=(model(),)))  # fmt: skip

    assert (hot.id, hot.priority, hot.difficulty) == ("thermal-reduce-power", "high", "difficult")


def test_an_opportunity_gains_no_points() -> None:
    (longer,) = advised(evidence(models=(model(needed=8192, shares=(0.25,) * 4),)))

    assert (longer.id, longer.priority, longer.gain_points) == ("ctx-longer", "low", 0)


def test_what_does_not_fit_is_not_advised() -> None:
    asked: list[Settings] = []

    def full(settings: Settings) -> Estimate:
        asked.append(settings)
        return estimate(refused="GPU 0 would need 9 GiB, and has 8 GiB")

    measured = evidence(queue_share=0.5)

    assert [r.id for r in advised(measured)] == ["slots-up"]
    assert advised(measured, estimator=full) == []
    assert [settings.parallel_slots for settings in asked] == [8]


def test_what_is_dismissed_is_left_out() -> None:
    assert advised(on_cpu(threads=32), dismissed={"threads-physical"}) == []


def test_what_a_rule_did_here_is_said_in_place_of_a_guess() -> None:
    learned = Learned("llm_time_per_output_token_seconds", 0.75, 3)
    (unknown,) = advised(on_cpu(threads=32))
    (known,) = advised(on_cpu(threads=32), learned=lambda rule: learned)

    assert estimated_improvement(unknown) == (
        "not measured on this machine; up to 40.0 points of the score"
    )
    assert estimated_improvement(known).startswith("measured here: -25 % (3 applications)")


def test_without_a_score_no_points_are_promised() -> None:
    measured = Evidence(settings=Settings(), threads=8, cores=2)
    (advice,) = advised(measured)

    assert score(measured).value is None
    assert (advice.gain_points, advice.priority) == (None, "low")
    assert estimated_improvement(advice) == "not measured on this machine"
