"""Situations and the bands that their scores should be in; what must hold for any evidence."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from service.control.components import PARTS, lin
from service.control.evidence import Evidence
from service.control.scoring import score
from service.setting_values import Component
from service.settings import Settings
from tests.control.evidences import GIB, evidence, gpu, model, on_cpu, settings


def four(**changes: Any) -> Evidence:
    """One of four cards is different."""
    return evidence(gpu(0, **changes), gpu(1), gpu(2), gpu(3))


def split(*shares: float, **changes: Any) -> tuple[Any, ...]:
    return (model(shares=shares, **changes),)


# As the cards of the machine that these pages come from: 8 GB each, 28 % of it in use.
SCENARIOS = {
    "nothing is wrong": (evidence(), 99, 100),
    "32 threads on 16 cores, all layers on GPUs": (evidence(threads=32), 94, 96),
    "a GPU at 84 C": (four(temperature=84.0), 62, 66),
    "a GPU at 84 C, throttled for 15 % of the time": (four(temperature=84.0, throttled=0.15), 43, 48),
    "a GPU at 100 C": (four(temperature=100.0), 38, 42),
    "a GPU near the temperature at which it slows down": (four(temperature=74.0, slowdown=75.0), 45, 60),
    "a lost GPU": (four(up=False), 8, 12),
    "a GPU that is not seen": (evidence(gpu(0), gpu(1), gpu(2)), 8, 12),
    "everything on the first of four equal cards": (evidence(models=split(1, 0, 0, 0)), 48, 52),
    "24 and 8 GB split in halves, the small card full": (
        evidence(
            gpu(0, total=24 * GIB, free=12 * GIB), gpu(1, free=GIB // 20), expected_gpus=2,
            models=split(0.5, 0.5),
        ), 46, 52,
    ),
    "half of the layers needlessly on the CPU": (
        evidence(offloadable=0.5, cpu_layer_share=0.5), 18, 22
    ),
    "swapping 5 MiB a second with 5 % of memory left": (
        evidence(swap_in=5.0 * 2**20, memory_available=128 * GIB // 20), 50, 57
    ),
    "60 % of the time in the queue while half of the slots are idle": (
        evidence(queue_share=0.6, idle_slots=0.5), 58, 66
    ),
    "four lanes of sixteen, rows split": (
        evidence(*(gpu(i, pcie_width=4) for i in range(4)), models=split(*[0.25] * 4, split_mode="row")),
        80, 85,
    ),
    "four lanes of sixteen, the model resident": (evidence(gpu(0, pcie_width=4), gpu(1), gpu(2), gpu(3)), 90, 93),
    "much GPU memory unused": (evidence(*(gpu(i, free=8 * GIB) for i in range(4))), 99, 100),
    "no GPU, nothing wrong": (on_cpu(), 99, 100),
    "no GPU, 32 threads on 2 cores": (on_cpu(threads=32), 58, 62),
    "all models of one size, and long contexts unused": (on_cpu(models=(model(needed=10),)), 99, 100),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_score_of_a_situation_is_within_its_band(name: str) -> None:
    measured, low, high = SCENARIOS[name]
    found = score(measured).value

    assert found is not None
    assert low <= found <= high


def test_before_any_traffic_there_is_a_score_of_less_coverage() -> None:
    quiet = evidence(
        requests=0, queue_share=None, idle_slots=None, missed=None, reusable=None,
        models=(model(needed=None, shares=(0.25,) * 4),),
    )  # fmt: skip
    found = score(quiet)

    assert found.value == 100
    assert 0.6 < found.coverage < score(evidence()).coverage


def test_where_nothing_is_measured_there_is_no_score() -> None:
    found = score(Evidence(settings=Settings()))

    assert (found.value, found.coverage) == (None, 0)
    assert {group.status for group in found.groups.values()} == {"unknown", "not_applicable"}


def test_a_machine_without_gpus_is_not_judged_by_them() -> None:
    found = score(on_cpu())

    assert found.groups["gpu"].status == "not_applicable"
    assert not any(component.group == "gpu" for component in found.components)


def test_the_gain_of_a_component_is_the_score_with_it_repaired() -> None:
    bad = evidence(queue_share=0.6, idle_slots=0.5, stalled=0.3)
    repaired = value_of(replace(bad, queue_share=0.0))

    assert score(bad).gain("serving.queue") == pytest.approx(repaired - value_of(bad))


def test_what_a_component_may_cost_can_be_set() -> None:
    free = settings(optimization_losses={"serving.queue": 0.0})

    assert score(evidence(queue_share=0.7, settings=free)).value == 100


def test_a_component_that_may_cost_everything_costs_everything() -> None:
    dear = settings(optimization_losses={"serving.queue": 1.0})
    found = score(evidence(queue_share=0.7, settings=dear))

    assert (found.value, found.gain("serving.queue")) == (0, 100)


def test_the_settings_know_each_component() -> None:
    assert [part.id for part in PARTS] == list(get_args(Component))


RATIO = st.floats(0, 1)
# Of each measured value, worse is larger; of these it is smaller.
SMALLER_IS_WORSE = {"memory_available"}
MEASURED = {
    "threads": st.integers(1, 128),
    "stalled": RATIO,
    "loop_lag": st.floats(0, 5),
    "memory_available": st.integers(0, 128 * GIB),
    "swap_in": st.floats(0, 1e9),
    "major_faults": st.floats(0, 1e5),
    "out_of_memory": st.floats(0, 10),
    "gpu_out_of_memory": st.floats(0, 10),
    "offloadable": RATIO,
    "cpu_layer_share": RATIO,
    "queue_share": RATIO,
    "idle_slots": RATIO,
    "missed": RATIO,
    "evictions": st.floats(0, 200),
}
OF_CARDS = {
    "temperature": st.floats(20, 110),
    "throttled": RATIO,
    "power_capped": RATIO,
}
SMALLER_OF_CARDS = {"free": st.integers(0, 8 * GIB), "pcie_width": st.integers(1, 16)}


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    values = {name: draw(strategy) for name, strategy in MEASURED.items()}
    cards = {**OF_CARDS, **SMALLER_OF_CARDS}
    gpus = [gpu(i, **{name: draw(s) for name, s in cards.items()}) for i in range(2)]
    shares = (draw(st.floats(0.01, 1)), 1.0)
    needed = draw(st.integers(1, 8192))
    return evidence(*gpus, **values, expected_gpus=2, models=split(*shares, needed=needed))


def value_of(measured: Evidence) -> float:
    found = score(measured).value
    assert found is not None
    return found


@given(evidences(), st.data())
def test_worse_measurements_never_raise_the_score(before: Evidence, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MEASURED)))
    other = data.draw(MEASURED[name])
    pick = min if name in SMALLER_IS_WORSE else max
    worse = pick(getattr(before, name), other)

    assert value_of(replace(before, **{name: worse})) <= value_of(before) + 1e-9


@given(evidences(), st.data())
def test_a_card_that_is_worse_off_never_raises_the_score(
    before: Evidence, data: st.DataObject
) -> None:
    cards = {**OF_CARDS, **SMALLER_OF_CARDS}
    name = data.draw(st.sampled_from(sorted(cards)))
    other = data.draw(cards[name])
    pick = min if name in SMALLER_OF_CARDS else max
    worse = replace(before.gpus[0], **{name: pick(getattr(before.gpus[0], name), other)})

    after = replace(before, gpus=(worse, before.gpus[1]))
    assert value_of(after) <= value_of(before) + 1e-9


@given(evidences(), RATIO, st.booleans())
def test_losing_a_card_never_raises_the_score(
    before: Evidence, part: float, unbalanced: bool
) -> None:
    """Also where without the card no more layers would fit, and nothing is known of the balance."""
    assert before.offloadable is not None
    lost = replace(before.gpus[0], up=False)
    after = replace(before, gpus=(before.gpus[1], lost), offloadable=part * before.offloadable)
    if unbalanced:
        before = replace(before, models=split(1, 0))
        after = replace(after, models=split(1, 0))

    assert value_of(after) <= value_of(before) + 1e-9


@given(st.lists(st.sampled_from(sorted(MEASURED)), unique=True))
def test_what_is_not_measured_lowers_the_coverage_alone(missing: list[str]) -> None:
    # Of what has a second source, the second is missing too.
    gone = dict.fromkeys(missing) | ({"load_per_core": None} if "stalled" in missing else {})
    gone |= {"major_faults": None} if "swap_in" in missing else {}
    found, whole = score(replace(evidence(), **gone)), score(evidence())

    assert found.coverage <= whole.coverage + 1e-9
    assert found.value is None or found.value == pytest.approx(100)


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_health_falls_in_a_straight_line(a: float, b: float) -> None:
    better, worse = min(a, b), max(a, b)

    assert 0 <= lin(worse, -1, 1) <= lin(better, -1, 1) <= 1
    assert lin(0.5, 0, 1) == 0.5
    assert lin(0.5, 1, 0) == 0.5
