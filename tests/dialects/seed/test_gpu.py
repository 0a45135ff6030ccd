"""GPUs as JSON: what was read, or null."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from exporters.readings import GpuReading, GpusReading, HostReading, Memory, PcieLink
from service.app import create_app
from service.dialects.seed.gpu import thermal_status
from service.dialects.seed.machine import allocated
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime

GIB = 1024**3
M10 = GpuReading(
    index=0,
    uuid="GPU-a",
    name="Tesla M10",
    temperature=72,
    power=38.5,
    power_limits={"enforced": 53.0, "max": 60.0},
    utilization={"gpu": 0.22, "memory": 0.1},
    memory=Memory(8 * GIB, 2 * GIB, 6 * GIB),
    clocks={"graphics": 1.032e9, "memory": 2.6e9},
    throttle={"hw_thermal": True, "gpu_idle": False},
    pcie=PcieLink(3, 16, 3, 16),
)
HOT = msgspec.structs.replace(M10, index=1, uuid="GPU-b", temperature=86, fans=(0.4, 0.6))
LOST = GpuReading(index=2, uuid="GPU-c", up=False, name="Tesla M10")
HOST = HostReading(
    cpu_model="Xeon",
    cpu_usage={"user": 0.25, "idle": 0.7, "iowait": 0.05},
    cpus={"logical": 16, "physical": 8},
    cpu_hertz={"current": 2.6e9},
    memory_total=16 * GIB,
    memory_available=2 * GIB,
    swap_total=0,
    swap_used=0,
)


@dataclass
class Read:
    gpus: GpusReading | None = None
    gpu_failure: str | None = None
    machine: HostReading | None = None


READ = Read(GpusReading((M10, HOT, LOST), "535.154.05", "12.2"), None, HOST)


@pytest.fixture
def read() -> Read:
    return READ


@pytest.fixture
def http(read: Read) -> Iterator[TestClient]:
    app = create_app(Settings(exporters=False), FakeRuntime().make)
    with TestClient(app, base_url="http://localhost") as client:
        client.app_state["monitors"] = read
        yield client


def test_each_gpu_is_there_under_the_names_that_pages_know(http: TestClient) -> None:
    body = http.get("/api/metrics/gpu").json()

    assert body["gpus"][0] == {
        "gpu_id": 0, "index": 0, "uuid": "GPU-a", "name": "Tesla M10", "up": True,
        "utilization_gpu": 22, "utilization_percent": 22, "utilization_memory": 10,
        "memory_used": 2048, "memory_total": 8192, "memory_percent": 25,
        "temperature": 72, "thermal_status": "good", "power_draw": 38.5, "power_limit": 53,
        "fan_speed": None, "clock_graphics": 1032, "clock_memory": 2600,
        "pcie_generation": 3, "pcie_width": 16, "throttle_reasons": ["hw_thermal"],
    }  # fmt: skip
    assert body["gpus"][1]["fan_speed"] == 50


def test_a_lost_gpu_is_down_and_has_no_figures(http: TestClient) -> None:
    lost = http.get("/api/metrics/gpu").json()["gpus"][2]

    assert (lost["up"], lost["gpu_id"], lost["name"]) == (False, 2, "Tesla M10")
    assert {lost[key] for key in ("temperature", "memory_used", "power_draw")} == {None}
    assert lost["thermal_status"] == "unknown"


def test_the_totals_are_of_what_is_up(http: TestClient) -> None:
    body = http.get("/api/metrics/gpu").json()

    assert (body["gpu_count"], len(body["gpus"])) == (3, 3)
    assert (body["total_memory_used"], body["total_memory_available"]) == (4096, 16384)
    assert (body["average_temperature"], body["average_utilization"]) == (79, 22)
    assert body["thermal_status"] == "critical"
    assert (body["driver_version"], body["cuda_version"]) == ("535.154.05", "12.2")
    assert "error" not in body


@pytest.mark.parametrize(
    "read", [Read(GpusReading((msgspec.structs.replace(M10, memory=None),)), None, HOST)]
)
def test_memory_that_no_card_tells_is_not_nought(http: TestClient) -> None:
    body = http.get("/api/metrics/gpu").json()
    analysed = http.get("/api/metrics/optimization").json()["gpu_analysis"]

    assert (body["total_memory_used"], body["total_memory_available"]) == (None, None)
    assert (analysed["total_vram_gb"], analysed["total_used_vram_gb"]) == (None, None)
    assert analysed["vram_utilization_percent"] is None


@pytest.mark.parametrize(
    ("celsius", "status"),
    [(None, "unknown"), (79.9, "good"), (80, "warning"), (84, "warning"), (85, "critical")],
)
def test_it_is_warm_from_80_and_too_hot_from_85_degrees(celsius: float | None, status: str) -> None:
    assert thermal_status(celsius) == status


@pytest.mark.parametrize("read", [Read(gpu_failure="no NVIDIA driver is installed")])
def test_without_a_gpu_the_answer_is_200_and_says_why(http: TestClient) -> None:
    answer = http.get("/api/metrics/gpu")
    body = answer.json()

    assert answer.status_code == 200
    assert (body["gpus"], body["gpu_count"]) == ([], 0)
    assert (body["driver_version"], body["cuda_version"]) == ("unknown", "unknown")
    assert body["error"] == "no NVIDIA driver is installed"
    assert http.get("/api/metrics/dashboard").json()["gpu_metrics"] is None
    analysis = http.get("/api/metrics/optimization").json()["gpu_analysis"]
    assert analysis == {"error": "no NVIDIA driver is installed"}


def test_the_dashboard_has_the_same_body(http: TestClient) -> None:
    shown = http.get("/api/metrics/dashboard").json()["gpu_metrics"]
    alone = http.get("/api/metrics/gpu").json()

    assert shown | {"timestamp": 0} == alone | {"timestamp": 0}


def test_the_analysis_has_what_was_read(http: TestClient) -> None:
    body: dict[str, Any] = http.get("/api/metrics/optimization").json()

    cpu, memory, gpu = body["cpu_analysis"], body["memory_analysis"], body["gpu_analysis"]
    assert (cpu["logical_cores"], cpu["physical_cores"], cpu["brand"]) == (16, 8, "Xeon")
    assert (cpu["current_usage_percent"], cpu["hyperthreading_available"]) == (25, True)
    assert (cpu["current_frequency_mhz"], cpu["max_frequency_mhz"]) == (2600, None)
    assert (memory["total_gb"], memory["available_gb"], memory["used_gb"]) == (16, 2, 14)
    assert (memory["usage_percent"], memory["memory_pressure"]) == (87.5, "high")
    assert (gpu["gpu_count"], gpu["total_vram_gb"], gpu["max_temperature"]) == (3, 16, 86)
    assert [d["id"] for d in gpu["gpu_details"]] == [0, 1, 2]
    models = body["model_analysis"]
    assert (models["total_models"], models["max_context_size"]) == (1, 2048)
    assert models["model_examples"]["small"] == ["demo:latest"]
    assert (cpu["performance_rating"], memory["adequacy_for_llm"]) == ("good", "adequate")
    assert models["diversity_score"] == 0
    assert gpu["configuration_quality"].keys() == {
        "balance_score", "utilization_score", "thermal_score",
    }  # fmt: skip


def test_a_tensor_split_is_shown_as_shares(http: TestClient) -> None:
    gpu = http.get("/api/metrics/optimization?tensor_split=2,1,1").json()["gpu_analysis"]

    assert gpu["current_tensor_split"] == [0.5, 0.25, 0.25]
    assert [d["tensor_allocation_percent"] for d in gpu["gpu_details"]] == [50, 25, 25]


@pytest.mark.parametrize(
    ("lost", "said", "split", "shares"),
    [
        ((), None, (0.5, 0.3, 0.2), {0: 0.5, 1: 0.3, 2: 0.2}),
        ((), "2,0", (0.7, 0.3), {2: 0.7, 0: 0.3}),
        ((0,), None, (0.6, 0.4), {1: 0.6, 2: 0.4}),
        # It was loaded when the card was still there.
        ((0,), None, (0.5, 0.3, 0.2), {0: 0.5, 1: 0.3, 2: 0.2}),
        ((1,), "1,2", (1.0,), {2: 1.0}),
        ((), "0", (0.5, 0.5), {}),
    ],
)
def test_shares_are_of_the_cards_that_an_engine_is_shown(
    lost: tuple[int, ...], said: str | None, split: tuple[float, ...], shares: dict[int, float]
) -> None:
    gpus = tuple(
        GpuReading(index=n, uuid=f"GPU-{n}", bus_id=f"0000:0{n}:00.0", up=n not in lost)
        for n in range(3)
    )

    assert allocated(GpusReading(gpus), split, said) == shares


@pytest.mark.parametrize(
    "query",
    ["threads=many", "batch_size=1.5", "gpu_layers=", "context_size=1e9", "tensor_split=a,b",
     "tensor_split=-1,2", "tensor_split=0,0", "tensor_split=nan,1", "tensor_split=inf",
     "threads=0", "batch_size=1", "gpu_layers=-1", "context_size=0", "refresh=often",
     "threads=9999999999999"],
)  # fmt: skip
def test_a_query_that_no_setting_could_have_is_refused(http: TestClient, query: str) -> None:
    answer = http.get(f"/api/metrics/optimization?{query}")

    assert answer.status_code == 400
    assert query.split("=")[0] in answer.text
