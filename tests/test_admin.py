from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import VERSION, create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime


def client(runtime: FakeRuntime) -> TestClient:
    return TestClient(create_app(Settings(), runtime.make), base_url="http://localhost")


def test_health_is_the_seeds_summary() -> None:
    with client(FakeRuntime()) as http:
        response = http.get("/health")

    body = response.json()
    assert response.status_code == 200
    assert body.pop("timestamp").endswith("+00:00")
    assert body == {
        "status": "healthy",
        "components": {"executor": "healthy", "models": "1 available", "active_requests": 0},
    }


@pytest.mark.parametrize(
    ("given", "status", "word", "executor"),
    [
        ({"state": "unloaded"}, 200, "healthy", "healthy"),
        ({"state": "loading"}, 200, "healthy", "loading"),
        ({"state": "restarting"}, 200, "degraded", "restarting"),
        ({"state": "failed"}, 503, "unhealthy", "failed"),
        ({"draining": True}, 503, "unhealthy", "draining"),
    ],
)
def test_health_says_how_the_engines_are(
    given: dict[str, Any], status: int, word: str, executor: str
) -> None:
    with client(FakeRuntime(**given)) as http:
        response = http.get("/health")

    assert (response.status_code, response.json()["status"]) == (status, word)
    assert response.json()["components"]["executor"] == executor


def test_without_a_model_the_service_is_degraded() -> None:
    runtime = FakeRuntime()
    runtime.models = lambda: []  # type: ignore[method-assign]
    with client(runtime) as http:
        response = http.get("/health")

    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["components"]["models"] == "0 available"


def test_alive_is_not_the_same_as_ready() -> None:
    runtime = FakeRuntime(able=False)
    with client(runtime) as http:
        assert http.get("/health/live").status_code == 200
        response = http.get("/health/ready")
        assert (response.status_code, response.text) == (503, "no model can serve")
        assert response.headers["retry-after"] == "5"
        runtime.able = True
        assert http.get("/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("state", "status"), [("ready", 200), ("unloaded", 200), ("loading", 200), ("failed", 503)]
)
def test_a_model_has_a_health_of_its_own(state: str, status: int) -> None:
    with client(FakeRuntime(state=state)) as http:
        response = http.get("/health/models/org/demo:latest")

    assert response.status_code == status
    assert response.json() == {
        "model": "demo:latest",
        "state": state,
        "reason": None,
        "code": None,
        "load_fraction": None,
        "running": 0,
        "waiting": 0,
        "queue_capacity": 20,
        "deaths": 0,
    }


def test_all_models_are_told_of_with_the_places_they_were_looked_for_in() -> None:
    with client(FakeRuntime()) as http:
        body = http.get("/health/models").json()

    assert [model["model"] for model in body["models"]] == ["demo:latest"]
    assert body["roots"] == [
        {
            "path": "/models",
            "kind": "directory",
            "named": True,
            "models": 1,
            "unusable": 0,
            "problem": None,
        }
    ]


def test_an_unknown_model_has_no_health() -> None:
    with client(FakeRuntime()) as http:
        assert http.get("/health/models/nope").status_code == 404


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "text/plain"),
        ("application/json", "application/json"),
        ("application/json, */*", "text/plain"),
    ],
)
def test_the_front_page_suits_who_asks(accept: str, kind: str) -> None:
    with client(FakeRuntime()) as http:
        response = http.get("/", headers={"Accept": accept})
        assert http.head("/").status_code == 200

    assert response.headers["content-type"].startswith(kind)
    assert kind != "text/plain" or response.text == "Ollama is running"


def test_a_browser_is_shown_the_dashboards() -> None:
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    with client(FakeRuntime()) as http:
        response = http.get("/", headers={"Accept": accept}, follow_redirects=False)
        assert http.head("/", headers={"Accept": accept}).status_code == 200
        page = http.get(response.headers["location"])

    assert (response.status_code, response.headers["location"]) == (302, "/dashboard")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")


def test_the_pages_that_the_card_names_exist() -> None:
    with client(FakeRuntime()) as http:
        card = http.get("/", headers={"Accept": "application/json"}).json()
        answers = {path: http.get(path).status_code for path in card["endpoints"].values()}

    assert set(answers.values()) <= {200, 405}


def test_version_and_ping() -> None:
    with client(FakeRuntime()) as http:
        assert http.get("/version").json() == {"version": VERSION}
        assert http.get("/ping").status_code == http.post("/ping").status_code == 200


def test_a_start_that_fails_stops_the_service() -> None:
    class Broken(FakeRuntime):
        async def start(self) -> None:
            raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"), client(Broken()):
        pass


def test_a_slow_scan_does_not_keep_the_port_closed() -> None:
    class Slow(FakeRuntime):
        async def start(self) -> None:
            await asyncio.sleep(1.5)

    started = time.monotonic()
    with client(Slow()) as http:
        assert http.get("/health/live").status_code == 200
        assert time.monotonic() - started < 1.2
