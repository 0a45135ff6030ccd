"""The exporters inside the service: one /metrics, and what only the service knows of GPUs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as plain
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime
from tests.dialects.serving import wait_until
from tests.exporters.test_nvml import uuid
from tests.fakenvml.driver import Driver
from tests.service_process import service
from tests.telemetry.test_exposition import STEP

ENGINE = 4242


@pytest.fixture
def http(driver: Driver) -> Iterator[TestClient]:
    driver.say(card1__processes=f"{ENGINE}:1048576 77:5", card2__processes=f"{ENGINE}:2097152")
    runtime = FakeRuntime()
    (status,) = runtime.models()
    runtime.models = lambda: [replace(status, pid=ENGINE)]  # type: ignore[method-assign]
    app = create_app(Settings(price_per_kwh=Decimal("0.3")), runtime.make)
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def samples(http: TestClient, name: str, *keys: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels[key] for key in keys): sample.value
        for family in plain(http.get("/metrics").text)
        for sample in family.samples
        if sample.name == name
    }


def test_gpus_and_host_are_in_the_services_metrics(http: TestClient) -> None:
    assert len(samples(http, "llm_gpu_temperature_celsius", "uuid")) == 4
    assert samples(http, "llm_host_memory_total_bytes")
    assert samples(http, "llm_exporter_collector_success", "collector") == {
        (name,): 1 for name in ("state", "process", "gc", "platform", "gpu", "host", "disk")
    }


def test_a_models_gpu_memory_is_that_of_its_engines_process(http: TestClient) -> None:
    memory = {("demo:latest", "gpu1"): 1048576, ("demo:latest", "gpu2"): 2097152}
    wait_until(lambda: samples(http, "llm_model_memory_bytes", "model", "device") == memory)
    owners = samples(http, "llm_gpu_process_memory_bytes", "gpu", "owner")
    assert (owners["1", "self"], owners["1", "other"]) == (1048576, 5)


def test_energy_goes_to_the_model_that_computed(driver: Driver, http: TestClient) -> None:
    name = "llm_model_energy_joules_total"
    wait_until(lambda: samples(http, "llm_gpu_energy_joules_total", "gpu"))
    assert samples(http, name, "model") in ({}, {("demo:latest",): 0})

    http.app_state["recorder"].on_steps("demo:latest", [STEP])
    driver.say(every__power_mw=40_000)
    wait_until(lambda: samples(http, name, "model").get(("demo:latest",), 0) > 0)
    joules = samples(http, name, "model")["demo:latest",]
    assert samples(http, "llm_model_energy_cost_total", "model") == {
        ("demo:latest",): pytest.approx(joules * 0.3 / 3.6e6)
    }


def test_promtool_has_nothing_to_object_to_in_both_together(http: TestClient) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: Debian's package prometheus has it")

    result = subprocess.run(
        [promtool, "check", "metrics"],
        input=http.get("/metrics").text,
        capture_output=True,
        text=True,
    )

    assert (result.returncode, result.stderr, result.stdout) == (0, "", "")


def test_the_gpus_as_json_are_those_of_the_metrics(http: TestClient) -> None:
    wait_until(lambda: http.get("/api/metrics/gpu").json()["gpus"])
    body = http.get("/api/metrics/gpu").json()

    assert [gpu["uuid"] for gpu in body["gpus"]] == [uuid(n) for n in range(4)]
    assert (body["average_temperature"], body["thermal_status"]) == (45, "good")
    assert (body["driver_version"], body["cuda_version"]) == ("535.154.05", "12.2")
    analysis = http.get("/api/metrics/optimization").json()
    assert analysis["gpu_analysis"]["gpu_count"] == 4
    assert analysis["memory_analysis"]["total_gb"] > 0


def test_where_it_is_switched_off_nothing_is_read(driver: Driver) -> None:
    driver["nvmlInit_v2"] = -9
    app = create_app(Settings(exporters=False), FakeRuntime().make)
    with TestClient(app, base_url="http://localhost") as http:
        text = http.get("/metrics").text
        answer = http.get("/api/metrics/gpu")

    assert "llm_host_" not in text
    assert 'collector="gpu"' not in text
    assert (answer.status_code, answer.json()["error"]) == (200, "GPUs are not read")


def test_what_another_program_shows_is_read_and_not_shown_twice(driver: Driver) -> None:
    app = create_app(Settings(expose_exporters=False), FakeRuntime().make)
    with TestClient(app, base_url="http://localhost") as http:
        wait_until(lambda: http.get("/api/metrics/gpu").json()["gpus"])
        text = http.get("/metrics").text

    assert "llm_host_" not in text
    assert "llm_gpu_" not in text


def test_the_process_that_the_driver_tells_of_is_the_engines(library: Path, tmp_path: Path) -> None:
    cards = Driver(library, tmp_path / "cards")
    with service(tmp_path, **cards.environment()) as running:
        body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        httpx.post(running.url + "/v1/chat/completions", json=body, timeout=60)
        (engine,) = running.engines()
        cards["card2.processes"] = f"{engine.pid}:7340032"

        name = "llm_model_memory_bytes"
        wait_until(lambda: running.metric(name, 'device="gpu2"', 'model="demo:latest"') == 7340032)


def test_the_hottest_card_and_the_lost_one_are_in_the_analysis(
    driver: Driver, http: TestClient
) -> None:
    wait_until(lambda: http.get("/api/metrics/gpu").json()["gpu_count"] == 4)
    driver.say(card1__temperature=88, card2__lost=1)
    portal, analyst = http.portal, http.app_state["analyst"]
    assert portal is not None

    def of(id: str) -> dict[str, Any]:
        portal.call(analyst.refresh)
        components = http.get("/api/metrics/optimization").json()["components"]
        return next(component for component in components if component["id"] == id)

    wait_until(lambda: of("gpu.thermal")["value"] == 88, 30)
    wait_until(lambda: of("gpu.lost")["value"] == 1, 30)
    assert 0 < of("gpu.thermal")["health"] < 0.2
    assert (of("gpu.lost")["health"], of("gpu.vram_headroom")["health"]) == (0, 1)
    body = http.get("/api/metrics/optimization").json()
    assert body["overall_score"] < 15
    assert body["gpu_analysis"]["configuration_quality"]["thermal_score"] < 20
    ids = {advice["id"]: advice for advice in body["recommendations"]}
    assert ids["gpu-lost"]["priority"] == "high"
    assert "engine-without-gpu" in ids
