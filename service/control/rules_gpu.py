"""Advice on GPUs as devices: heat, power, links, and whether they are there at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from exporters.readings import WARNING_CELSIUS
from service.control.components import lost
from service.control.evidence import Evidence, GpuEvidence
from service.control.rule import FASTER, WHOLE, Finding, Rule, above, for_main, percent, setting

COOL: Final = 65.0


def named(gpu: GpuEvidence) -> str:
    return f"GPU {gpu.index} ({gpu.name})"


def there(evidence: Evidence) -> list[GpuEvidence]:
    """Those that are not lost."""
    return [gpu for gpu in evidence.gpus if gpu.up]


def hottest(evidence: Evidence, where: Callable[[GpuEvidence], bool]) -> GpuEvidence | None:
    hot = [
        gpu
        for gpu in there(evidence)
        if gpu.temperature is not None and gpu.temperature >= WARNING_CELSIUS and where(gpu)
    ]
    return max(hot, key=lambda gpu: gpu.temperature or 0.0, default=None)


def power_share(gpu: GpuEvidence) -> float | None:
    return gpu.power / gpu.power_limit if gpu.power is not None and gpu.power_limit else None


def reduce_power(evidence: Evidence) -> Finding | None:
    gpu = hottest(evidence, lambda gpu: above(power_share(gpu), 0.8))
    if gpu is None or gpu.power_limit is None:
        return None
    watts = max(0.85 * gpu.power_limit, gpu.power_least or 0.0)
    action = (
        f"As root: nvidia-smi -i {gpu.index} -pl {watts:.0f}. Better air does the same for nothing."
    )
    if watts >= gpu.power_limit:
        action = "Give it better air, or less of the model: its power limit cannot be lowered."
    return Finding(
        f"{named(gpu)} is at {gpu.temperature:.0f} C, with {gpu.power:.0f} W of the {gpu.power_limit:.0f} W "
        "that it may take.",
        action,
        {"gpu": gpu.index, "temperature": gpu.temperature, "power": gpu.power,
         "power_limit": gpu.power_limit},
    )  # fmt: skip


def check_fan(evidence: Evidence) -> Finding | None:
    gpu = hottest(evidence, lambda gpu: (power_share(gpu) or 1.0) < 0.6)
    if gpu is None:
        return None
    fan = f" Its fan runs at {percent(gpu.fan)}." if gpu.fan is not None else ""
    return Finding(
        f"{named(gpu)} is at {gpu.temperature:.0f} C although it takes only {gpu.power:.0f} W of "
        f"{gpu.power_limit:.0f} W.{fan}",
        "Look after its fan, dust, and the way of the air through the case.",
        {"gpu": gpu.index, "temperature": gpu.temperature, "power": gpu.power, "fan": gpu.fan},
    )


def throttled(evidence: Evidence) -> Finding | None:
    slow = [gpu for gpu in there(evidence) if above(gpu.throttled, 0.05)]
    gpu = max(slow, key=lambda gpu: gpu.throttled or 0.0, default=None)
    if gpu is None:
        return None
    return Finding(
        f"{named(gpu)} had its clocks down for {percent(gpu.throttled or 0.0)} of the time, for heat "
        "or by its hardware.",
        "Cool it better, lower its power limit, or give it less of the model.",
        {"gpu": gpu.index, "throttled": gpu.throttled, "temperature": gpu.temperature},
    )


def shift_split(evidence: Evidence) -> Finding | None:
    main, fair = evidence.main, evidence.capacities
    gpus = evidence.gpus
    if main is None or fair is None or len(main.shares) != len(gpus) or len(gpus) < 2:
        return None
    if main.split_mode == "none" or not sum(main.shares) > 0:
        return None
    hot = hottest(evidence, lambda gpu: True)
    if hot is None or any(not gpu.up or gpu.temperature is None for gpu in gpus):
        return None
    others = [i for i, gpu in enumerate(gpus) if gpu is not hot]
    if any((gpus[i].temperature or 0.0) > COOL for i in others):
        return None
    whole = sum(main.shares)
    split = [share / whole for share in main.shares]
    at = gpus.index(hot)
    if split[at] < max(fair[at] - 0.025, 0.1):
        return None
    split[at] -= 0.05
    for i in others:
        split[i] += 0.05 / len(others)
    rounded = [round(share, 4) for share in split]
    return Finding(
        f"{named(hot)} is at {hot.temperature:.0f} C with {percent(main.shares[at] / whole)} of "
        f"{main.name}, while no other card is above {COOL:.0f} C.",
        f"Move 5 points of the split to the others: set {setting(evidence, 'tensor_split')} to "
        f"{', '.join(f'{s:.3f}' for s in split)}.",
        {"gpu": hot.index, "temperature": hot.temperature, "tensor_split": list(main.shares)},
        for_main(evidence, tensor_split=rounded),
    )


def missing(evidence: Evidence) -> Finding | None:
    count = lost(evidence)
    if not evidence.gpus or not count or all_gone(evidence):
        return None
    bad = [
        f"{named(gpu)}: {'; '.join(gpu.faults) or 'does not answer'}"
        for gpu in evidence.gpus
        if not gpu.up or gpu.faults
    ]
    gone = (evidence.expected_gpus or 0) - len(evidence.gpus)
    if gone > 0:
        bad.append(f"{gone} of the expected {evidence.expected_gpus} are not seen")
    return Finding(
        "; ".join(bad) + ".",
        "See the kernel's log for Xid messages; reset the card or restart the machine, and replace "
        "a card that fails again.",
        {"expected": evidence.expected_gpus, "faults": bad},
    )


def all_gone(evidence: Evidence) -> bool:
    """Whether it is the driver that does not tell of any card."""
    return not there(evidence) and (not evidence.gpus or evidence.gpu_failure is not None)


def no_driver(evidence: Evidence) -> Finding | None:
    if not evidence.expected_gpus or not all_gone(evidence):
        return None
    why = evidence.gpu_failure or "none was found"
    return Finding(
        f"{evidence.expected_gpus} GPUs are expected and none can be read: {why}.",
        "Install NVIDIA's driver; in a container, start it with the GPUs.",
        {"expected": evidence.expected_gpus, "failure": evidence.gpu_failure},
    )


def engine_without(evidence: Evidence) -> Finding | None:
    up = there(evidence)
    if not up or evidence.gpu_engine is not False:
        return None
    return Finding(
        f"{len(up)} GPUs are there, {named(up[0])} among them, and llama.cpp was built without any "
        "backend for them: everything is computed by the CPU.",
        "Install a build of llama-cpp-python for them (CMAKE_ARGS=-DGGML_CUDA=on).",
        {"gpus": len(up), "gpu_backend": False},
    )


def reseat(evidence: Evidence) -> Finding | None:
    narrow = [
        gpu
        for gpu in there(evidence)
        if gpu.pcie_width and gpu.pcie_width_max and gpu.pcie_width < gpu.pcie_width_max
    ]
    gpu = min(narrow, key=lambda g: (g.pcie_width or 0) / (g.pcie_width_max or 1), default=None)
    if gpu is None:
        return None
    return Finding(
        f"{named(gpu)} has {gpu.pcie_width} of its {gpu.pcie_width_max} PCIe lanes.",
        "Reseat it, or see which slot of the board has all lanes.",
        {"gpu": gpu.index, "width": gpu.pcie_width, "width_max": gpu.pcie_width_max},
    )


def raise_limit(evidence: Evidence) -> Finding | None:
    capped = [
        gpu
        for gpu in there(evidence)
        if above(gpu.power_capped, 0.5)
        and gpu.power_limit is not None
        and gpu.power_default is not None
        and gpu.power_limit < gpu.power_default - 1
        and (gpu.temperature or 0.0) < WARNING_CELSIUS - 5
    ]
    gpu = max(capped, key=lambda gpu: gpu.power_capped or 0.0, default=None)
    if gpu is None:
        return None
    return Finding(
        f"{named(gpu)} was held back by its power limit for {percent(gpu.power_capped or 0.0)} of the "
        f"time; that is {gpu.power_limit:.0f} W, and {gpu.power_default:.0f} W as it was made.",
        f"As root: nvidia-smi -i {gpu.index} -pl {gpu.power_default:.0f}.",
        {"gpu": gpu.index, "power_capped": gpu.power_capped, "power_limit": gpu.power_limit,
         "power_default": gpu.power_default},
    )  # fmt: skip


def expect(evidence: Evidence) -> Finding | None:
    up = len(there(evidence))
    if not up or evidence.settings.expected_gpus is not None:
        return None
    return Finding(
        f"{up} GPUs are there. One that is missing after a restart would not be missed.",
        f"Set expected_gpus to {up}.",
        {"gpus": up},
        {"expected_gpus": up},
    )


TEMPERATURE: Final = "max by (gpu) (quantile_over_time(0.95, llm_gpu_temperature_celsius[10m]))"
RULES: Final = (
    Rule("thermal-reduce-power", "stability", "gpu.thermal", "A GPU is hot at full power",
         "It stays below the temperature at which it slows itself down.",
         "A little slower at full load.", TEMPERATURE, reduce_power, needs="hardware", safety=True),
    Rule("fan-check", "stability", "gpu.thermal", "A GPU is hot at little power",
         "It stays below the temperature at which it slows itself down.", "None.",
         TEMPERATURE, check_fan, needs="hardware", safety=True),
    Rule("thermal-shift-split", "performance", "gpu.thermal", "One GPU is hot, the others are cool",
         "Less heat on the card that has most.", "The others may get fuller.",
         TEMPERATURE, shift_split, verify=FASTER),
    Rule("gpu-throttled", "performance", "gpu.throttle", "A GPU slows itself down",
         "Its own clocks again.", "None.",
         'sum by (gpu) (rate(llm_gpu_throttle_seconds_total{reason=~"sw_thermal|hw_.*"}[15m]))',
         throttled, needs="hardware", verify=FASTER, safety=True),
    Rule("gpu-lost", "stability", "gpu.lost", "A GPU is missing or faulty",
         "What was on it is served from a GPU again.", "A restart ends what runs.",
         "llm_gpu_up", missing, needs="hardware", safety=True),
    Rule("gpu-driver-missing", "stability", "gpu.lost", "Expected GPUs cannot be read",
         "Models are computed by GPUs.", "None.", "llm_gpu_expected", no_driver,
         needs="hardware", safety=True),
    Rule("engine-without-gpu", "performance", "gpu.offload", "llama.cpp cannot use the GPUs",
         "Layers are computed by GPUs.", "A new build has to be tried.",
         "llm_model_gpu_layers / llm_model_layers", engine_without, needs="restart", verify=FASTER),
    Rule("pcie-reseat", "performance", "gpu.pcie", "A GPU has fewer lanes than it could",
         "Faster loads; faster rows and layers on the CPU.", "The machine is off meanwhile.",
         "llm_gpu_pcie_link_width / llm_gpu_pcie_link_width_max", reseat, needs="hardware"),
    Rule("power-limit-raise", "performance", "gpu.power_cap", "A power limit below the card's own",
         "Higher clocks at full load.", "More heat, and more noise.",
         'rate(llm_gpu_throttle_seconds_total{reason="sw_power_cap"}[15m])', raise_limit,
         needs="hardware", verify=WHOLE),
    Rule("expected-gpus-set", "stability", None, "Nobody knows how many GPUs there should be",
         "A card that is lost is told of.", "None.", "llm_gpu_expected", expect, opportunity=True),
)  # fmt: skip
