"""Which card is hot, throttled, full, slow on the bus, or broken?"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models import dashboard as sdk

from grafana import links, variables
from grafana.actions import Actions
from grafana.page import Page, Row
from grafana.panels import NO_MODEL_ON_GPU, NOT_REPORTED, Query, bars, gauge, series, stat, timeline
from grafana.queries import GPU, MACHINE, SERVICE, highest, lowest, share, total
from grafana.tables import Column, Labels, table
from grafana.thresholds import (
    BAD,
    GOOD,
    GPU_CELSIUS,
    HEADROOM_CELSIUS,
    MEMORY_RATIO,
    NONE_WANTED,
    ONE_WANTED,
    QUIET,
    WARNING,
    words,
)

KEYS: Final = {"gpu": "GPU", "instance": "Machine"}
BY_GPU: Final = "instance, gpu"
LEGEND: Final = "GPU {{gpu}} {{instance}}"
ENFORCED: Final = 'kind="enforced"'
# At rest a card is clocked down, which is no fault.
FAULT: Final = 'reason!="gpu_idle"'


def of(family: str, more: str = "") -> str:
    return highest(GPU(family, more), BY_GPU)


def page(actions: Actions) -> Page:
    return Page(
        uid=links.PAGES["gpu"],
        title="LLM / GPU",
        description="Heat, throttling, power, memory, clocks, bus and errors of each card.",
        variables=[variables.gpu_instance(), variables.gpu()],
        rows=[
            Row("Fleet", [fleet()]),
            Row("GPU $gpu", card(), repeat="gpu"),
            Row("Thermals", thermals()),
            Row("Power", power()),
            Row("Memory", memory()),
            Row("Compute and clocks", clocks(), collapsed=True),
            Row("PCIe", pcie(), collapsed=True),
            Row("Reliability", reliability(), collapsed=True),
            Row("Hardware", [hardware()], collapsed=True),
        ],
    )


def fleet() -> sdk.Panel:
    slowdown = of("llm_gpu_temperature_threshold_celsius", 'threshold="slowdown"')
    return table(
        "Cards",
        "One line for each GPU. Good: answering, 10 °C below its slowdown, nothing throttled.",
        KEYS,
        [
            Labels(highest(GPU("llm_gpu_info"), "instance, gpu, name"), {"name": "Card"}),
            Column("Up", of("llm_gpu_up"), steps=ONE_WANTED, mapping=words({1: ("up", GOOD), 0: ("lost", BAD)})),
            Column("Temperature", of("llm_gpu_temperature_celsius"), "celsius", GPU_CELSIUS, high=100),
            Column(
                "To slowdown", f"{slowdown} - on (instance, gpu) {of('llm_gpu_temperature_celsius')}",
                "celsius", HEADROOM_CELSIUS,
            ),
            Column("Power of limit", share(of("llm_gpu_power_watts"), of("llm_gpu_power_limit_watts", ENFORCED)), "percentunit", high=1),
            Column("Busy", of("llm_gpu_utilization_ratio", 'engine="gpu"'), "percentunit", high=1),
            Column("Memory", share(of("llm_gpu_memory_used_bytes"), of("llm_gpu_memory_total_bytes")), "percentunit", MEMORY_RATIO, high=1),
            Column("Clock of highest", share(of("llm_gpu_clock_hertz", 'clock="sm"'), of("llm_gpu_clock_max_hertz", 'clock="sm"')), "percentunit"),
            Column("PCIe generation", of("llm_gpu_pcie_link_generation")),
            Column("PCIe lanes", of("llm_gpu_pcie_link_width")),
            Column("Reasons throttled", total(GPU("llm_gpu_throttle_active", FAULT), BY_GPU), steps=NONE_WANTED),
        ],
        key_links={"GPU": [links.of_row("gpu", "gpu", "GPU")]},
        sort_by="GPU", descending=False, no_value=NOT_REPORTED, h=8,
    )  # fmt: skip


def card() -> list[sdk.Panel]:
    """For one GPU, of which the row has the number."""
    return [
        gauge(
            "Temperature",
            "Good is below 80 °C.",
            Query(of("llm_gpu_temperature_celsius"), "{{instance}}"),
            unit="celsius", low=0, high=100, steps=GPU_CELSIUS, no_value=NOT_REPORTED,
        ),
        bars(
            "Busy, and of its memory and power limit",
            "Good: busy under load, memory below 90 %; power at its limit means that more would help.",
            Query(of("llm_gpu_utilization_ratio", 'engine="gpu"'), "busy"),
            Query(share(of("llm_gpu_memory_used_bytes"), of("llm_gpu_memory_total_bytes")), "memory"),
            Query(share(of("llm_gpu_power_watts"), of("llm_gpu_power_limit_watts", ENFORCED)), "power"),
            unit="percentunit", low=0, high=1, steps=MEMORY_RATIO, no_value=NOT_REPORTED, w=8, h=5,
        ),
        stat(
            "Clocks",
            "Core and memory. Good under load is near the highest.",
            Query(of("llm_gpu_clock_hertz", 'clock="sm"'), "core"),
            Query(of("llm_gpu_clock_hertz", 'clock="memory"'), "memory"),
            unit="hertz", no_value=NOT_REPORTED, w=6, h=5,
        ),
        stat(
            "PCIe lanes",
            "In use at this moment. Good is as many as the slot has.",
            Query(of("llm_gpu_pcie_link_width"), "lanes"),
            no_value=NOT_REPORTED, w=3, h=5,
        ),
        stat(
            "Fan",
            "Intended speed. Cards without a fan are cooled by the case's.",
            Query(of("llm_gpu_fan_speed_ratio"), "fan"),
            unit="percentunit", no_value="Passive", w=3, h=5,
        ),
    ]  # fmt: skip


def thermals() -> list[sdk.Panel]:
    return [
        series(
            "Temperature",
            "Good is below the dashed 80 °C; at 85 °C slowing down is near.",
            Query(of("llm_gpu_temperature_celsius"), LEGEND),
            Query(of("llm_gpu_memory_temperature_celsius"), LEGEND + " memory"),
            unit="celsius", steps=GPU_CELSIUS, limits=True, no_value=NOT_REPORTED, w=12,
        ),
        timeline(
            "Throttled",
            "Reasons for which clocks are held down. Good is green; `sw_power_cap` is the power limit.",
            Query(highest(GPU("llm_gpu_throttle_active", FAULT), "gpu, reason"), "GPU {{gpu}} {{reason}}"),
            steps=((None, GOOD), (1, BAD)),
            mapping=words({0: ("no", GOOD), 1: ("throttled", BAD)}), no_value=NOT_REPORTED, w=12,
        ),
        series(
            "Time throttled",
            "Part of the time, for each reason that there was in the time shown. Good is none.",
            Query(GPU.occurred("llm_gpu_throttle_seconds_total", "gpu, reason", FAULT), "GPU {{gpu}} {{reason}}"),
            unit="percentunit", low=0, no_value="None", w=24,
        ),
    ]  # fmt: skip


def power() -> list[sdk.Panel]:
    energy = GPU.rate("llm_gpu_energy_joules_total", over="15m")
    tokens = SERVICE.rate("llm_generated_tokens_total", over="15m")
    return [
        series(
            "Power",
            "What the cards draw, beside the limits in force.",
            Query(of("llm_gpu_power_watts"), LEGEND),
            Query(of("llm_gpu_power_limit_watts", ENFORCED), LEGEND + " limit"),
            unit="watt", no_value=NOT_REPORTED, w=12,
        ),
        stat(
            "Energy of 24 hours",
            "Of all cards that are chosen.",
            Query(f"{total(GPU.increase('llm_gpu_energy_joules_total', over='24h'))} / 3.6e6", "energy"),
            unit="kwatth", no_value=NOT_REPORTED, w=4, h=8,
        ),
        stat(
            "Energy of a token",
            "Of 15 minutes: all that the cards used, for each output token. Less is better.",
            Query(share(total(energy), total(tokens)), "joules"),
            unit="joule", no_value=NOT_REPORTED, w=4, h=8,
        ),
        stat(
            "Output for each watt",
            "Tokens a second for each watt that the cards draw. More is better.",
            Query(share(total(SERVICE.rate("llm_generated_tokens_total")), total(GPU("llm_gpu_power_watts"))), "output"),
            unit="suffix: tok/s", no_value=NOT_REPORTED, w=4, h=8,
        ),
    ]  # fmt: skip


def memory() -> list[sdk.Panel]:
    used = SERVICE("llm_model_memory_bytes", 'device=~"gpu.+"')
    usage = share(of("llm_gpu_memory_used_bytes"), of("llm_gpu_memory_total_bytes"))
    return [
        series(
            "Memory",
            "Of all cards: used, kept by the driver, free. Good: free never reaches nothing.",
            *[
                Query(total(GPU(f"llm_gpu_memory_{part}_bytes"), "gpu"), f"GPU {{{{gpu}}}} {part}")
                for part in ("used", "reserved", "free")
            ],
            stacked=True, unit="bytes", no_value=NOT_REPORTED,
        ),
        series(
            "Memory by owner",
            "This service's engines, and other processes. In a container all are others.",
            Query(total(GPU("llm_gpu_process_memory_bytes"), "gpu, owner"), "GPU {{gpu}} {{owner}}"),
            stacked=True, unit="bytes", no_value=NOT_REPORTED,
        ),
        series(
            "What llama.cpp took",
            "By device and what it is for, as llama.cpp says.",
            Query(total(SERVICE("llm_model_buffer_bytes"), "device, kind"), "{{device}} {{kind}}"),
            stacked=True, unit="bytes", no_value="No model is loaded",
        ),
        bars(
            "Split: configured, and in use",
            "Shares of the cards. Configured is empty where the service splits by free memory.",
            Query(highest(SERVICE("llm_config_tensor_split_ratio"), "gpu"), "GPU {{gpu}} configured"),
            Query(f"{total(used, 'device')} / on () group_left () ({total(used)} > 0)", "{{device}} in use"),
            unit="percentunit", low=0, high=1, no_value=NO_MODEL_ON_GPU, w=12,
        ),
        series(
            "Imbalance",
            "Fullest card less the emptiest. Good for a split model is below 10 %.",
            Query(f"{highest(usage)} - {lowest(usage)}", "spread"),
            unit="percentunit", low=0, no_value=NOT_REPORTED, w=12,
        ),
    ]  # fmt: skip


def clocks() -> list[sdk.Panel]:
    return [
        series(
            "Utilisation",
            "Time in which a kernel ran, memory was used, video was coded.",
            Query(highest(GPU("llm_gpu_utilization_ratio"), "gpu, engine"), "GPU {{gpu}} {{engine}}"),
            unit="percentunit", low=0, high=1, no_value=NOT_REPORTED,
        ),
        series(
            "Core clock of its highest",
            "Good under load is near 100 %.",
            Query(share(of("llm_gpu_clock_hertz", 'clock="sm"'), of("llm_gpu_clock_max_hertz", 'clock="sm"')), LEGEND),
            unit="percentunit", low=0, no_value=NOT_REPORTED,
        ),
        timeline(
            "Performance state",
            "0 is the fastest. Good under load is 0 or 2; at rest it sleeps at 8 or more.",
            Query(highest(GPU("llm_gpu_pstate"), "gpu"), "GPU {{gpu}}"),
            steps=((None, GOOD), (3, WARNING), (8, QUIET)), no_value=NOT_REPORTED,
        ),
    ]  # fmt: skip


def pcie() -> list[sdk.Panel]:
    return [
        series(
            "Lanes and generation",
            "Now, and the most that card and slot have. The generation falls at rest, which is no fault.",
            *[
                Query(of(f"llm_gpu_pcie_link_{part}"), LEGEND + f" {name}")
                for part, name in (
                    ("width", "lanes"), ("width_max", "most lanes"),
                    ("generation", "generation"), ("generation_max", "highest generation"),
                )
            ],
            no_value=NOT_REPORTED,
        ),
        series(
            "Throughput",
            "Asked for by `python -m exporters --pcie-throughput` only, as it takes 20 ms a card.",
            Query(GPU("llm_gpu_pcie_throughput_bytes"), "GPU {{gpu}} {{direction}}"),
            unit="Bps", no_value="Not asked for",
        ),
        series(
            "Replays",
            "Packets sent again. Good is none: a bad contact, or a riser that is too long.",
            Query(total(GPU.rate("llm_gpu_pcie_replays_total"), BY_GPU), LEGEND),
            unit="cps", no_value=NOT_REPORTED,
        ),
    ]  # fmt: skip


def reliability() -> list[sdk.Panel]:
    xids = GPU("llm_gpu_xid_errors_total")
    return [
        table(
            "Xid errors",
            "What the driver reported since the exporter began, and in the time shown. Good is none.",
            {"gpu": "GPU", "xid": "Xid"},
            [
                Column("Since the start", f"{total(xids, 'gpu, xid')} > 0", steps=NONE_WANTED),
                Column("In the time shown", total(GPU.increase("llm_gpu_xid_errors_total", over="$__range"), "gpu, xid") + " > 0", decimals=0),
            ],
            no_value="None", w=8, h=8,
        ),
        series(
            "Memory errors",
            "Corrected ones are told of; one that was not corrected calls for another card.",
            Query(total(GPU("llm_gpu_ecc_errors_total"), "gpu, type, scope"), "GPU {{gpu}} {{type}} {{scope}}"),
            no_value="No ECC memory",
        ),
        series(
            "Memory taken out of use",
            "Rows and pages replaced, by cause, and whether some wait for a reset or failed.",
            Query(total(GPU("llm_gpu_remapped_rows_total"), "gpu, cause"), "GPU {{gpu}} rows {{cause}}"),
            Query(total(GPU("llm_gpu_retired_pages_total"), "gpu, cause"), "GPU {{gpu}} pages {{cause}}"),
            *[
                Query(total(GPU(f"llm_gpu_{state}"), "gpu"), f"GPU {{{{gpu}}}} {state}")
                for state in ("row_remap_pending", "row_remap_failed", "page_retirement_pending")
            ],
            no_value="No ECC memory",
        ),
        series(
            "Cards that are there",
            "Expected is what `expected_gpus` says, or were seen. Good: both are the same.",
            Query(total(GPU("llm_gpu_up")), "answering"),
            Query(total(MACHINE("llm_gpu_expected")), "expected"),
            no_value=NOT_REPORTED,
        ),
        series(
            "Errors of the driver",
            "Calls that failed, by function. A card refuses what it does not have once.",
            Query(total(MACHINE.rate("llm_exporter_nvml_errors_total"), "function, code"), "{{function}} {{code}}"),
            unit="cps", no_value="None",
        ),
    ]  # fmt: skip


def hardware() -> sdk.Panel:
    titles = {
        "name": "Card", "uuid": "UUID", "pci_bus": "Bus", "driver": "Driver", "cuda": "CUDA",
        "compute_capability": "Compute capability",
    }  # fmt: skip
    return table(
        "Cards",
        "What they are.",
        KEYS,
        [
            Labels(highest(GPU("llm_gpu_info"), ", ".join([BY_GPU, *titles])), titles),
            Column("Memory", of("llm_gpu_memory_total_bytes"), "bytes"),
            Column("Divided (MIG)", of("llm_gpu_mig_mode"), "bool_yes_no"),
        ],
        sort_by="GPU", descending=False, no_value=NOT_REPORTED, h=7,
    )  # fmt: skip
