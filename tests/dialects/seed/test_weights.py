"""Weight distribution and presets by HTTP: as pages know them, with what was read and estimated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from exporters.readings import GpuReading, GpusReading, Memory, ProcessMemory
from service.app import create_app
from service.catalog.card import ModelCard
from service.control.config import Applied, Version, differences, fingerprint, made, patched
from service.facts import Buffer
from service.serving.runtime import ModelStatus
from service.settings import Settings, SettingsError
from service.settings_sources import Given
from tests.control.test_hardware import Read
from tests.dialects.fakes import CARD, FACTS, FakeRuntime
from tests.fleet.model_headers import SHAPES, write

GIB = 1 << 30
PATH = "/api/dashboard/weight-distribution"
ENGINE = 4242


def gpu(index: int, free: int = 6, bus: int | None = None, **more: Any) -> GpuReading:
    given = {
        "index": index,
        "uuid": f"GPU-{index}",
        "name": "Tesla M10",
        "bus_id": f"00000000:{index if bus is None else bus:02X}:00.0",
        "temperature": 45.0,
        "utilization": {"gpu": 0.4},
        "memory": Memory(8 * GIB, (8 - free) * GIB, free * GIB),
    }
    return GpuReading(**{**given, **more})


class Machine(FakeRuntime):
    """One model, of which there is a header on disk."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.card = msgspec.structs.replace(CARD, path=str(path))
        self.facts = None

    def models(self) -> list[ModelStatus]:
        (status,) = super().models()
        return [replace(status, card=self.card, pid=ENGINE)]

    def resolve(self, name: str | None) -> ModelCard:
        super().resolve(name)
        return self.card


class Changes:
    """Puts changes in force, of settings alone: what they do to engines is tested where there are
    some."""

    def __init__(self, **said: Any) -> None:
        self.given = Given(command_line={"exporters": False, **said})
        self.settings = self.given.settings()
        self.version = Version(1, "first", 0.0, "local", "start", {})
        self.preset = "custom"

    async def apply(
        self,
        patch: Mapping[str, Any],
        *,
        by: str,
        why: str,
        expected: str | None = None,
        dry_run: bool = False,
    ) -> Applied:
        before, overrides = self.version, patched(self.version.overrides, patch)
        settings = made(self.given, overrides)
        version = Version(before.number + 1, fingerprint(settings), 0.0, by, why, overrides)
        changed = differences(self.settings, settings)
        if not dry_run:
            self.settings, self.version = settings, version
        return Applied(version, before, changed, (), (), dry_run)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("model") / "7b.gguf", SHAPES["7B"])


@pytest.fixture
def read() -> Read:
    return Read(GpusReading(tuple(gpu(i) for i in range(4)), "535", "12.2"))


@pytest.fixture
def runtime(path: Path) -> Machine:
    return Machine(path)


@pytest.fixture
def http(read: Read, runtime: Machine, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(Settings(exporters=False, state_dir=tmp_path), runtime.make)
    with TestClient(app, base_url="http://localhost") as client:
        client.app_state["monitors"] = read
        client.app_state["reconfiguration"] = Changes()
        yield client


def sent(http: TestClient, status: int = 200, path: str = PATH, **body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def in_force(http: TestClient) -> Settings:
    found: Settings = http.app_state["reconfiguration"].settings
    return found


def test_what_is_in_force_has_the_keys_that_pages_know(http: TestClient) -> None:
    body = http.get(PATH).json()

    gpus = body.pop("gpus")
    assert body.pop("created_at")
    assert body == {
        "tensor_split": "0.250,0.250,0.250,0.250", "gpu_count": 4, "total_weight": 100,
        "model_name": None, "context_size": None, "gpu_layers": None, "batch_size": 512,
        "is_valid": True, "validation_errors": [], "source": "free_memory",
        "basis": "by free memory; each load decides for itself", "estimated_for": ["demo:latest"],
    }  # fmt: skip
    assert gpus[1].pop("estimated_memory") >= 0
    assert gpus[1] == {
        "gpu_id": 1, "name": "Tesla M10", "weight_percentage": 25, "memory_total": 8192,
        "memory_available": 6144, "utilization": 40, "temperature": 45, "uuid": "GPU-1",
        "cuda_index": 1, "memory_for_models": 6144, "measured_percentage": None, "models": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    "read",
    [
        Read(gpu_failure="no driver"),
        Read(GpusReading(())),
        Read(GpusReading((gpu(0, memory=None),))),
    ],
)
def test_without_what_gpus_say_there_is_nothing_to_share_out(http: TestClient) -> None:
    for answer in (http.get(PATH), http.post(PATH, json={"preset": "equal"})):
        assert (answer.status_code, answer.json()) == (503, {"error": "GPU metrics not available"})


def test_the_ways_are_those_that_pages_know(http: TestClient) -> None:
    ways = http.get(f"{PATH}/presets").json()["presets"]

    assert {name: way["strategy"] for name, way in ways.items()} == {
        "equal": "equal",
        "memory-based": "memory_proportional",
        "performance-based": "performance_weighted",
        "primary-secondary": "primary_secondary",
    }
    assert all(way["name"] and way["description"] for way in ways.values())


@pytest.mark.parametrize("read", [Read(GpusReading((gpu(0, 6), gpu(1, 2))))])
def test_balanced_is_by_memory_and_is_in_force_at_once(http: TestClient) -> None:
    body = sent(http, preset="balanced")

    assert body["status"] == "success"
    assert body["config"]["tensor_split"] == "0.750,0.250"
    assert (body["config"]["source"], body["config"]["config_version"]) == ("configured", 2)
    assert in_force(http).tensor_split == (0.75, 0.25)
    assert http.get(PATH).json()["tensor_split"] == "0.750,0.250"
    assert http.app_state["reconfiguration"].version.why == "weights"


def test_cards_that_nobody_names_share_the_rest(http: TestClient) -> None:
    body = sent(http, gpu_weights=[{"gpu_id": 2, "weight": 70}])

    assert body["config"]["tensor_split"] == "0.100,0.100,0.700,0.100"


def test_where_all_are_named_the_sum_is_scaled(http: TestClient) -> None:
    given = [{"gpu_id": i, "weight": w} for i, w in enumerate((10, 10, 10, 20))]

    assert sent(http, gpu_weights=given)["config"]["tensor_split"] == "0.200,0.200,0.200,0.400"


@pytest.mark.parametrize("read", [Read(GpusReading((gpu(0, bus=9), gpu(1, bus=3), gpu(2, bus=5))))])
def test_a_share_goes_to_the_card_that_is_named_whatever_its_number(http: TestClient) -> None:
    body = sent(http, gpu_weights=[{"gpu_id": 0, "weight": 50}, {"gpu_id": 1, "weight": 20}])

    # Engines count by the bus: the card with the number 0 is the last of them.
    assert in_force(http).tensor_split == (0.2, 0.3, 0.5)
    gpus = [(g["gpu_id"], g["cuda_index"], g["uuid"]) for g in body["config"]["gpus"]]
    assert gpus == [(1, 0, "GPU-1"), (2, 1, "GPU-2"), (0, 2, "GPU-0")]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "Invalid configuration data"),
        ({"model_name": "demo"}, "Invalid configuration data"),
        ({"model_config": {}}, "Invalid configuration data"),
        ({"preset": "fast"}, "Unknown preset: fast"),
        ({"preset": "equal", "gpu_weights": [{"gpu_id": 0, "weight": 1}]}, "only one of them"),
        ({"gpu_weights": [{"gpu_id": 9, "weight": 10}]}, "There is no GPU 9"),
        ({"gpu_weights": [{"gpu_id": 0, "weight": -10}]}, "GPU 0 weight cannot be negative"),
        ({"gpu_weights": [{"gpu_id": 0, "weight": 130}]}, "GPU 0 weight cannot exceed 100%"),
        ({"gpu_weights": [{"gpu_id": 0}]}, "gpu_weights.0.weight"),
        ({"gpu_weights": [{"gpu_id": 0, "weight": 1}] * 2}, "GPU 0 is there twice"),
        ({"gpu_weights": {"0": 10}}, "gpu_weights"),
        ({"model_config": {"context": 5}}, "model_config.context"),
        ({"model_config": {"batch_size": 64, "model_name": "demo"}}, "that of all models"),
        ({"model_config": {"batch_size": 2}}, "batch_size"),
    ],
)
def test_what_is_no_distribution_is_refused_and_changes_nothing(
    http: TestClient, body: dict[str, Any], words: str
) -> None:
    answer = http.post(PATH, json=body)

    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]
    assert http.app_state["reconfiguration"].version.number == 1


def test_a_model_that_there_is_not_is_not_found(http: TestClient) -> None:
    assert sent(http, 404, preset="equal", model_name="other")
    assert http.get(PATH, params={"model_name": "other"}).status_code == 404


def test_one_model_can_have_a_way_of_its_own(http: TestClient) -> None:
    sent(http, gpu_weights=[{"gpu_id": 0, "weight": 40}], model_name="demo")
    config = {"context_size": 4096, "gpu_layers": 33, "model_name": "demo:latest"}
    body = sent(http, model_config=config)

    settings = in_force(http)
    assert settings.tensor_split == ()
    (own,) = settings.models.values()
    assert (own.tensor_split, own.context_size, own.gpu_layers) == ((0.4, 0.2, 0.2, 0.2), 4096, 33)
    assert (body["config"]["model_name"], body["config"]["context_size"]) == ("demo:latest", 4096)
    assert http.get(PATH, params={"model_name": "demo"}).json()["gpu_layers"] == 33


def test_all_models_can_be_given_other_sizes(http: TestClient) -> None:
    sent(http, model_config={"context_size": 4096, "gpu_layers": 20, "batch_size": 256})

    settings = in_force(http)
    assert (settings.default_context_size, settings.gpu_layers) == (4096, 20)
    assert settings.batch_size == 256


def test_what_no_card_can_hold_is_refused_with_the_numbers(http: TestClient) -> None:
    config = {"context_size": 131072, "gpu_layers": 33}
    body = sent(http, 409, preset="equal", model_config=config)

    assert "GPU 0 insufficient memory: need " in body["error"]
    assert "have 5632MB" in body["error"]
    assert in_force(http).tensor_split == ()


@pytest.mark.parametrize("read", [Read(GpusReading((gpu(0, 1), gpu(1, 6))))])
def test_the_numbers_are_those_of_the_cards_in_question(http: TestClient) -> None:
    body = sent(http, 409, preset="equal", model_config={"context_size": 2048})
    tried = sent(http, path=f"{PATH}/validate", model_config={"context_size": 2048},
                 gpu_weights=[{"gpu_id": 0, "weight": 50}, {"gpu_id": 1, "weight": 50}])  # fmt: skip

    assert body["error"].count("insufficient") == 1
    assert tried["validation_errors"] == [body["error"]]
    assert (tried["is_valid"], tried["tensor_split"]) == (False, "0.500,0.500")
    estimated = [g["estimated_memory"] for g in tried["config_summary"]["gpus"]]
    assert f"need {-(-estimated[0] // 1):.0f}MB, have 512MB" in body["error"]


@pytest.mark.parametrize(
    "read",
    [Read(GpusReading((
        gpu(0, 1, processes=(ProcessMemory(ENGINE, 6 * GIB), ProcessMemory(1, GIB // 2))),
        gpu(1, 6),
    )))],
)  # fmt: skip
def test_what_the_engine_itself_holds_is_room_for_what_comes_after_it(http: TestClient) -> None:
    body = sent(http, preset="equal", model_config={"context_size": 2048})

    assert [g["memory_for_models"] for g in body["config"]["gpus"]] == [7168, 6144]


def test_a_dry_run_changes_nothing(http: TestClient) -> None:
    body = sent(http, preset="primary-secondary", dry_run=True)

    assert (body["dry_run"], body["config"]["tensor_split"][:5]) == (True, "0.600")
    assert in_force(http).tensor_split == ()
    assert http.app_state["reconfiguration"].version.number == 1


def test_who_is_not_understood_is_told(http: TestClient) -> None:
    answer = http.post(PATH, json={"preset": "equal", "colour": "red"})

    assert answer.headers["x-ignored-params"] == "colour"


def test_what_is_wrong_is_told_without_changing_anything(http: TestClient) -> None:
    given = [{"gpu_id": i, "weight": w} for i, w in enumerate((120, -40, 5, 5))]
    body = sent(http, path=f"{PATH}/validate", gpu_weights=given)

    assert body["is_valid"] is False
    assert body["validation_errors"] == [
        "Total weight must equal 100% (current: 90%)",
        "GPU 0 weight cannot exceed 100%",
        "GPU 1 weight cannot be negative",
    ]
    assert body["config_summary"]["total_weight"] == 90
    assert in_force(http).tensor_split == ()


HOT = Read(GpusReading((gpu(0, temperature=82), gpu(1, temperature=86))))


@pytest.mark.parametrize("read", [HOT])
def test_hot_cards_are_warned_of_and_no_reason_to_refuse(http: TestClient) -> None:
    lines = ["GPU 0 temperature is high: 82°C", "GPU 1 temperature is critical: 86°C"]
    tried = sent(http, path=f"{PATH}/validate")

    assert (tried["is_valid"], tried["validation_errors"]) == (True, lines)
    assert sent(http, preset="equal")["warnings"][:2] == lines


LOADED = msgspec.structs.replace(
    FACTS, n_layer=32, gpu_layers=33, tensor_split=(11.0, 22.0), gpu_offload=True
)


@pytest.mark.parametrize(
    "read",
    [Read(GpusReading((
        gpu(0, processes=(ProcessMemory(ENGINE, GIB),)),
        gpu(1, processes=(ProcessMemory(ENGINE, 3 * GIB), ProcessMemory(1, GIB))),
    )))],
)  # fmt: skip
def test_what_is_measured_stands_beside_what_is_configured(
    http: TestClient, runtime: Machine
) -> None:
    runtime.facts = LOADED
    body = http.get(PATH).json()

    assert (body["source"], body["tensor_split"]) == ("engine", "0.333,0.667")
    assert (body["context_size"], body["gpu_layers"]) == (8192, 33)
    first, second = body["gpus"]
    assert (first["measured_percentage"], second["measured_percentage"]) == (25, 75)
    assert first["models"] == [
        {"model": "demo:latest", "layers": 11, "memory": 1024, "told_by": "driver"}
    ]
    assert second["models"][0]["layers"] == 22


@pytest.mark.parametrize("read", [Read(GpusReading((gpu(0), gpu(1))))])
def test_where_the_driver_knows_no_process_the_engine_is_asked(
    http: TestClient, runtime: Machine
) -> None:
    buffers = (
        Buffer("CUDA0", "weights", GIB),
        Buffer("CUDA1", "cells", GIB),
        Buffer("CPU", "weights", 9),
    )
    runtime.facts = msgspec.structs.replace(LOADED, buffers=buffers)

    first, _ = http.get(PATH).json()["gpus"]
    assert first["models"][0] == {
        "model": "demo:latest", "layers": 11, "memory": 1024, "told_by": "engine",
    }  # fmt: skip
    assert first["measured_percentage"] == 50


@pytest.mark.parametrize("read", [Read(GpusReading((gpu(0), gpu(1))))])
def test_more_shares_than_cards_are_a_problem_that_is_told(http: TestClient) -> None:
    http.app_state["reconfiguration"] = Changes(tensor_split="0.25,0.25,0.25,0.25")

    shown = http.get(PATH).json()
    assert shown["is_valid"] is False
    assert shown["validation_errors"] == ["tensor_split has 4 shares for 2 GPUs"]


def test_settings_that_do_not_go_together_are_told_as_well(http: TestClient) -> None:
    http.app_state["reconfiguration"] = Changes(split_mode="none")
    even = [{"gpu_id": n, "weight": 25} for n in range(4)]
    tried = sent(http, path=f"{PATH}/validate", gpu_weights=even)

    assert tried["is_valid"] is False
    assert "nothing to split with split_mode none" in tried["validation_errors"][0]
    assert "nothing to split" in sent(http, 400, preset="equal")["error"]


def test_a_card_that_settings_name_and_there_is_not_is_a_problem(http: TestClient) -> None:
    http.app_state["reconfiguration"] = Changes(main_gpu=7)

    assert http.get(PATH).json()["validation_errors"] == ["main_gpu: 7, and there are 4 GPUs"]
    assert "main_gpu" in sent(http, 400, preset="equal")["error"]


words = st.sampled_from(["equal", "balanced", "", "demo", "0.5"])
scalars = st.none() | st.booleans() | st.integers(-3, 1 << 40) | st.floats(-1e3, 1e3) | words
weight = st.dictionaries(st.sampled_from(["gpu_id", "weight", "x"]), st.integers(-5, 200) | scalars)
config = st.dictionaries(
    st.sampled_from(["context_size", "batch_size", "gpu_layers", "model_name", "x"]),
    st.integers(0, 5000) | scalars,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "preset": words | scalars,
        "model_name": st.sampled_from(["demo", "other", ""]) | scalars,
        "gpu_weights": st.lists(weight, max_size=5) | scalars,
        "model_config": config | scalars,
        "dry_run": st.just(value=True) | scalars,
    },
)


@given(bodies, st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_is_answered_or_refused(
    http: TestClient, body: dict[str, Any], tried: bool
) -> None:
    http.app_state["reconfiguration"] = Changes()
    answer = http.post(f"{PATH}/validate" if tried else PATH, json=body)

    assert answer.status_code in (200, 400, 404, 409), answer.text
    if answer.status_code == 200 and not tried:
        assert sum(in_force(http).tensor_split or (1,)) == pytest.approx(1)
        assert answer.json()["config"]["is_valid"] is True
    if answer.status_code != 200:
        assert in_force(http) == Changes().settings


def test_presets_are_shown_as_they_would_be_here(http: TestClient) -> None:
    body = http.get("/api/dashboard/presets").json()
    found = {preset["name"]: preset for preset in body["presets"]}

    assert list(found) == ["performance", "balanced", "conservative"]
    cores = body["hardware"]["physical_cores"]
    assert [g["uuid"] for g in body["hardware"]["gpus"]] == [f"GPU-{i}" for i in range(4)]
    for preset in found.values():
        assert preset["settings"]["threads"] == min(cores, preset["wanted"]["threads"])
        # The model was trained for 2048 tokens, and computes four sequences.
        assert preset["settings"]["default_context_size"] <= 8192
        assert "8192 tokens are all that a model can use" in preset["why"]["default_context_size"]
    assert body["in_force"] == "custom"


def test_a_file_of_presets_that_is_wrong_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "presets.yaml"
    path.write_text("balanced: {settings: {threads: 2}}")

    with pytest.raises(SettingsError, match="there is a preset of that name already"):
        create_app(Settings(presets_file=path, exporters=False))
