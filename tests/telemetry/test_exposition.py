from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from prometheus_client.registry import Collector, CollectorRegistry
from starlette.testclient import TestClient

from exporters.collector import Guards
from service.app import create_app
from service.dialects.routing import DIALECTS
from service.errors import (
    ContextOverflow,
    Forbidden,
    InsufficientMemory,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    ModelUnusable,
    Overloaded,
    ServiceError,
)
from service.facts import Buffer
from service.fleet import endings
from service.fleet.residency import Residency
from service.fleet.stream import Ending
from service.generation import GenerationRequest
from service.serving.model_status import status_of
from service.settings import Settings
from service.stats import StepStats
from service.telemetry.exposition import Exposition, render
from service.telemetry.mirror import StateCollector
from service.telemetry.recorder import Recorder
from service.telemetry.snapshot import Snapshot
from tests.dialects.fakes import CARD, FACTS, FakeRuntime, Script, end, says

GOLDEN = Path(__file__).with_name("families.txt")
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
STEP = StepStats(1, "decode", 0.01, 0.001, 0, 2, 2, 1, 4096)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def scrape(
    runtime: FakeRuntime, requests: int = 2, accept: str = "*/*", *, analysed: bool = True
) -> str:
    # What this machine has is shown elsewhere.
    app = create_app(Settings(exporters=False), runtime.make)
    with TestClient(app, base_url="http://localhost") as http:
        assert runtime.observer is not None
        runtime.observer.on_steps("demo:latest", [STEP])
        for n in range(requests):
            http.post(f"/v1/chat/completions?{n}", json=CHAT, headers={"X-Request-Id": f"r{n}"})
        assert http.portal is not None
        if analysed:
            http.portal.call(http.app_state["analyst"].refresh)
        response = http.get("/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    return response.text


def samples(text: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in plain(text)
        for sample in family.samples
        if sample.name == name
    }


def test_promtool_has_nothing_to_object_to() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: Debian's package prometheus has it")
    text = scrape(FakeRuntime())

    result = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )

    assert (result.returncode, result.stderr, result.stdout) == (0, "", "")


def test_every_family_is_as_written_down() -> None:
    """A renamed family breaks dashboards. UPDATE_GOLDEN=1 writes the file anew."""
    families = sorted(
        f"{family.name} {family.type} {' '.join(labels_of(family))}".rstrip()
        for family in plain(scrape(FakeRuntime()))
        if family.name.startswith("llm_")
    )
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text("\n".join(families) + "\n")

    assert families == GOLDEN.read_text().splitlines()


def labels_of(family: Metric) -> list[str]:
    return sorted({key for sample in family.samples for key in sample.labels} - {"le"})


def test_exemplars_carry_the_request_where_the_scraper_takes_them() -> None:
    text = scrape(FakeRuntime(), accept=OPENMETRICS)

    exemplars = [
        sample.exemplar.labels
        for family in openmetrics(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar
    ]
    assert {"request_id": "r1"} in exemplars
    assert text.endswith("# EOF\n")


def test_there_is_no_series_that_says_when_another_was_made() -> None:
    assert "_created" not in scrape(FakeRuntime())


def test_a_scrape_is_compressed_for_those_who_take_it() -> None:
    registry = CollectorRegistry()

    body, headers = render(Exposition((), registry), "", "gzip, deflate")

    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == render(Exposition((), registry), "", "")[0]


def test_gauges_mirror_the_runtime() -> None:
    text = scrape(FakeRuntime())
    model = (("model", "demo:latest"),)

    assert samples(text, "llm_ready") == {(): 1}
    assert samples(text, "llm_model_loaded") == {model: 1}
    assert samples(text, "llm_engine_up") == {model: 1}
    assert samples(text, "llm_engine_slots") == {model: 4}
    assert samples(text, "llm_engine_slots_busy") == {model: 2}
    assert samples(text, "llm_engine_batch_occupancy_ratio") == {model: 0.5}
    assert samples(text, "llm_kv_cache_tokens") == {model: 4096}
    assert samples(text, "llm_kv_cache_capacity_tokens") == {model: 8192}
    assert samples(text, "llm_kv_cache_usage_ratio") == {model: 0.5}
    assert samples(text, "llm_queue_capacity_requests") == {model: 20}
    assert samples(text, "llm_models_discovered") == {
        (("size_class", "small"), ("source", "demo")): 1
    }


def test_requests_are_told_apart_by_dialect_and_those_without_any_are_at_zero() -> None:
    text = scrape(FakeRuntime(waiting=3))

    waiting = {
        dict(labels)["api"]: n for labels, n in samples(text, "llm_requests_waiting").items()
    }
    assert waiting["openai"] == 3
    assert set(waiting) == {dialect.name for dialect in DIALECTS}
    assert sum(waiting.values()) == 3
    assert set(samples(text, "llm_requests_running").values()) == {0}


def test_memory_is_told_apart_by_device_and_by_what_it_is_for() -> None:
    taken = (
        Buffer("CUDA0", "weights", 70),
        Buffer("CPU", "weights", 10),
        Buffer("CPU_Mapped", "weights", 20),
        Buffer("CUDA0", "cells", 5),
        Buffer("CUDA0", "states", 2),
        Buffer("CUDA0", "weights", 1),
    )
    facts = msgspec.structs.replace(FACTS, buffers=taken, gpu_layers=3)
    text = scrape(FakeRuntime(facts=facts))

    buffers = samples(text, "llm_model_buffer_bytes")
    assert {(dict(k)["device"], dict(k)["kind"]): v for k, v in buffers.items()} == {
        ("CUDA0", "weights"): 71,
        ("CPU", "weights"): 10,
        ("CPU_Mapped", "weights"): 20,
        ("CUDA0", "cells"): 5,
        ("CUDA0", "states"): 2,
    }
    model = ("model", "demo:latest")
    assert samples(text, "llm_kv_cache_bytes") == {(("device", "CUDA0"), model): 7}
    assert samples(text, "llm_model_gpu_layers") == {(model,): 3}


@pytest.mark.parametrize("state", ["failed", "restarting"])
def test_an_engine_that_is_down_has_no_figures_left(state: str) -> None:
    text = scrape(FakeRuntime(state=state))
    model = (("model", "demo:latest"),)

    assert samples(text, "llm_engine_up") == {model: 0}
    assert samples(text, "llm_model_loaded") == {model: 0}
    assert samples(text, "llm_kv_cache_tokens") == {}
    assert samples(text, "llm_engine_slots_busy") == {}


def test_a_model_that_is_not_loaded_is_only_known() -> None:
    text = scrape(FakeRuntime(state="unloaded", facts=None), requests=0)
    model = (("model", "demo:latest"),)

    assert samples(text, "llm_model_loaded") == {model: 0}
    assert samples(text, "llm_engine_deaths_total") == {model: 0}
    assert samples(text, "llm_engine_up") == {}
    assert samples(text, "llm_requests_running") == {}
    assert samples(text, "llm_model_context_tokens") == {(("kind", "trained"), *model): 2048}


def test_a_model_that_went_away_leaves_no_gauge_behind() -> None:
    runtime = FakeRuntime()
    app = create_app(Settings(), runtime.make)
    with TestClient(app, base_url="http://localhost") as http:
        assert "llm_model_loaded{" in http.get("/metrics").text
        runtime.models = lambda: []  # type: ignore[method-assign]
        text = http.get("/metrics").text

    assert samples(text, "llm_model_loaded") == {}
    assert samples(text, "llm_active_requests") == {(): 0}


def test_a_file_that_is_no_model_has_no_series_and_raises_no_alert() -> None:
    runtime = FakeRuntime()
    (good,) = runtime.models()
    card = msgspec.structs.replace(CARD, name="bad:latest", problem="its header is damaged")
    nobody = Recorder(CollectorRegistry(), (), lambda: 0.0)
    bad = status_of(card, Residency(Settings(), nobody), 20)
    assert bad.state == "failed"
    runtime.models = lambda: [good, bad]  # type: ignore[method-assign]
    text = scrape(runtime)

    assert "bad:latest" not in text
    assert samples(text, "llm_engine_up") == {(("model", "demo:latest"),): 1}
    assert sum(samples(text, "llm_models_discovered").values()) == 1


def test_an_engine_that_serves_from_a_file_that_was_damaged_since_is_shown() -> None:
    runtime = FakeRuntime()
    (status,) = runtime.models()
    card = msgspec.structs.replace(CARD, problem="its header is damaged")
    runtime.models = lambda: [replace(status, card=card, pid=1)]  # type: ignore[method-assign]

    assert samples(scrape(runtime), "llm_engine_up") == {(("model", "demo:latest"),): 1}


def test_layers_are_counted_with_the_output_on_gpus_and_in_all() -> None:
    whole = msgspec.structs.replace(FACTS, n_layer=32, gpu_layers=33)
    text = scrape(FakeRuntime(facts=whole))

    assert samples(text, "llm_model_gpu_layers") == samples(text, "llm_model_layers")


REFUSALS: dict[str, ServiceError] = {
    "queue_full": Overloaded("x"),
    "queue_timeout": endings.out_of_patience(1, 1).error,
    "context_overflow": ContextOverflow(9, 8, 0),
    "memory": InsufficientMemory("x"),
    "model_unavailable": ModelUnavailable("x"),
    "model_unusable": ModelUnusable("m", "damaged"),
    "draining": endings.draining().error,
    "unknown_model": ModelNotFound("x"),
    "invalid": InvalidRequest("x"),
    "forbidden": Forbidden("x"),
}


def refusals(text: str) -> dict[str, float]:
    counts: dict[str, float] = {}
    for labels, count in samples(text, "llm_requests_rejected_total").items():
        reason = dict(labels)["reason"]
        counts[reason] = counts.get(reason, 0.0) + count
    return counts


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/v1/messages"])
def test_each_reason_to_refuse_is_some_errors(path: str) -> None:
    runtime = FakeRuntime()
    with TestClient(create_app(Settings(), runtime.make), base_url="http://localhost") as http:
        for runtime.script in REFUSALS.values():
            assert http.post(path, json={**CHAT, "model": "demo", "max_tokens": 9}).is_error
        text = http.get("/metrics").text

    assert refusals(text) == dict.fromkeys(REFUSALS, 1)


def test_a_prompt_that_was_cut_to_fit_is_counted_and_is_no_refusal() -> None:
    def too_long(request: GenerationRequest) -> Script | ServiceError:
        return ContextOverflow(3000, 2048, None) if request.truncation is None else says("ok")

    app = create_app(Settings(), FakeRuntime(script=too_long).make)
    with TestClient(app, base_url="http://localhost") as http:
        asked = {"model": "demo", "prompt": "long", "stream": False}
        assert http.post("/api/generate", json=asked).json()["prompt_truncated"]
        text = http.get("/metrics").text

    counts = samples(text, "llm_context_overflow_total")
    assert [dict(labels) for labels, count in counts.items() if count] == [
        {"action": "truncated", "api": "ollama", "model": "demo:latest"}
    ]
    assert not any(refusals(text).values())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ending", [endings.out_of_patience(1, 1), endings.unloaded("m")])
@pytest.mark.parametrize("tokens", [0, 3])
def test_a_refusal_after_admission_is_counted_once_unless_there_was_a_token(
    stream: bool, ending: Ending, tokens: int
) -> None:
    last = end(reason=ending.reason, tokens=tokens, code=ending.code, error="No turn.")
    runtime = FakeRuntime(script=[[last]])
    with TestClient(create_app(Settings(), runtime.make), base_url="http://localhost") as http:
        http.post("/v1/chat/completions", json={**CHAT, "stream": stream})
        text = http.get("/metrics").text

    reason = {"queue_timeout": "queue_timeout", "unloaded": "model_unavailable"}[ending.code]
    assert {key: n for key, n in refusals(text).items() if n} == ({} if tokens else {reason: 1})


class Broken(Collector):
    def collect(self) -> Iterator[Metric]:
        raise RuntimeError("no luck")


def test_a_collector_that_fails_is_a_sample_and_no_broken_scrape() -> None:
    registry = CollectorRegistry()
    state = StateCollector()
    state.take(Snapshot)
    registry.register(Guards({"broken": Broken(), "state": state}))

    text = render(Exposition((), registry), "", "")[0].decode()

    assert samples(text, "llm_exporter_collector_success") == {
        (("collector", "broken"),): 0,
        (("collector", "state"),): 1,
    }
    assert samples(text, "llm_ready") == {(): 0}


def test_a_runtime_that_fails_does_not_break_the_scrape() -> None:
    runtime = FakeRuntime()
    runtime.models = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    text = scrape(runtime, requests=1, analysed=False)

    assert samples(text, "llm_exporter_collector_success")[("collector", "state"),] == 0
    assert samples(text, "llm_http_requests_total")
    assert samples(text, "process_resident_memory_bytes")


def test_names_that_clients_make_up_add_no_series() -> None:
    runtime = FakeRuntime()
    # What is read and analysed meanwhile would have series of its own.
    app = create_app(Settings(exporters=False), runtime.make)

    def series(http: TestClient) -> int:
        return sum(not line.startswith("#") for line in http.get("/metrics").text.splitlines())

    with TestClient(app, base_url="http://localhost") as http:
        assert http.portal is not None
        http.portal.call(http.app_state["analyst"].refresh)
        for _ in range(2):
            http.post("/v1/chat/completions", json={**CHAT, "model": "x"})
            http.get("/nowhere")
            http.request("BREW", "/v1/models")
            before = series(http)
        for n in range(50):
            http.post("/v1/chat/completions", json={**CHAT, "model": f"made-up-{n}"})
            http.get(f"/nowhere/{n}")
            http.get(f"/v1/models/{n}")
            http.request(f"BREW{n}", "/v1/models")
        after = series(http)

    assert after - before <= 4


def test_what_went_out_adds_up() -> None:
    text = scrape(FakeRuntime(), requests=5)

    assert sum(samples(text, "llm_requests_finished_total").values()) == 5
    assert sum(samples(text, "llm_requests_total").values()) == 5
    assert samples(text, "llm_active_requests") == {(): 0}
