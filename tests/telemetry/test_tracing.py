from __future__ import annotations

import os
import subprocess
import sys

import pytest

from service.settings import SettingsError
from service.telemetry.tracing import asked_by, is_sampled, trace_of, tracing

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
COLLECTOR = "http://127.0.0.1:4318"


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, None),
        ({ENDPOINT: " "}, None),
        ({"OTEL_SERVICE_NAME": "llm"}, None),
        ({ENDPOINT: COLLECTOR}, ENDPOINT),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": COLLECTOR},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "OTEL_TRACES_EXPORTER"),
        ({ENDPOINT: COLLECTOR, "OTEL_TRACES_EXPORTER": "none"}, None),
        ({ENDPOINT: COLLECTOR, "OTEL_SDK_DISABLED": "TRUE"}, None),
    ],
)
def test_opentelemetrys_own_variables_ask_for_traces(
    environment: dict[str, str], variable: str | None
) -> None:
    assert asked_by(environment) == variable


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {ENDPOINT: COLLECTOR, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {ENDPOINT: COLLECTOR, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
    ],
)
def test_what_cannot_be_had_is_refused_by_name(environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="OTEL_") as refused:
        asked_by(environment)

    assert "\n" not in str(refused.value)


def test_without_the_extra_one_line_says_how_to_get_it() -> None:
    script = (
        "import sys; sys.modules['opentelemetry.sdk'] = None; from service import cli;"
        "sys.exit(cli.main(['--no-discover-models']))"
    )
    environment = {**os.environ, ENDPOINT: COLLECTOR}

    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )

    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert ENDPOINT in line
    assert "pip install 'llm-inference-service[tracing]'" in line


def test_values_that_opentelemetry_cannot_use_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")

    with pytest.raises(SettingsError, match="max_queue_size"):
        tracing({ENDPOINT: COLLECTOR}, "1", lambda count: None)


def test_where_nobody_asks_nothing_is_imported() -> None:
    script = (
        "import sys; from service.app import create_app; from service.settings import Settings;"
        "create_app(Settings()); print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}

    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "[]"


def test_a_traceparent_is_read_by_its_columns() -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03"

    assert trace_of(traceparent) == "0af7651916cd43dd8448eb211c80319c"
    assert is_sampled(traceparent)
    assert not is_sampled(traceparent[:-2] + "02")
