from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime


def client(runtime: FakeRuntime | None = None, **settings: Any) -> TestClient:
    app = create_app(Settings(**settings), (runtime or FakeRuntime()).make)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


@pytest.mark.parametrize("path", ["/vllm/health", "/vllm/ping"])
def test_health_is_a_status_without_a_body(path: str) -> None:
    with client() as http:
        response = http.get(path)
    with client(FakeRuntime(able=False)) as http:
        unwell = http.get(path)

    assert (response.status_code, response.content) == (200, b"")
    assert (unwell.status_code, unwell.content) == (503, b"")


def test_a_ping_may_be_posted() -> None:
    with client() as http:
        assert http.post("/vllm/ping").status_code == 200


def test_version_and_load_are_told() -> None:
    with client() as http:
        assert http.get("/vllm/version").json() == http.get("/version").json()
        assert http.get("/load").json() == {"server_load": 0}
        assert http.get("/vllm/load").json() == {"server_load": 0}


def test_metrics_are_where_they_always_are() -> None:
    with client() as http:
        assert "llm_" in http.get("/vllm/metrics").text


@pytest.mark.parametrize("path", ["/pooling", "/classify"])
def test_what_no_model_here_can_do_is_501(path: str) -> None:
    with client() as http:
        assert http.post(path, json={}).status_code == 501
        strict = http.post(f"/vllm{path}", json={})

    assert strict.json()["error"]["type"] == "NotImplementedError"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/sleep"),
        ("POST", "/wake_up"),
        ("GET", "/is_sleeping"),
        ("POST", "/abort_requests"),
        ("POST", "/reset_prefix_cache"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("GET", "/server_info"),
    ],
)
def test_routes_of_development_are_not_there_unless_wanted(method: str, path: str) -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        answers = [http.request(method, prefix + path, json={}) for prefix in ("", "/vllm")]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert (runtime.loads, runtime.unloads) == ([], [])


def test_models_sleep_and_wake_up() -> None:
    runtime = FakeRuntime()
    with client(runtime, dev_routes=True) as http:
        assert http.get("/vllm/is_sleeping").json() == {"is_sleeping": False}
        assert http.post("/vllm/sleep?level=1").status_code == 200
        runtime.state = "unloaded"
        assert http.get("/is_sleeping").json() == {"is_sleeping": True}
        assert http.post("/wake_up").status_code == 200

    assert runtime.unloads == ["demo:latest"]
    assert runtime.loads == [("", None)]


def test_requests_are_aborted_by_the_ids_of_their_answers() -> None:
    runtime = FakeRuntime(open={"mine", "other"})
    with client(runtime, dev_routes=True) as http:
        body = {"request_ids": ["chatcmpl-mine", "gone"]}
        assert http.post("/abort_requests", json=body).status_code == 200
        wrong = http.post("/abort_requests", json={"request_ids": []})

    assert runtime.cancelled == ["mine"]
    assert wrong.json()["error"]["param"] == "request_ids"


@pytest.mark.parametrize(
    ("method", "path", "way"),
    [
        ("POST", "/reset_prefix_cache", "/sleep and /wake_up"),
        ("POST", "/pause", "/sleep"),
        ("POST", "/resume", "/sleep"),
        ("GET", "/server_info", "/api/dashboard/configure"),
    ],
)
def test_what_there_is_no_counterpart_of_is_said_with_the_way_that_there_is(
    method: str, path: str, way: str
) -> None:
    with client(dev_routes=True) as http:
        answers = [http.request(method, prefix + path) for prefix in ("", "/vllm")]

    assert [answer.status_code for answer in answers] == [501, 501]
    assert all(way in answer.json()["error"]["message"] for answer in answers)
