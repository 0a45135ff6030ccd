"""The score and its advice as JSON: for clients of before, and for those that know more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime
from tests.dialects.serving import wait_until

PATH = "/api/metrics/optimization"
KEYS = {
    "timestamp", "cpu_analysis", "memory_analysis", "gpu_analysis", "model_analysis",
    "recommendations", "overall_score",
}  # fmt: skip
ADVICE: dict[str, type | tuple[type, ...]] = {
    "category": str, "priority": str, "title": str, "description": str, "action": str,
    "impact": str, "implementation_difficulty": str, "estimated_improvement": str,
}  # fmt: skip


@pytest.fixture(scope="module")
def http() -> Iterator[TestClient]:
    # Its models compute with 2 threads, whatever this machine has.
    app = create_app(Settings(), FakeRuntime().make)
    with TestClient(app, base_url="http://localhost") as client:
        portal, analyst = client.portal, client.app_state["analyst"]
        assert portal is not None
        # There is none before the collectors have read the machine.
        wait_until(lambda: portal.call(analyst.refresh).score is not None, 30)
        yield client


def ask(http: TestClient, query: str = "") -> dict[str, Any]:
    answer = http.get(PATH + query)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def test_a_client_of_before_finds_what_it_reads(http: TestClient) -> None:
    body = ask(
        http, "?tensor_split=0.5,0.5&gpu_layers=999&threads=512&batch_size=512&context_size=4096"
    )

    assert body.keys() >= KEYS
    assert body["overall_score"] is None or 0 <= body["overall_score"] <= 100
    assert body["recommendations"]
    for advice in body["recommendations"]:
        for key, kind in ADVICE.items():
            assert isinstance(advice[key], kind)
        assert advice["priority"] in ("high", "medium", "low")
        assert advice["category"] in ("performance", "memory", "stability", "cost")
        assert advice["implementation_difficulty"] in ("easy", "moderate", "difficult")
    assert body["cpu_analysis"]["performance_rating"] in ("excellent", "good", "adequate", "poor")


def test_what_is_new_stands_beside_it(http: TestClient) -> None:
    body = ask(http)

    assert body["schema_version"] == 2
    assert 0 < body["coverage"] <= 1
    assert body["groups"].keys() == {"cpu", "memory", "gpu", "models"}
    for component in body["components"]:
        assert component.keys() >= {"id", "group", "health", "max_loss", "gain", "value"}
    assert "what_if" not in body


def test_more_threads_than_cores_score_less(http: TestClient) -> None:
    few, many = ask(http, "?threads=1"), ask(http, "?threads=512")

    assert many["what_if"]["settings"] == {"threads": 512}
    assert many["overall_score"] < few["overall_score"]
    (advice,) = [r for r in many["recommendations"] if r["id"] == "threads-physical"]
    assert advice["patch"].keys() == {"threads"}
    assert "not measured on this machine" in advice["estimated_improvement"]
    assert "threads-physical" not in {r["id"] for r in few["recommendations"]}


def test_a_new_analysis_is_begun_and_not_waited_for(http: TestClient) -> None:
    before = http.app_state["analyst"].latest
    ask(http, "?refresh=1")
    assert http.portal is not None
    http.portal.call(http.app_state["analyst"].refresh)

    assert http.app_state["analyst"].latest is not before


def test_before_the_first_analysis_nothing_is_judged() -> None:
    app = create_app(Settings(exporters=False), FakeRuntime().make)
    with TestClient(app, base_url="http://localhost") as http:
        http.app_state["analyst"].latest = http.app_state["analyst"].evidence = None
        body = ask(http, "?threads=4")

    assert (body["overall_score"], body["recommendations"], body["components"]) == (None, [], [])
    assert (body["coverage"], body["groups"], body["what_if"]["fits"]) == (0, {}, None)


def test_parameters_that_do_not_go_together_are_refused(http: TestClient) -> None:
    answer = http.get(PATH + "?gpu_layers=0&tensor_split=1,1")

    assert answer.status_code == 400
    assert "tensor_split" in answer.text
