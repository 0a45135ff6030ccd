"""The overview's collapsed row: the service's process, its host, and what telemetry lost."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as sdk

from grafana.panels import Query, series
from grafana.queries import MACHINE, SERVICE, highest, share, total
from grafana.thresholds import FREE_RATIO, LAG_SECONDS


def panels() -> list[sdk.Panel]:
    return [
        series(
            "Targets",
            "1 where Prometheus could scrape. 0 is a service or an exporter that is down.",
            Query('up{job=~"llm-.+"}', "{{job}} {{instance}}"),
            unit="none", low=0, high=1, no_value="Prometheus has no job named llm-…", w=6,
        ),
        series(
            "Event loop lag p99",
            "How late the service's loop wakes. Good is below 0.1 s; above, all streams stutter.",
            Query(SERVICE.quantile(0.99, "llm_event_loop_lag_seconds", "instance"), "{{instance}}"),
            unit="s", steps=LAG_SECONDS, limits=True, w=6,
        ),
        series(
            "Threads of the service",
            "Busy and waiting work of its thread pools. Good: waiting is none.",
            Query(total(SERVICE("llm_threadpool_busy"), "pool"), "{{pool}} busy"),
            Query(total(SERVICE("llm_threadpool_waiting"), "pool"), "{{pool}} waiting"),
            Query(total(SERVICE("llm_threadpool_size"), "pool"), "{{pool}} threads"),
            unit="none", w=6,
        ),
        series(
            "Memory of the service",
            "Of the serving process; the models' is in their engines. Good: it does not grow for days.",
            Query(total(SERVICE("process_resident_memory_bytes"), "instance"), "{{instance}}"),
            unit="bytes", w=6,
        ),
        series(
            "Open files of the service",
            "Of what it may open. Good is below 80 %.",
            Query(
                share(
                    total(SERVICE("process_open_fds"), "instance"),
                    total(SERVICE("process_max_fds"), "instance"),
                ),
                "{{instance}}",
            ),
            unit="percentunit", low=0, w=6,
        ),
        series(
            "Processors",
            "Time by mode, of all processors; `pressure` is time that something waited for one.",
            Query(highest(MACHINE("llm_host_cpu_usage_ratio", 'mode!="idle"'), "mode"), "{{mode}}"),
            Query(highest(MACHINE("llm_host_pressure_ratio"), "resource, kind"), "pressure {{resource}} {{kind}}"),
            unit="percentunit", low=0, w=6,
        ),
        series(
            "Load",
            "Processes that run or wait to, beside the processors that there are.",
            *[Query(highest(MACHINE(f"llm_host_load{n}"), "instance"), f"{n} min {{{{instance}}}}") for n in (1, 5, 15)],
            Query(highest(MACHINE("llm_host_cpus"), "kind"), "{{kind}} processors"),
            unit="none", low=0, w=6,
        ),
        series(
            "Memory of the host",
            "Available is what could still be had. Good: swap stays unused.",
            Query(MACHINE("llm_host_memory_total_bytes"), "total"),
            Query(MACHINE("llm_host_memory_available_bytes"), "available"),
            Query(MACHINE("llm_host_swap_used_bytes"), "swap used"),
            Query(MACHINE("llm_host_swap_total_bytes"), "swap"),
            Query(MACHINE("llm_host_cgroup_memory_limit_bytes"), "limit of the container"),
            Query(MACHINE("llm_host_cgroup_memory_used_bytes"), "used in the container"),
            unit="bytes", w=6,
        ),
        series(
            "Swap and page faults",
            "Good is none: weights that are read from disk again make every token slow.",
            Query(MACHINE.rate("llm_host_swap_in_bytes_total"), "swapped in"),
            Query(MACHINE.rate("llm_host_swap_out_bytes_total"), "swapped out"),
            unit="Bps", w=6, no_value="Not told by this host",
        ),
        series(
            "Free on the models' disks",
            "Good is above 10 %: a pull needs its model's size.",
            Query(
                share(
                    highest(MACHINE("llm_model_store_free_bytes"), "instance, path"),
                    highest(MACHINE("llm_model_store_size_bytes"), "instance, path"),
                ),
                "{{path}}",
            ),
            unit="percentunit", low=0, high=1, steps=FREE_RATIO, limits=True, w=6,
        ),
        series(
            "Network of the host",
            "Both directions, all interfaces.",
            Query(MACHINE.rate("llm_host_network_bytes_total"), "{{direction}}"),
            unit="Bps", w=6, no_value="Not told by this host",
        ),
        series(
            "Collectors",
            "Age of what was read of GPUs, host and disks. Good is a few seconds; a driver that "
            "hangs lets it grow.",
            Query(MACHINE("llm_exporter_snapshot_age_seconds"), "{{collector}} {{instance}}"),
            unit="s", w=6,
        ),
        series(
            "What telemetry lost",
            "Spans that no collector took, and names of models that labels had no room for. Good is none.",
            Query(total(SERVICE.rate("llm_trace_spans_dropped_total")), "spans"),
            Query(total(SERVICE.rate("llm_metrics_label_overflow_total"), "label"), "{{label}}"),
            unit="cps", w=6,
        ),
    ]  # fmt: skip
