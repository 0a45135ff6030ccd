"""Whether requests are traced, and the names that traces go by. OpenTelemetry's own environment
variables decide; where they ask for nothing, nothing of OpenTelemetry is imported.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from service.settings import SettingsError
from service.stats import Observer, RequestStats

if TYPE_CHECKING:
    from service.telemetry.spans import Spans

# Either names a collector, and so asks for traces; unset and empty are the same to OpenTelemetry.
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTER: Final = "OTEL_TRACES_EXPORTER"
PROTOCOL: Final = "http/protobuf"
_MISSING: Final = (
    "tracing is asked for by {variable}, and OpenTelemetry is not installed: "
    "pip install 'llm-inference-service[tracing]', or unset it"
)


def asked_by(environment: Mapping[str, str]) -> str | None:
    """The variable that asks for traces, if one does. Raises SettingsError for what cannot be had."""
    given = {key: value.strip() for key, value in environment.items() if value.strip()}
    exporter = given.get(EXPORTER, "").lower()
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none":
        return None
    if exporter not in ("", "otlp"):
        raise SettingsError(f"{EXPORTER}: {exporter} is not known here: otlp or none")
    variable = next((name for name in (*ENDPOINTS, EXPORTER) if name in given), None)
    if variable is not None:
        for name in PROTOCOLS:
            if (protocol := given.get(name, PROTOCOL)) != PROTOCOL:
                raise SettingsError(f"{name}: {protocol} is not spoken here: {PROTOCOL}")
    return variable


def tracing(
    environment: Mapping[str, str], version: str, on_dropped: Callable[[int], None]
) -> Spans | None:
    """None where the environment asks for no traces; SettingsError where they cannot be had.

    `on_dropped` gets the number of spans that will never arrive. It is called on any thread.
    """
    if (variable := asked_by(environment)) is None:
        return None
    try:
        from service.telemetry.spans import Spans
    except ImportError:
        raise SettingsError(_MISSING.format(variable=variable)) from None
    try:
        return Spans(version, on_dropped)
    except ValueError as error:
        raise SettingsError(f"tracing: {error}") from None


class Traced:
    """An observer, and the spans of what it observes."""

    def __init__(self, observer: Observer, spans: Spans) -> None:
        self._observer = observer
        self._spans = spans
        # As they are: a step must not pay for what it has no part in.
        self.on_model = observer.on_model
        self.on_steps = observer.on_steps

    def on_finish(self, stats: RequestStats) -> None:
        self._observer.on_finish(stats)
        self._spans.on_finish(stats)


def trace_of(traceparent: str) -> str:
    """The trace's id, 32 hexadecimal digits (W3C Trace Context, version 00)."""
    return traceparent[3:35]


def is_sampled(traceparent: str) -> bool:
    return bool(int(traceparent[53:55], 16) & 1)
