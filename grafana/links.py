"""Ways from one dashboard to another, and out of Grafana.

A label's value goes into an address encoded, since whoever names a model chooses it.
"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models import dashboard as sdk

PAGES: Final = {
    "overview": "llm-overview",
    "gpu": "llm-gpu",
    "models": "llm-models",
    "apis": "llm-apis",
    "config": "llm-config",
    "optimization": "llm-optimization",
}
TAG: Final = "llm"


def between_dashboards() -> sdk.DashboardLink:
    return sdk.DashboardLink(
        title="LLM dashboards",
        type_val=sdk.DashboardLinkType.DASHBOARDS,
        icon="dashboard",
        tags=[TAG],
        as_dropdown=True,
        include_vars=True,
        keep_time=True,
    )


def to(page: str, variable: str, value: str) -> sdk.DashboardLink:
    """A data link: `value` is the reference to the value, as `__field.labels.gpu`."""
    return sdk.DashboardLink(
        title=f"This {variable} on the dashboard {page}",
        url=f"/d/{PAGES[page]}?${{__url_time_range}}&var-{variable}=${{{value}:percentencode}}",
    )


def of_series(page: str, variable: str) -> sdk.DashboardLink:
    return to(page, variable, f"__field.labels.{variable}")


def of_row(page: str, variable: str, column: str) -> sdk.DashboardLink:
    return to(page, variable, f"__data.fields.{column}")
