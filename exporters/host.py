"""The machine: processors, memory, swap, pressure, network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.metrics_core import Metric

from exporters.collector import Family, SampledCollector, Samples, each, one, pairs
from exporters.machine import Machine
from exporters.readings import HostReading
from exporters.sampler import INTERVAL_SECONDS, Sampler

Host = Family[HostReading]


def load(number: int) -> Callable[[HostReading], Samples]:
    return one(lambda host: None if host.load is None else host.load[number])


FAMILIES: Final = (
    Host(
        "llm_host_cpu_seconds_total",
        "Processor time of all processors, by what it was spent on.",
        ("mode",),
        each(lambda host: host.cpu_seconds),
    ),
    Host(
        "llm_host_cpu_usage_ratio",
        "The same, of the time between the last two readings.",
        ("mode",),
        each(lambda host: host.cpu_usage),
    ),
    Host("llm_host_load1", "Tasks that ran or waited, over 1 minute.", (), load(0)),
    Host("llm_host_load5", "Tasks that ran or waited, over 5 minutes.", (), load(1)),
    Host("llm_host_load15", "Tasks that ran or waited, over 15 minutes.", (), load(2)),
    Host(
        "llm_host_cpus",
        "Processors that there are, and processors' worth of time that the control group may use.",
        ("kind",),
        each(lambda host: host.cpus),
    ),
    Host(
        "llm_host_cpu_frequency_hertz",
        "Clock frequency of the processors, on average, and the highest.",
        ("kind",),
        each(lambda host: host.cpu_hertz),
    ),
    Host(
        "llm_host_memory_total_bytes",
        "Memory of the machine.",
        (),
        one(lambda host: host.memory_total),
    ),
    Host(
        "llm_host_memory_available_bytes",
        "Memory that programs can have without swapping, as the kernel estimates it.",
        (),
        one(lambda host: host.memory_available),
    ),
    Host(
        "llm_host_cgroup_memory_limit_bytes",
        "Memory that the control group may use, where there is a limit.",
        (),
        one(lambda host: host.memory_limit),
    ),
    Host(
        "llm_host_cgroup_memory_used_bytes",
        "Memory that the control group uses, pages of files included.",
        (),
        one(lambda host: host.memory_limit_used),
    ),
    Host(
        "llm_host_swap_total_bytes",
        "Swap space.",
        (),
        one(lambda host: host.swap_total),
    ),
    Host(
        "llm_host_swap_used_bytes",
        "Swap space in use.",
        (),
        one(lambda host: host.swap_used),
    ),
    Host(
        "llm_host_swap_in_bytes_total",
        "Bytes read back from swap space.",
        (),
        one(lambda host: host.swap_in),
    ),
    Host(
        "llm_host_swap_out_bytes_total",
        "Bytes written to swap space.",
        (),
        one(lambda host: host.swap_out),
    ),
    Host(
        "llm_host_major_page_faults_total",
        "Times that a page had to be read from disk, as those of a mapped model that was dropped.",
        (),
        one(lambda host: host.major_faults),
    ),
    Host(
        "llm_host_oom_kills_total",
        "Processes killed for want of memory: of the machine, and of the control group.",
        ("scope",),
        each(lambda host: host.oom_kills),
    ),
    Host(
        "llm_host_pressure_ratio",
        "Part of the last 10 seconds in which some, or all, tasks waited for the resource.",
        ("resource", "kind"),
        pairs(lambda host: host.pressure),
    ),
    Host(
        "llm_host_pressure_seconds_total",
        "Time in which some, or all, tasks waited for the resource.",
        ("resource", "kind"),
        pairs(lambda host: host.pressure_seconds),
    ),
    Host(
        "llm_host_temperature_celsius",
        "Temperature that a sensor of the machine reports.",
        ("sensor",),
        each(lambda host: host.temperatures),
    ),
    Host(
        "llm_host_network_bytes_total",
        "Bytes of all network interfaces but loopback.",
        ("direction",),
        each(lambda host: host.network_bytes),
    ),
)


class HostCollector(SampledCollector[HostReading]):
    def __init__(self, machine: Machine | None = None, interval: float = INTERVAL_SECONDS) -> None:
        read = (machine or Machine()).read
        super().__init__(Sampler("host", read, interval=interval, stale_after=5 * interval))

    def families(self, value: HostReading | None) -> Iterator[Metric]:
        readings = [] if value is None else [((), value)]
        for family in FAMILIES:
            yield family.of(readings, ())
