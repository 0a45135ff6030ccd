from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from service.control.analysis import Analysis, Group
from service.telemetry.advice import Advice


def text(**given: Any) -> str:
    registry = CollectorRegistry()
    known = {
        "made_at": 100.0, "measured_at": None, "window_seconds": 0.0, "score": None,
        "coverage": 0.1, "groups": {"gpu": Group(None, "unknown")}, "components": (),
        "recommendations": (),
    }  # fmt: skip
    registry.register(Advice(lambda: Analysis(**{**known, **given})))
    return generate_latest(registry).decode()


def test_what_models_should_take_of_each_gpu_is_shown_by_its_index() -> None:
    found = text(predicted={2: 5 << 30, 3: 1 << 20})

    assert 'llm_config_predicted_vram_bytes{gpu="2"} 5.36870912e+09' in found
    assert 'llm_config_predicted_vram_bytes{gpu="3"} 1.048576e+06' in found


def test_what_was_not_measured_has_no_series() -> None:
    lines = [line for line in text().splitlines() if not line.startswith("#")]

    assert lines == [
        "llm_optimization_coverage_ratio 0.1",
        "llm_optimization_last_analysis_timestamp_seconds 100.0",
    ]
