from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.telemetry.http import Exchange, line_of
from tests.dialects.fakes import FakeRuntime, says

CANARY = "canary-in-the-prompt"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": CANARY}]}


def client(runtime: FakeRuntime) -> TestClient:
    return TestClient(create_app(Settings(), runtime.make), base_url="http://localhost")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [r.__dict__["fields"] for r in caplog.records if r.name == "service.request"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-DEF_1", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("a;b", False)],
)
def test_a_modest_request_id_is_kept_and_others_are_replaced(given: str, kept: bool) -> None:
    with client(FakeRuntime()) as http:
        id = http.get("/version", headers={"X-Request-Id": given}).headers["x-request-id"]

    assert (id == given) is kept
    assert kept or len(id) == 32


def test_a_request_is_one_line_with_what_it_took(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with client(FakeRuntime()) as http:
        http.post("/v1/chat/completions", json={**CHAT, "frob": 1}, headers={"X-Request-Id": "r"})

    (line,) = lines(caplog)
    assert line.pop("duration_seconds") > 0
    assert line.pop("bytes") > 100
    assert isinstance(line.pop("ttft_seconds"), float)
    assert line == {
        "request_id": "r",
        "endpoint": "/v1/chat/completions",
        "status": 200,
        "api": "openai",
        "model": "demo:latest",
        "stream": False,
        "ignored_params": ["frob"],
        "prompt_tokens": 7,
        "cached_tokens": 2,
        "generation_tokens": 2,
        "finish_reason": "stop",
        "queue_seconds": 0.25,
    }


def test_the_line_of_a_list_of_prompts_counts_them_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    runtime = FakeRuntime(script=says("x", index=0) + says("y", index=1))
    with client(runtime) as http:
        http.post("/v1/completions", json={"prompt": ["a", "b", "c"], "n": 2})

    (line,) = lines(caplog)
    assert (line["prompt_tokens"], line["cached_tokens"], line["generation_tokens"]) == (21, 6, 6)


def test_neither_prompt_nor_answer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with client(FakeRuntime(script=says(CANARY))) as http:
        for stream in (False, True):
            http.post("/v1/chat/completions", json={**CHAT, "stream": stream})
        http.post("/v1/chat/completions", json={**CHAT, "temperature": 9})
        http.post("/v1/chat/completions", content=CANARY)

    assert len(lines(caplog)) == 4
    assert CANARY not in json.dumps([str(record.__dict__) for record in caplog.records])


def test_a_keys_name_is_in_the_line_where_there_is_one() -> None:
    exchange = Exchange("r", 0.0)
    assert "key_name" not in line_of(exchange, "/", 0.1)

    exchange.key_name = "ci"
    assert line_of(exchange, "/", 0.1)["key_name"] == "ci"


def test_names_that_clients_make_up_do_not_swell_the_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with client(FakeRuntime()) as http:
        http.post("/v1/chat/completions", json={**CHAT, "x" * 100_000: 1})

    (line,) = lines(caplog)
    assert line["ignored_params"] == ["x" * 64]


def test_probes_are_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    runtime = FakeRuntime()
    with client(runtime) as http:
        for path in ("/health", "/health/live", "/health/ready", "/metrics", "/ping"):
            assert http.get(path).status_code == 200
        assert lines(caplog) == []
        runtime.able = False
        http.get("/health/ready")

    assert [line["status"] for line in lines(caplog)] == [503]


def test_a_refusal_says_why_in_its_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with client(FakeRuntime()) as http:
        http.post("/v1/chat/completions", json={**CHAT, "model": "nope"})

    (line,) = lines(caplog)
    assert (line["status"], line["error"], line["model"]) == (404, "model_not_found", "_unknown")


def test_connections_are_closed_while_draining() -> None:
    runtime = FakeRuntime()
    with client(runtime) as http:
        assert "connection" not in http.get("/version").headers
        runtime.draining = True
        assert http.get("/version").headers["connection"] == "close"


def test_endpoints_are_counted_by_their_template() -> None:
    with client(FakeRuntime()) as http:
        http.get("/v1/models/demo")
        http.get("/openai/v1/models/demo")
        text = http.get("/metrics").text

    line = 'llm_http_requests_total{code="200",endpoint="/v1/models/{id:path}",method="GET"} 2.0'
    assert line in text.splitlines()
