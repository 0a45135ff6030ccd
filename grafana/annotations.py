"""Events that all time series of a dashboard show; each can be switched off on top."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as sdk
from grafana_foundation_sdk.models import prometheus

from grafana.queries import SERVICE
from grafana.variables import PROMETHEUS


def annotation(
    name: str, color: str, expr: str, title: str, text: str, at_value: bool = False
) -> sdk.AnnotationQuery:
    """`at_value`: a sample's value is the time of its event, in milliseconds."""
    return sdk.AnnotationQuery(
        name=name,
        datasource=PROMETHEUS,
        icon_color=color,
        target=prometheus.Dataquery(expr=expr, ref_id="Anno", interval="30s"),
        title_format=title,
        text_format=text,
        use_value_for_time=at_value,
    )


def all_events() -> list[sdk.AnnotationQuery]:
    return [
        annotation(
            "Restarts",
            "blue",
            SERVICE("process_start_time_seconds") + " * 1000",
            "Service started",
            "{{instance}}",
            at_value=True,
        ),
        annotation(
            "Configuration changes",
            "purple",
            SERVICE("llm_config_last_reload_timestamp_seconds") + " * 1000",
            "Configuration changed",
            "{{instance}}",
            at_value=True,
        ),
        annotation(
            "Models loaded or unloaded",
            "green",
            f"changes({SERVICE('llm_model_loaded')}[$__interval]) > 0",
            "Loaded or unloaded",
            "{{model}}",
        ),
        annotation(
            "Alerts",
            "red",
            'ALERTS{alertstate="firing",severity=~"warning|critical",alertname=~"LLM.+"}',
            "{{alertname}}",
            "{{severity}} {{instance}} {{model}} {{gpu}}",
        ),
    ]
