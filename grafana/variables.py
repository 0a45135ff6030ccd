"""What can be chosen on top of a dashboard. The order is the same on all of them."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as sdk

from grafana.queries import MACHINE, SERVICE

# Which of several Prometheus servers is chosen on top of the dashboard.
PROMETHEUS: Final = common.DataSourceRef(type_val="prometheus", uid="${datasource}")


def datasource() -> sdk.VariableModel:
    return sdk.VariableModel(
        type_val=sdk.VariableType.DATASOURCE,
        name="datasource",
        label="Data source",
        query="prometheus",
        refresh=sdk.VariableRefresh.ON_DASHBOARD_LOAD,
    )


def values(name: str, label: str, series: str, of: str, about: str) -> sdk.VariableModel:
    """The values that the label `of` has among `series`; one, several or all of them."""
    query = f"label_values({series}, {of})"
    return sdk.VariableModel(
        type_val=sdk.VariableType.QUERY,
        name=name,
        label=label,
        description=about,
        datasource=PROMETHEUS,
        query={"query": query, "refId": f"variable-{name}"},
        multi=True,
        include_all=True,
        all_value=".+",
        current=sdk.VariableOption(text="All", value="$__all"),
        refresh=sdk.VariableRefresh.ON_TIME_RANGE_CHANGED,
        sort=sdk.VariableSort.NATURAL_ASC,
    )


def job() -> sdk.VariableModel:
    return values("job", "Job", "llm_build_info", "job", "Prometheus' jobs that scrape services")


def instance() -> sdk.VariableModel:
    series = 'llm_build_info{job=~"$job"}'
    return values("instance", "Instance", series, "instance", "Services, one or more")


def gpu_instance() -> sdk.VariableModel:
    about = "Targets that read GPUs and hosts: services, or `python -m exporters`"
    series = "llm_exporter_snapshot_age_seconds"
    return values("gpu_instance", "Machine", series, "instance", about)


def gpu() -> sdk.VariableModel:
    return values("gpu", "GPU", MACHINE("llm_gpu_up"), "gpu", "Indexes of GPUs")


def model() -> sdk.VariableModel:
    return values("model", "Model", SERVICE("llm_model_loaded"), "model", "Models that are known")


def api() -> sdk.VariableModel:
    return values("api", "Dialect", SERVICE("llm_requests_total"), "api", "Dialects in use")


def endpoint() -> sdk.VariableModel:
    series = SERVICE("llm_requests_total", 'api=~"$api"')
    return values("endpoint", "Endpoint", series, "endpoint", "Routes in use")


BASE: Final = (datasource, job, instance)
