"""What families there are, and where each is seen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import yaml

from grafana.panels import families
from tests.exporters.catalogue import CATALOGUE
from tests.grafana.reading import DASHBOARDS, asked, variables
from tests.telemetry.test_catalogue import PRESENT, catalogue

RULES: Final = Path(__file__).parents[2] / "prometheus" / "rules"
# Suffixes of a histogram's series.
SERIES: Final = re.compile(r"_(bucket|sum|count)$")

# Families that nobody else looks at: only who hunts a fault does, by a query of their own.
FOR_DEBUGGING: Final = {
    "llm_active_requests": "the sum of llm_requests_running and llm_requests_waiting, for scripts",
    "llm_engine_slots_busy": "as of the last step; the dashboards have the mean over time",
    "llm_exporter_collector_duration_seconds": "of interest once a collector is slow",
    "llm_host_cpu_frequency_hertz": "of interest once steps are slow without any other reason",
    "llm_host_cpu_seconds_total": "llm_host_cpu_usage_ratio for other windows than the exporter's",
    "llm_host_major_page_faults_total": "the cause of what llm_host_swap_in_bytes_total shows",
    "llm_host_pressure_seconds_total": "llm_host_pressure_ratio for other windows than the kernel's",
    "llm_host_temperature_celsius": "each machine has other sensors, under other names",
}

# What libraries have of every process, of which some is on a dashboard.
OF_LIBRARIES: Final = re.compile(r"^(process|python)_|^up$|^ALERTS$")


def present() -> set[str]:
    """Families of the service and the exporters, with the names of their series."""
    counters = {
        f"{name}_total" if kind == "counter" else name for name, (kind, _, _) in CATALOGUE.items()
    }
    return counters | {name for name, state in catalogue().items() if state == PRESENT}


def on_dashboards() -> set[str]:
    exprs = [query.expr for uid in DASHBOARDS for query in asked(uid)]
    chosen = [
        variable["query"]["query"]
        for uid in DASHBOARDS
        for variable in variables(uid)
        if variable["type"] == "query"
    ]
    return {SERIES.sub("", name) for name in families(exprs + chosen)}


def in_rules() -> set[str]:
    groups = [
        group
        for path in RULES.glob("*.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    exprs = [str(rule["expr"]) for group in groups for rule in group["rules"]]
    return {SERIES.sub("", name) for name in families(exprs)}
