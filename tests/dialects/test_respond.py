"""Streams and whole answers over a real socket: order, errors, hang-ups, quiet."""

from __future__ import annotations

import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from service.dialects import respond
from service.errors import (
    ContextOverflow,
    Draining,
    EngineFailed,
    InvalidRequest,
    ModelLoadFailed,
    ModelUnavailable,
    Overloaded,
    ServiceError,
)
from service.events import FinishReason, TextDelta
from tests.dialects.fakes import FakeRuntime, end, says
from tests.dialects.serving import serving, wait_until

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"


def hang_up_during(url: str, body: dict[str, Any], until: Any) -> None:
    """Sends a request and closes the connection once `until` is so."""
    parts = urlsplit(url)
    payload = json.dumps(body).encode()
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.sendall(
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
            % (PATH.encode(), len(payload), payload)
        )
        wait_until(until)


def metric(url: str, line: str) -> float:
    text = httpx.get(url + "/metrics").text
    values = [row.rpartition(" ")[2] for row in text.splitlines() if row.startswith(line)]
    return sum(map(float, values))


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (InvalidRequest("no", param="x"), 400, {}),
        (ContextOverflow(3000, 2048, 16), 400, {}),
        (Overloaded("full", retry_after=2.3), 429, {"Retry-After": "3"}),
        (Draining("bye"), 503, {"Retry-After": "1"}),
        (ModelUnavailable("later", retry_after=10), 503, {"Retry-After": "10"}),
        (ModelLoadFailed("never"), 500, {"x-should-retry": "false"}),
        (EngineFailed("broke"), 500, {"x-should-retry": "false"}),
    ],
)
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
def test_what_admission_refuses_has_a_status_line(
    error: ServiceError, status: int, headers: dict[str, str], body: dict[str, Any]
) -> None:
    with serving(FakeRuntime(script=error)) as url:
        response = httpx.post(url + PATH, json=body)

    assert response.status_code == status
    assert response.json()["error"]["message"] == error.message
    assert response.json()["error"]["code"] == error.code
    assert response.json()["error"]["param"] == error.param
    assert {key: response.headers[key] for key in headers} == headers
    assert ("x-should-retry" in response.headers) == ("x-should-retry" in headers)


def test_a_prompt_that_is_too_long_is_told_in_the_sentence_that_agents_match() -> None:
    with serving(FakeRuntime(script=ContextOverflow(3000, 2048, 16))) as url:
        error = httpx.post(url + PATH, json=CHAT).json()["error"]
        counted = metric(url, "llm_context_overflow_total")

    assert error["message"].startswith(
        "This model's maximum context length is 2048 tokens. However, you requested 3016 tokens"
    )
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (3000, 2048)
    assert counted == 1


def test_a_stream_is_not_buffered_by_proxies() -> None:
    with serving(FakeRuntime()) as url:
        response = httpx.post(url + PATH, json=STREAM)

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-length" not in response.headers


def test_each_batch_is_sent_when_it_comes() -> None:
    runtime = FakeRuntime(script=[[TextDelta(0, "a")], 0.3, [TextDelta(0, "b"), end()]])
    with serving(runtime) as url, httpx.stream("POST", url + PATH, json=STREAM) as response:
        arrived = [(time.monotonic(), chunk) for chunk in response.iter_bytes()]

    assert b'"content":"a"' in arrived[0][1]
    assert b'"content":"b"' in arrived[-1][1] or b'"content":"b"' in arrived[-2][1]
    assert arrived[-1][0] - arrived[0][0] > 0.2


def test_an_engine_that_dies_in_mid_stream_is_told_in_the_stream() -> None:
    dies = end(reason=FinishReason.ERROR, error="The engine stopped.", code="engine_crashed")
    with serving(FakeRuntime(script=[[TextDelta(0, "a")], [dies]])) as url:
        response = httpx.post(url + PATH, json=STREAM)
        counted = metric(url, 'llm_requests_total{api="openai",code="500"')

    assert response.status_code == 200
    assert response.text.endswith(
        'data: {"error":{"message":"The engine stopped.","type":"server_error","param":null,'
        '"code":"engine_crashed"}}\n\ndata: [DONE]\n\n'
    )
    assert '"finish_reason":"' not in response.text
    assert counted == 1


@pytest.mark.parametrize(
    ("code", "status"), [("engine_crashed", 500), ("draining", 503), ("internal_error", 500)]
)
def test_an_engine_that_dies_before_a_whole_answer_is_a_status(code: str, status: int) -> None:
    dies = end(reason=FinishReason.ERROR, error="Over.", code=code)
    with serving(FakeRuntime(script=[[TextDelta(0, "a")], [dies]])) as url:
        response = httpx.post(url + PATH, json=CHAT)

    assert response.status_code == status
    assert response.json()["error"]["code"] == code


def test_a_deadline_with_something_to_show_shows_it() -> None:
    late = end(reason=FinishReason.TIMEOUT, tokens=1, code="timeout", error="Too slow.")
    with serving(FakeRuntime(script=[[TextDelta(0, "a")], [late]])) as url:
        choice = httpx.post(url + PATH, json=CHAT).json()["choices"][0]

    assert choice["message"]["content"] == "a"
    assert (choice["finish_reason"], choice["timed_out"]) == ("length", True)


def test_a_deadline_without_anything_to_show_is_an_error() -> None:
    late = end(reason=FinishReason.TIMEOUT, tokens=0, code="queue_timeout", error="No turn.")
    with serving(FakeRuntime(script=[[late]])) as url:
        response = httpx.post(url + PATH, json=CHAT)

    assert response.status_code == 503
    assert response.json()["error"]["message"] == "No turn."
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("phase", ["admission", "generation"])
def test_hanging_up_cancels(body: dict[str, Any], phase: str) -> None:
    runtime = FakeRuntime(script=[[TextDelta(0, "a")], 30.0, [end()]])
    if phase == "admission":
        runtime.admitting = 30.0
    with serving(runtime) as url:
        hang_up_during(url, body, lambda: runtime.open)
        wait_until(lambda: runtime.cancelled, 2)
        wait_until(lambda: metric(url, 'llm_requests_total{api="openai",code="499"') == 1, 2)

    assert not runtime.open


def test_a_quiet_stream_is_kept_alive_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(respond, "PING_SECONDS", 0.05)
    runtime = FakeRuntime(script=[0.2, [TextDelta(0, "a"), end()]])
    with serving(runtime) as url:
        text = httpx.post(url + PATH, json=STREAM).text

    assert text.startswith(": ping\n\n: ping\n\n")
    assert ": ping" not in text[text.index("data:") :]


def test_an_unexpected_failure_says_nothing_of_itself() -> None:
    runtime = FakeRuntime(script=lambda request: 1 / 0)  # type: ignore[arg-type,return-value]
    with serving(runtime) as url:
        response = httpx.post(url + PATH, json=CHAT, headers={"X-Request-Id": "abc"})

    assert response.status_code == 500
    assert response.headers["x-request-id"] == "abc"
    assert response.json()["error"]["code"] == "internal_error"
    assert "abc" in response.json()["error"]["message"]
    assert "division" not in response.text


def test_an_unexpected_failure_in_a_stream_is_told_in_the_stream() -> None:
    runtime = FakeRuntime(script=[[TextDelta(0, "a")], "broken"])  # type: ignore[list-item]
    with serving(runtime) as url:
        text = httpx.post(url + PATH, json=STREAM, headers={"X-Request-Id": "abc"}).text

    assert '"code":"internal_error"' in text
    assert text.endswith("data: [DONE]\n\n")
    assert not runtime.open


def test_prompts_in_a_list_are_answered_a_few_at_a_time() -> None:
    most = []

    def script(request: Any) -> Any:
        most.append(len(runtime.open))
        return [0.01, *says("x")]

    runtime = FakeRuntime(script=script)
    with serving(runtime, parallel_slots=3) as url:
        body = {"prompt": [f"p{n}" for n in range(20)], "n": 1}
        choices = httpx.post(url + "/v1/completions", json=body).json()["choices"]

    assert [choice["index"] for choice in choices] == list(range(20))
    assert max(most) <= 3
    assert not runtime.open


def test_a_later_prompt_that_is_refused_ends_the_others() -> None:
    def script(request: Any) -> Any:
        if request.input.prompt == "bad":
            return InvalidRequest("not this one", param="prompt")
        return [0.05, *says("x")]

    runtime = FakeRuntime(script=script)
    body = {"prompt": ["a", "b", "bad"]}
    with serving(runtime, parallel_slots=2) as url:
        whole = httpx.post(url + "/v1/completions", json=body)
        stream = httpx.post(url + "/v1/completions", json={**body, "stream": True})

    assert (whole.status_code, whole.json()["error"]["message"]) == (400, "not this one")
    assert stream.status_code == 200
    assert "not this one" in stream.text
    assert not runtime.open
