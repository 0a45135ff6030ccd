"""Each rule with what it speaks up for, and with the same where nothing is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from exporters.readings import StoreReading
from service.control.estimate import Candidate
from service.control.evidence import Evidence
from service.control.recommending import RULES, recommend
from service.control.rule import Rule
from service.control.samples import METRICS
from service.control.scoring import score
from service.control.simulation import simulated, with_patch
from service.model_settings import ModelSettings
from tests.control.evidences import GIB, estimate, evidence, gpu, model, on_cpu, settings

MIB = 1 << 20
QUARTERS = (0.25,) * 4


def four(**changes: Any) -> Evidence:
    return evidence(gpu(0, **changes), gpu(1), gpu(2), gpu(3))


def main(**changes: Any) -> tuple[Any, ...]:
    return (model(**{"shares": QUARTERS, **changes}),)


def host(**changes: Any) -> tuple[Any, ...]:
    return (model(**{"gpu_layers": 0, "threads": 2, **changes}),)


FULL = {"free": GIB // 20}
SHORT = {"memory_available": 5 * GIB}
LARGE = Candidate("big:latest", 20 * GIB, estimate())
# Rule: when it speaks up, and when it does not, as near to the other as can be.
CASES: dict[str, tuple[Evidence, Evidence]] = {
    "threads-physical": (on_cpu(threads=32), on_cpu(threads=2)),
    "threads-more": (
        on_cpu(threads=2, cores=8, settings=settings(threads=2)),
        on_cpu(threads=8, cores=8, settings=settings(threads=8)),
    ),
    "cpu-contention": (
        on_cpu(stalled=0.4, load_per_core=3.0), on_cpu(stalled=0.4, load_per_core=1.2)
    ),
    "loop-core": (
        on_cpu(loop_lag=0.3, cores=8, threads=8), on_cpu(loop_lag=0.3, cores=8, threads=7)
    ),
    "loaded-models-down": (
        evidence(**SHORT, models=(*main(), model(name="other"))), evidence(**SHORT)
    ),
    "add-ram": (on_cpu(swap_in=5.0 * MIB), on_cpu(swap_in=0.5 * MIB)),
    "mlock-off": (
        on_cpu(swap_in=5.0 * MIB, settings=settings(mlock=True)), on_cpu(swap_in=5.0 * MIB)
    ),
    "out-of-memory": (on_cpu(out_of_memory=1.0), on_cpu()),
    "move-store": (
        evidence(stores=(StoreReading("/models", 100 * GIB, 5 * GIB),)),
        evidence(stores=(StoreReading("/models", 100 * GIB, 50 * GIB),)),
    ),
    "model-larger-than-memory": (
        on_cpu(major_faults=900.0, models=host(size_bytes=140 * GIB)),
        on_cpu(major_faults=900.0, models=host(size_bytes=14 * GIB)),
    ),
    "kv-quantise": (
        four(**{"free": GIB // 10}),
        evidence(gpu(0, free=GIB // 10), models=main(cache_types=("q8_0", "q8_0"))),
    ),
    "thermal-reduce-power": (four(temperature=84.0, power=50.0), four(temperature=84.0, power=30.0)),
    "fan-check": (four(temperature=84.0, power=20.0), four(temperature=84.0, power=50.0)),
    "thermal-shift-split": (
        four(temperature=84.0),
        evidence(gpu(0, temperature=84.0), gpu(1, temperature=79.0), gpu(2), gpu(3)),
    ),
    "gpu-throttled": (four(throttled=0.2), four(throttled=0.01)),
    "gpu-lost": (four(up=False), four()),
    "gpu-driver-missing": (
        replace(evidence(), gpus=(), gpu_failure="no driver"), on_cpu(gpu_failure="no driver")
    ),
    "engine-without-gpu": (evidence(gpu_engine=False), evidence(gpu_engine=True)),
    "pcie-reseat": (four(pcie_width=4), four(pcie_width=16)),
    "power-limit-raise": (
        four(power_capped=0.9, power_limit=40.0), four(power_capped=0.9, power_limit=53.0)
    ),
    "expected-gpus-set": (evidence(settings=settings(expected_gpus=None)), evidence()),
    "split-by-free-vram": (
        evidence(models=main(shares=(0.7, 0.1, 0.1, 0.1))), evidence(models=main())
    ),
    "offload-more-layers": (
        evidence(offloadable=0.5, cpu_layer_share=0.5, models=main(gpu_layers=16)), evidence()
    ),
    "offload-fewer-layers": (four(**FULL), four(free=GIB)),
    "ctx-right-size": (
        evidence(gpu(0, free=GIB // 2), models=main(needed=900, shares=())),
        evidence(models=main(needed=900)),
    ),
    "ctx-longer": (
        evidence(models=main(needed=8192)), evidence(models=main(needed=6000))
    ),
    "kv-whole": (
        evidence(
            settings=settings(cache_type_k="q4_0", cache_type_v="q4_0"),
            models=main(cache_types=("q4_0", "q4_0")),
        ),
        evidence(),
    ),
    "flash-attention-on": (
        evidence(
            gpu(0, free=GIB), settings=settings(flash_attention="off"),
            models=main(flash_attention=False),
        ),
        evidence(gpu(0, free=GIB)),
    ),
    "batch-down": (
        evidence(gpu(0, **FULL), settings=settings(batch_size=2048)), evidence(gpu(0, **FULL))
    ),
    "bigger-model-fits": (
        evidence(candidates=(LARGE,)),
        evidence(candidates=(replace(LARGE, estimate=estimate(gpu_layers=20)),)),
    ),
    "slots-up": (evidence(queue_share=0.5), evidence(queue_share=0.5, idle_slots=0.5)),
    "cells-up": (
        evidence(
            queue_share=0.5, idle_slots=0.5, models=main(slots=8, context=8192, preemptions=3)
        ),
        evidence(queue_share=0.5, idle_slots=0.5, models=main(slots=8, context=8192)),
    ),
    "slots-down": (
        evidence(**SHORT, models=main(peak=1)), evidence(**SHORT, models=main(peak=4))
    ),
    "queue-timeout-up": (evidence(starved=40), evidence(starved=4)),
    "batch-up": (
        evidence(prefill_share=0.8), evidence(prefill_share=0.8, models=main(needed=300))
    ),
    "prefix-cache-on": (
        evidence(reusable=0.6, settings=settings(prefix_cache=False)), evidence(reusable=0.6)
    ),
    "prefixes-up": (
        evidence(missed=0.7, reusable=0.5, kv_evictions=100.0),
        evidence(missed=0.7, reusable=0.5, kv_evictions=2.0),
    ),
    "keep-alive-up": (
        evidence(reloads=4.0, reloaded={"chat:latest": 4}), evidence(reloads=1.0)
    ),
    "loaded-models-up": (
        evidence(evictions=9.0, settings=settings(max_loaded_models=1)),
        evidence(evictions=1.0, settings=settings(max_loaded_models=1)),
    ),
    "pin-model": (
        evidence(evictions=9.0, evicted={"chat:latest": 8, "other:latest": 1}),
        evidence(evictions=9.0, evicted={f"m{n}:latest": 1 for n in range(9)}),
    ),
    "exporters-on": (
        evidence(memory_total=None, settings=settings(exporters=False)), evidence()
    ),
}  # fmt: skip
BY_ID = {rule.id: rule for rule in RULES}


def test_every_rule_has_its_case_and_a_name_of_its_own() -> None:
    assert CASES.keys() == BY_ID.keys()
    assert len(RULES) == len(BY_ID) >= 30


@pytest.mark.parametrize("id", CASES)
def test_a_rule_speaks_up_with_numbers_and_is_silent_where_nothing_is_wrong(id: str) -> None:
    rule, (wrong, right) = BY_ID[id], CASES[id]
    finding = rule.find(wrong)

    assert finding is not None
    assert any(character.isdigit() for character in finding.description + finding.action) or (
        id in ("exporters-on", "mlock-off")
    )
    assert finding.evidence
    assert rule.find(right) is None


@pytest.mark.parametrize("id", CASES)
def test_a_patch_is_valid_and_ends_what_it_is_about(id: str) -> None:
    rule, (wrong, _) = BY_ID[id], CASES[id]
    finding = rule.find(wrong)
    assert finding is not None
    if finding.patch is None:
        assert rule.needs in ("hardware", "restart") or rule.opportunity
        return

    patched = with_patch(wrong.settings, finding.patch)
    assert patched != wrong.settings
    after = simulated(wrong, finding.patch)
    assert again(rule, after) != dict(finding.patch)


def again(rule: Rule, after: Evidence) -> dict[str, Any] | None:
    """What it would advise next: nothing, or a further step of the same kind."""
    found = rule.find(after)
    if rule.id in STEPWISE or found is None:
        return None if found is None else dict(found.patch or {})
    raise AssertionError(f"{rule.id} speaks up after its own patch: {found.description}")


# What they are about is measured (heat, failures, a queue), so one step is not the last.
STEPWISE = {
    "batch-down", "batch-up", "cells-up", "offload-fewer-layers", "out-of-memory", "prefixes-up",
    "queue-timeout-up",
}  # fmt: skip


@pytest.mark.parametrize("id", CASES)
def test_advice_says_what_it_costs_and_how_to_see_it(id: str) -> None:
    wrong = CASES[id][0]
    (advice,) = [r for r in recommend(wrong, score(wrong)) if r.id == id]

    assert all((advice.title, advice.impact, advice.risk, advice.action))
    assert advice.evidence["promql"].count("(") == advice.evidence["promql"].count(")")
    assert advice.links["docs"].endswith(f"#{id}")
    assert advice.verify is None or advice.verify.metric in METRICS
    assert ("apply" in advice.links) == (advice.patch is not None)


def test_where_nothing_is_wrong_nothing_is_advised() -> None:
    for nothing in (evidence(), on_cpu()):
        assert recommend(nothing, score(nothing)) == ()


def test_threads_of_a_single_model_are_changed_where_they_are_set() -> None:
    own = settings(
        models={
            "chat": ModelSettings(threads=64, context_size=4096),
            "small": ModelSettings(threads=1),
        }
    )
    wrong = on_cpu(threads=64, settings=own)
    finding = BY_ID["threads-physical"].find(wrong)

    assert finding is not None
    assert finding.patch is not None
    assert finding.patch == {
        "models": {"chat": {"threads": 2, "context_size": 4096}, "small": {"threads": 1}}
    }
    assert BY_ID["threads-physical"].find(simulated(wrong, finding.patch)) is None


def test_a_context_of_a_models_own_is_changed_where_it_is_set() -> None:
    own = settings(models={"chat": ModelSettings(context_size=32768)})
    wrong = replace(CASES["ctx-right-size"][0], settings=own)
    finding = BY_ID["ctx-right-size"].find(wrong)

    assert finding is not None
    assert finding.patch == {"models": {"chat": {"context_size": 8192}}}
    assert BY_ID["ctx-right-size"].find(simulated(wrong, finding.patch)) is None


# Of these the patch is about the model in use alone.
OF_ONE_MODEL = {
    "thermal-shift-split", "split-by-free-vram", "offload-more-layers", "offload-fewer-layers",
    "ctx-right-size", "ctx-longer", "kv-quantise", "kv-whole", "flash-attention-on", "cells-up",
}  # fmt: skip


@pytest.mark.parametrize("id", sorted(OF_ONE_MODEL))
def test_what_is_advised_for_one_model_changes_no_other(id: str) -> None:
    wrong = replace(CASES[id][0], installed=2)
    finding = BY_ID[id].find(wrong)
    assert finding is not None
    assert finding.patch is not None
    patched = with_patch(wrong.settings, finding.patch)

    other, names = ("other:latest",), ("chat:latest",)
    assert patched.for_model(other) == wrong.settings.for_model(other)
    assert patched.for_model(names) != wrong.settings.for_model(names)
    assert finding.patch.keys() == {"models"}
    assert "chat:latest" in finding.action


def test_what_would_take_a_context_from_all_takes_it_from_one() -> None:
    only = settings(max_loaded_models=1)
    wrong = on_cpu(out_of_memory=1.0, installed=2, settings=only)
    finding = BY_ID["out-of-memory"].find(wrong)

    assert finding is not None
    assert finding.patch == {"models": {"chat:latest": {"context_size": 16384}}}
    # Another model was too large: this one has done nothing.
    elsewhere = replace(wrong, failed_loads={"big:latest": 1})
    finding = BY_ID["out-of-memory"].find(elsewhere)
    assert finding is not None
    assert finding.patch is None


def test_the_split_of_the_hot_model_is_changed_where_it_is_set() -> None:
    own = settings(models={"chat": ModelSettings(tensor_split=(0.25,) * 4)})
    hot = replace(CASES["thermal-shift-split"][0], settings=own)
    finding = BY_ID["thermal-shift-split"].find(hot)

    assert finding is not None
    assert finding.patch is not None
    assert finding.patch.keys() == {"models"}
    assert finding.patch["models"]["chat"]["tensor_split"][0] == 0.2


ABOUT_A_FULL_CARD = {
    "offload-fewer-layers": {},
    "batch-down": {"settings": settings(batch_size=2048)},
    "kv-quantise": {},
    "flash-attention-on": {"settings": settings(flash_attention="off")},
}


@pytest.mark.parametrize("id", ABOUT_A_FULL_CARD)
def test_a_card_that_others_fill_is_no_fault_of_a_model_that_is_not_on_it(id: str) -> None:
    flash = id != "flash-attention-on"
    found = {}
    for cards in ((0, 2), (1,), None):
        full = evidence(
            gpu(0), gpu(1, **FULL), gpu(2), **ABOUT_A_FULL_CARD[id],
            models=(model(cards=cards, flash_attention=flash),),
        )  # fmt: skip
        found[cards] = BY_ID[id].find(full)

    assert found[0, 2] is None
    assert found[1,] is not None
    assert found[None] is not None


@pytest.mark.parametrize("id", ["offload-fewer-layers", "batch-down"])
def test_a_model_that_does_not_fit_is_no_fault_of_the_one_in_use(id: str) -> None:
    def failed(name: str) -> Evidence:
        return evidence(
            gpu_out_of_memory=1.0, failed_loads={name: 1}, settings=settings(batch_size=2048)
        )

    assert BY_ID[id].find(failed("big:latest")) is None
    assert BY_ID[id].find(failed("chat:latest")) is not None


def test_a_context_is_not_shortened_for_a_card_that_the_model_is_not_on() -> None:
    def full(card: int) -> Evidence:
        return evidence(
            gpu(0), gpu(1, **FULL), models=(model(cards=(card,), needed=900),), queue_share=0.0
        )

    assert BY_ID["ctx-right-size"].find(full(0)) is None
    assert BY_ID["ctx-right-size"].find(full(1)) is not None


def test_more_slots_are_not_advised_to_those_who_wait_for_a_prefix() -> None:
    wrong = CASES["slots-up"][0]

    assert BY_ID["slots-up"].find(replace(wrong, prefix_waits=0.5)) is not None
    assert BY_ID["slots-up"].find(replace(wrong, prefix_waits=0.9)) is None


def test_a_driver_that_fails_is_told_apart_from_cards_that_do() -> None:
    gone = evidence(*(gpu(index, up=False) for index in range(4)))
    unread = replace(gone, gpu_failure="the driver does not answer")

    assert BY_ID["gpu-lost"].find(gone) is not None
    assert BY_ID["gpu-driver-missing"].find(gone) is None
    assert BY_ID["gpu-lost"].find(unread) is None
    assert BY_ID["gpu-driver-missing"].find(unread) is not None


@pytest.mark.parametrize("id", ["gpu-throttled", "pcie-reseat", "power-limit-raise"])
def test_a_lost_card_is_not_told_how_it_could_be_faster(id: str) -> None:
    wrong = CASES[id][0]
    first, *others = wrong.gpus

    assert BY_ID[id].find(replace(wrong, gpus=(replace(first, up=False), *others))) is None


def test_a_power_limit_that_cannot_be_lowered_is_not_advised() -> None:
    rule = BY_ID["thermal-reduce-power"]
    lower, least = (
        rule.find(four(temperature=84.0, power=50.0, power_least=watts)) for watts in (30.0, 53.0)
    )

    assert lower is not None
    assert least is not None
    assert "nvidia-smi -i 0 -pl 45" in lower.action
    assert "nvidia-smi" not in least.action
